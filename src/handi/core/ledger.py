"""A ledger: one JSON line for each item of a run, on disk as soon as it is done, to resume by."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from handi.core.errors import InputError
from handi.core.files import replacing, writing
from handi.core.reading import parse_json

LEDGER = "ledger.jsonl"
Line = dict[str, Any]


class Ledger:
    """Lines with an `id` each, appended as they come; of two with one id the later one counts.

    What a killed run has left of a line is passed over. Memory holds where the lines lie, not the lines.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._places: dict[str, tuple[int, int]] = {}  # id → offset and length

    def found(self) -> Iterator[Line]:
        """The lines of earlier runs, each as it stands in the file. Raises: OutputError."""
        with writing(self.path):
            if not self.path.exists():
                return
            with self.path.open("rb") as file:
                offset = 0
                for text in file:
                    with suppress(InputError, KeyError, TypeError):
                        line = parse_json(text, self.path, checked=False)
                        self._places[line["id"]] = offset, len(text)
                        yield line
                    offset += len(text)

    def add(self, line: Line) -> None:
        """Append a line. Raises: OutputError."""
        text = _text(line)
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab+") as file:
                end = file.seek(0, 2)
                if end:
                    file.seek(end - 1)
                    if file.read(1) != b"\n":  # a killed run's last line
                        file.write(b"\n")
                        end += 1
                file.write(text)
        self._places[line["id"]] = end, len(text)

    def __getitem__(self, id: str) -> Line:
        """The line of an id, which `found` or `add` has seen. Raises: KeyError, OutputError."""
        offset, length = self._places[id]
        with writing(self.path), self.path.open("rb") as file:
            file.seek(offset)
            line: Line = parse_json(file.read(length), self.path, checked=False)
            return line

    def settle(self, lines: Iterable[Line]) -> None:
        """Write the file anew, with these lines in their order alone. Raises: OutputError."""
        places: dict[str, tuple[int, int]] = {}
        with replacing(self.path) as temporary, temporary.open("wb") as file:
            for line in lines:
                text = _text(line)
                places[line["id"]] = file.tell(), len(text)
                file.write(text)
        self._places = places


def _text(line: Line) -> bytes:
    return (json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n").encode()
