"""Wrappers of other projects' inference: one file per project, run by that project's own Python.

    PYTHON start.py PROJECT --requests requests.jsonl --out OUT --options JSON      in the project's checkout

The project's environment does not have handi, so these files import nothing of it and nothing else than what
the project itself needs. Each has `PROJECT` (its address), `ENTRY` (a file of the checkout that it calls),
`WEIGHTS` (what the weights are), `OPTIONS` with their defaults, and `run(requests, options, save)`, which
calls `save(request, frames)` for each clip: F×H×W×3 uint8, or the path of a video that the project wrote.
"""
