"""Text, JSON, JSON Lines, CSV and YAML: the one place where such files are read, so that all commands agree.

Text is UTF-8, or UTF-16 or UTF-32 with a byte order mark. Any other bytes are refused by file, line and byte:
a guess at an encoding would be wrong in silence. Lines end with LF, CR LF or CR, and with nothing else: the
other line separators of Unicode (U+2028, U+0085, …) are text.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from handi.core.errors import HandiError, InputError

PIECE = 1 << 22  # bytes that a file is read by
MAX_DEPTH = 100  # levels of nested JSON or YAML
MAX_NODES = 100_000  # of a YAML file, each alias counted as what it stands for
MAX_YAML = 1 << 20  # characters; PyYAML reads about half a million of them a second
LEAST, MOST = -(2**63), 2**64 - 1  # of a whole number: what 64 bits hold
UTF8 = "save it as UTF-8"

_MARKS = (  # the longer ones first: UTF-32's begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)

# ------------------------------------------------------------------------------------------------ text


def read_text(path: str | Path, *, error: type[HandiError] = InputError) -> str:
    """A whole text file without its byte order mark; line ends stay as they are. Raises: `error`."""
    return "".join(_pieces(Path(path), error))


def read_lines(path: str | Path, *, error: type[HandiError] = InputError) -> list[str]:
    """The lines of a text file without their ends. Raises: `error`."""
    return split_lines(read_text(path, error=error))


def split_lines(text: str) -> list[str]:
    """The lines of a text without their ends; only LF, CR LF and CR end one."""
    lines = re.split(r"\r\n|\n|\r", text)
    return lines if lines[-1] else lines[:-1]


def stream_lines(path: str | Path) -> Iterator[str]:
    """The lines of a text file one by one, for files of ours that may be larger than memory: LF ends a line.

    Raises: InputError.
    """
    rest = ""
    for piece in _pieces(Path(path), InputError):
        *lines, rest = (rest + piece).split("\n")
        yield from lines
    if rest:
        yield rest


def text_beside(video: Path) -> Path:
    """The text file of a video's name, whatever the case of its suffix and the Unicode form of its name.

    Where there is none, the path that it would have.
    """
    plain = video.with_suffix(".txt")
    if plain.is_file():
        return plain
    try:
        changed = video.parent.stat().st_mtime_ns
    except (OSError, ValueError):
        return plain
    return _texts_in(video.parent, changed).get(unicodedata.normalize("NFC", video.stem), plain)


@lru_cache(maxsize=4)
def _texts_in(folder: Path, changed: int) -> dict[str, Path]:
    """The text files of a folder by stem; `changed` is the folder's time, by which a new list is made."""
    texts = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".txt")
    return {unicodedata.normalize("NFC", path.stem): path for path in texts}


def _pieces(path: Path, error: type[HandiError]) -> Iterator[str]:
    """A text file piece by piece. Raises: `error`."""
    line, begin, at, data = 1, 0, 0, b""  # the line that is read, the byte that it begins at, the next byte
    try:
        with _opened(path, error) as file:
            data = file.read(PIECE)
            encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
            decoder = codecs.getincrementaldecoder(encoding)()
            while True:
                text = decoder.decode(data, final=not data)
                if "\0" in text:
                    number = line + text[: text.index("\0")].count("\n")
                    raise error("holds a NUL character", where=f"{path}, line {number}", hint=UTF8)
                if text:
                    yield text
                if not data:
                    return
                if encoding.startswith("utf-8") and b"\n" in data:
                    line += data.count(b"\n")
                    begin = at + data.rindex(b"\n") + 1
                at += len(data)
                data = file.read(PIECE)
    except UnicodeDecodeError as fault:
        place = at + len(data) - len(fault.object) + fault.start  # what is decoded ends where `data` does
        before = fault.object[: fault.start]
        line += before.count(b"\n")
        begin = place - len(before) + before.rindex(b"\n") + 1 if b"\n" in before else begin
        spot = f"in line {line}, number {place - begin + 1} of it"
        if not encoding.startswith("utf-8"):
            spot = f"number {place + 1} of the file"
        kind, byte = encoding.removesuffix("-sig").upper(), f"0x{fault.object[fault.start]:02x}"
        hint = f"{UTF8}; it may be Windows-1252 now" if kind == "UTF-8" else UTF8
        raise error(f"is not {kind} text (byte {byte} {spot})", where=path, hint=hint) from fault
    except FileNotFoundError:
        raise error("no such file", where=path) from None
    except OSError as fault:
        raise error(f"cannot be read ({fault.strerror or fault})", where=path) from fault


