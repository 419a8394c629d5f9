"""The ledger: one line of JSON for every clip of a source, kept or rejected and why; none is dropped."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from handi.core.errors import InputError
from handi.core.reading import parse_json, stream_lines
from handi.data.sources.common import Clip, sound

KEPT, REJECTED = "kept", "rejected"
FAILED = "handi failed on it"  # the reason of a clip that was rejected by a fault of handi's, and its text
Row = dict[str, Any]


class Rejected(Exception):
    """A clip that cannot be trained on; its text is the reason, in words for the ledger."""


def row_of(clip: Clip, *, reason: str | None = None, figures: Row | None = None) -> Row:
    """A clip's line: what the source says of it, its fate, and for a kept one what was measured."""
    return {
        "id": clip.id,
        "split": clip.split,
        "status": KEPT if reason is None else REJECTED,
        "reason": None if reason is None else sound(reason),
        "action": clip.action,
        "description": clip.description,
        "paraphrases": list(clip.paraphrases),
        "verb": clip.verb,
        "noun": clip.noun,
        "participant": clip.participant,
        "video": sound(clip.video.name) if clip.video else None,
        "start": clip.start,
        "end": clip.end,
        **(figures or {}),
    }


def kind_of_reason(reason: str) -> str:
    """A reason without its numbers, so that the same kind of mishap is counted together."""
    return re.sub(r"\d+(\.\d+)?", "N", reason)


def line(row: Row) -> str:
    """A row as it stands in a file."""
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n"


def read_rows(path: str | Path) -> Iterator[Row]:
    """The lines of a ledger, one at a time. Raises: InputError naming the line that is damaged."""
    for number, text in enumerate(stream_lines(path), start=1):
        try:
            row = parse_json(text, path, checked=False)
            if row["status"] not in (KEPT, REJECTED):
                raise ValueError(f"status {row['status']!r}")
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"line {number} is damaged ({error})", where=path, hint="run handi prepare again"
            ) from error
        yield row


def write_rows(path: str | Path, rows: Iterable[Row]) -> None:
    """Write rows as they come, without holding them; not atomic: see `handi.core.files.replacing`."""
    with open(path, "w", encoding="utf-8") as file:
        for row in rows:
            file.write(line(row))
