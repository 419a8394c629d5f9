"""Fuzzing of every command by what it reads: seeded mutations of small whole inputs, and what must hold.

`mutations.py` damages bytes, texts and JSON-like trees, `files.py` files by their format; `materials.py` makes the
whole inputs, once per process; `surfaces.py` says for each kind of input which file is damaged and which command
reads it; `harness.py` runs one case in this process and checks it, `outputs.py` what it wrote; `__main__.py` and
`many.py` run many in several processes (`make fuzz`).
A case is a function of its surface's name and its number alone.
"""