def _opened(path: Path, error: type[HandiError]) -> BinaryIO:
    try:
        return path.open("rb")
    except ValueError as fault:  # a NUL or half a character in its name
        raise error(f"cannot be a file's name ({fault})", where=ascii(str(path))) from fault


# ------------------------------------------------------------------------------------------------ JSON


def parse_json(
    text: str | bytes, where: str | Path, *, checked: bool = True, error: type[HandiError] = InputError
) -> Any:
    """JSON, with all refused that `check_plain` does; `where` names it in the error.

    checked: False for what may hold any number: logs of ours, and annotations, of which one bad value is one
    bad clip. Raises: `error`.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise error(f"is nested more than {MAX_DEPTH} levels deep", where=where, hint=_FLAT) from None
    except ValueError as fault:
        reason = str(fault)
        if isinstance(fault, json.JSONDecodeError):  # of a single line, only the column is news
            line = f"line {fault.lineno}, " if "\n" in fault.doc else ""
            reason = f"{fault.msg}: {line}column {fault.colno}"
        raise error(f"is not JSON ({reason})", where=where, hint="correct it there") from fault
    if checked:
        check_plain(value, where, error=error)
    return value


def read_json(path: str | Path, *, checked: bool = True, error: type[HandiError] = InputError) -> Any:
    """A whole JSON file; see `parse_json`. Raises: `error`."""
    return parse_json(read_text(path, error=error), path, checked=checked, error=error)


def read_jsonl(
    path: str | Path, *, checked: bool = True
) -> Iterator[tuple[int, dict[str, Any] | InputError]]:
    """(line, object) of a JSON Lines file; the error for a line that holds none.

    Raises: InputError for a file that cannot be read.
    """
    for number, line in enumerate(read_lines(path), start=1):
        if line.strip():
            where = f"{path}, line {number}"
            try:
                value = parse_json(line, where, checked=checked)
                yield (
                    number,
                    value
                    if isinstance(value, dict)
                    else InputError("is not a JSON object", where=where, hint='write {"name": value, …}'),
                )
            except InputError as error:
                yield number, error


def check_plain(
    value: Any, where: str | Path, *, halves: bool = False, error: type[HandiError] = InputError
) -> None:
    """Refuse what JSON or YAML can hold and most code cannot.

    That is NaN and infinity, numbers beyond 64 bits, NUL and half characters in texts, endless nesting.

    halves: let half characters pass, which the caller replaces. Raises: `error`.
    """
    unsound = re.compile("\0" if halves else "[\0\ud800-\udfff]")
    todo = [(value, 0)]
    while todo:
        item, depth = todo.pop()
        if isinstance(item, str):
            if unsound.search(item):
                what = "a NUL" if "\0" in item else "half a character (a lone surrogate)"
                text = item[:40].encode("ascii", "backslashreplace").decode().replace("\0", "\\u0000")
                raise error(f"holds {what} in the text '{text}'", where=where, hint="take it out")
        elif isinstance(item, float):
            if not math.isfinite(item):
                hint = "write a finite number, or null"
                raise error(f"holds {item}, which is no number to work with", where=where, hint=hint)
        elif isinstance(item, int):
            if not LEAST <= item <= MOST:
                what = f"holds a number of {item.bit_length()} bits"
                raise error(what, where=where, hint="whole numbers have 64 bits at most")
        elif isinstance(item, dict | list):
            if depth == MAX_DEPTH:
                raise error(f"is nested more than {MAX_DEPTH} levels deep", where=where, hint=_FLAT)
            parts = [*item.keys(), *item.values()] if isinstance(item, dict) else item
            todo += [(part, depth + 1) for part in parts]


def finite(value: object) -> float | None:
    """A JSON number as a float; None for anything else, NaN, infinity and numbers beyond 64 bits among it."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not LEAST <= value <= MOST:
        return None
    return float(value)


_FLAT = "write it flat"


