"""Annotation files: text, CSV, JSON and JSON Lines, with the file and the line in every error."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handi.errors import InputError

PIECE = 1 << 22  # characters that a long JSON file is read by
UTF8 = "save it as UTF-8"


@dataclass(frozen=True)
class Row:
    """A line of a table."""

    line: int  # in the file, from 1
    values: dict[str, str]  # by column, stripped; a column that the table lacks gives ""
    problem: str | None = None  # of its form

    def __getitem__(self, column: str) -> str:
        return self.values.get(column, "")


def read_text(path: Path) -> str:
    """A whole UTF-8 text file, with or without byte order mark. Raises: InputError."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputError("no such file", where=path) from None
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror or error})", where=path) from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = f"0x{data[error.start]:02x}"
        raise InputError(f"is not UTF-8 text (byte {byte} in line {line})", where=path, mend=UTF8) from error


def read_csv(path: Path, columns: Sequence[str]) -> list[Row]:
    """The rows of a CSV file with a header that has these columns, and may have more.

    A row of another length than the header has a `problem`. Raises: InputError for a file that is no table.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    rows: list[Row] = []
    header: list[str] = []
    try:
        for fields in reader:
            if not fields:
                continue
            if not header:
                header = [name.strip() for name in fields]
                _check_columns(path, header, columns)
                continue
            problem = None
            if len(fields) != len(header):
                problem = f"line {reader.line_num} has {len(fields)} fields, the header {len(header)}"
            values = {name: text.strip() for name, text in zip(header, fields, strict=False)}
            rows.append(Row(reader.line_num, values, problem))
    except csv.Error as error:
        raise InputError(f"is not a CSV table ({error} in line {reader.line_num})", where=path) from error
    if not header:
        raise InputError("is empty", where=path)
    return rows


def _check_columns(path: Path, header: Sequence[str], columns: Sequence[str]) -> None:
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise InputError(f"has more than one column {', '.join(twice)}", where=path)
    if missing := [name for name in columns if name not in header]:
        what = f"has no column {', '.join(missing)}; its first line is {','.join(header)[:120]!r}"
        raise InputError(what, where=path, mend="use a comma-separated table with a header")


def read_json(path: Path) -> Any:
    """A whole JSON file. Raises: InputError."""
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise InputError(f"is not JSON ({error})", where=path) from error


def read_jsonl(path: Path) -> list[tuple[int, dict[str, Any] | None]]:
    """(line, object) of a JSON Lines file; None for a line that holds none. Raises: InputError."""
    found: list[tuple[int, dict[str, Any] | None]] = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                value = None
            found.append((number, value if isinstance(value, dict) else None))
    return found


def stream_array(path: Path, key: str) -> Iterator[Any]:
    """The items of the array `key` of a JSON file, one by one: the file may be larger than memory.

    The array is the first one of that name. Raises: InputError, also where the file breaks off.
    """
    begin = re.compile(rf'"{re.escape(key)}"\s*:\s*\[')
    gap = re.compile(r"[\s,]*")
    decoder = json.JSONDecoder()
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(PIECE)
            while not (match := begin.search(text)):
                more = file.read(PIECE)
                if not more:
                    raise InputError(f'has no array "{key}"', where=path)
                text = text[-200:] + more
            place = match.end()
            while True:
                place = gap.match(text, place).end()  # type: ignore[union-attr]  # it matches nothing, too
                if text.startswith("]", place):
                    return
                try:
                    item, place = decoder.raw_decode(text, place)
                except ValueError as error:
                    left = text[place:]
                    more = file.read(max(PIECE, len(left)))  # doubling: an item is begun a few times at most
                    if not more:
                        raise InputError(f"breaks off or is not JSON ({error})", where=path) from error
                    text, place = left + more, 0
                    continue
                yield item
    except FileNotFoundError:
        raise InputError("no such file", where=path) from None
    except UnicodeDecodeError as error:
        raise InputError("is not UTF-8 text", where=path, mend=UTF8) from error
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror or error})", where=path) from error