def stream_array(path: Path, key: str) -> Iterator[Any]:
    """The items of the array `key` of a JSON file, one by one: the file may be larger than memory.

    The array is the first one of that name. Raises: InputError, also where the file breaks off.
    """
    begin = re.compile(rf'"{re.escape(key)}"\s*:\s*\[')
    gap = re.compile(r"[\s,]*")
    decoder = json.JSONDecoder()
    pieces = _pieces(path, InputError)
    text = next(pieces, "")
    while not (match := begin.search(text)):
        if not (more := next(pieces, "")):
            raise InputError(f'has no array "{key}"', where=path)
        text = text[-200:] + more
    place = match.end()
    while True:
        place = gap.match(text, place).end()  # type: ignore[union-attr]  # it matches nothing, too
        if text.startswith("]", place):
            return
        try:
            item, place = decoder.raw_decode(text, place)
        except RecursionError:
            raise InputError("is nested too deeply to be read", where=path, hint=_FLAT) from None
        except ValueError as error:
            parts, wanted = [text[place:]], max(1, len(text) - place)
            while wanted > 0 and (more := next(pieces, "")):  # doubling: an item is begun a few times at most
                parts.append(more)
                wanted -= len(more)
            if len(parts) == 1:
                hint = "load the file again"
                raise InputError(f"breaks off or is not JSON ({error})", where=path, hint=hint) from error
            text, place = "".join(parts), 0
            continue
        yield item


# ------------------------------------------------------------------------------------------------ CSV


@dataclass(frozen=True)
class Row:
    """A line of a table."""

    line: int  # in the file, from 1
    values: dict[str, str]  # by column, stripped; a column that the table lacks gives ""
    problem: str | None = None  # of its form

    def __getitem__(self, column: str) -> str:
        return self.values.get(column, "")


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
        where = f"{path}, line {reader.line_num}"
        raise InputError(f"is not a CSV table ({error})", where=where, hint="correct it there") from error
    if not header:
        raise InputError("is empty", where=path)
    return rows


def _check_columns(path: Path, header: Sequence[str], columns: Sequence[str]) -> None:
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise InputError(f"has more than one column {', '.join(twice)}", where=path)
    if missing := [name for name in columns if name not in header]:
        what = f"has no column {', '.join(missing)}; its first line is {','.join(header)[:120]!r}"
        raise InputError(what, where=path, hint="use a comma-separated table with a header")


# ------------------------------------------------------------------------------------------------ YAML


def read_yaml(path: str | Path) -> Any:
    """A YAML file, with all refused that `check_plain` does, and aliases that swell it beyond MAX_NODES.

    Raises: InputError.
    """
    text = read_text(path)
    if len(text) > MAX_YAML:
        raise InputError(f"has {len(text):,} characters", where=path, hint=f"{MAX_YAML:,} at most are read")
    loader = None
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check_swelling(node, path)
        value = loader.construct_document(node)
    except RecursionError:
        raise InputError("is nested too deeply to be read", where=path, hint=_FLAT) from None
    except (yaml.YAMLError, ValueError, OverflowError, TypeError, AttributeError) as error:
        if isinstance(error, HandiError):
            raise
        raise InputError(f"is not YAML ({error})", where=path, hint="correct it there") from error
    finally:
        if loader is not None:
            loader.dispose()
    check_plain(value, path)
    return value


def _check_swelling(root: yaml.Node, path: Path | str) -> None:
    """Refuse a document whose aliases, written out, make it huge or endless. Raises: InputError."""
    sizes: dict[int, int | None] = {}  # of the nodes that were seen; None: not yet known
    todo = [root]
    while todo:
        node = todo[-1]
        parts = _parts(node)
        if id(node) not in sizes:
            _check_keys(node, path)
            sizes[id(node)] = None
            todo += [part for part in parts if id(part) not in sizes]
            if any(id(part) in sizes and sizes[id(part)] is None for part in parts):
                raise InputError("has an alias that holds itself", where=path, hint="write it out")
        else:
            todo.pop()
            sizes[id(node)] = size = 1 + sum(sizes[id(part)] or 0 for part in parts)
            if size > MAX_NODES:
                hint = "write it without aliases"
                raise InputError(
                    f"its aliases stand for more than {MAX_NODES:,} entries", where=path, hint=hint
                )


def _check_keys(node: yaml.Node, path: Path | str) -> None:
    """Raises: InputError for a key that stands twice: PyYAML would drop the first in silence."""
    if isinstance(node, yaml.MappingNode):
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        names: set[str] = set()
        for key in keys:
            if key.value in names:
                where = f"{path}, line {key.start_mark.line + 1}"
                raise InputError(f"has the entry {key.value!r} a second time", where=where, hint="keep one")
            names.add(key.value)


def _parts(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []
