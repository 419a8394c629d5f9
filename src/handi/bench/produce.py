"""Clips of a method for a data set: generated once, kept with a record, gone on with when stopped."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from handi.bench.baselines import Made, Method, Task
from handi.bench.entries import Entry
from handi.errors import HandiError, InputError
from handi.files import staged
from handi.generate import RUN_FILE
from handi.images import write_image
from handi.progress import Progress
from handi.video import write_video

Failures = dict[str, HandiError]


@dataclass(frozen=True)
class Request:
    """What a clip was made for; a clip that was made for the same, by the same, is kept."""

    prompt: str
    seed: int


def task_of(entry: Entry, *, seed: int = 0, peeks: bool = True) -> Task:
    """What a method is asked for one clip of a data set. The true video's next frame and area go along only
    where they may be used. Raises: InputError: no text, or a picture that cannot be read."""
    if not entry.text:
        raise InputError("has no text to generate from", where=entry.id)
    context, following = entry.context(), None
    if context is None or (peeks and entry.video is not None):
        frames = entry.frames()
        context = frames[0] if context is None else context
        following = frames[1] if peeks and len(frames) > 1 else None
    area = entry.area() if peeks else None
    return Task(entry.id, context, entry.text, seed, area, following)


def produce(
    method: Method, data: Mapping[str, Entry], out: Path, *, seed: int = 0, what: str = "generate"
) -> Failures:
    """Make OUT/ID/ (frames/, lossless; video.mp4; run.json) for each clip that is not there yet.

    Gives what failed, by id; the others are done. Raises: HandiError for what stops everything.
    """
    failures: Failures = {}
    todo = [entry for entry in data.values() if not is_made(method, entry, out / entry.id, seed)]
    if not todo:
        return failures

    def tasks() -> Iterator[Task]:
        for entry in todo:
            try:
                yield task_of(entry, seed=seed, peeks=bool(method.peeks))
            except HandiError as error:
                failures[entry.id] = error

    with Progress(what, len(data), "clips", done=len(data) - len(todo)) as bar:
        for made in method.make(tasks()):
            if isinstance(made.frames, HandiError):
                failures[made.id] = made.frames
            else:
                _write(made, out / made.id, _record(method, data[made.id], seed))
            bar.advance()
    return failures


def is_made(method: Method, entry: Entry, folder: Path, seed: int) -> bool:
    """Whether a folder holds this method's clip for this entry."""
    try:
        record = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    wanted = json.loads(json.dumps(_record(method, entry, seed)))
    return all(record.get(key) == wanted[key] for key in ("request", "method"))


def _record(method: Method, entry: Entry, seed: int) -> dict[str, Any]:
    return {"request": asdict(Request(entry.text or "", seed)), "method": dict(method.about)}


def _write(made: Made, folder: Path, record: dict[str, Any]) -> None:
    frames = np.asarray(made.frames)
    with staged(folder, last=RUN_FILE) as scratch:
        for number, frame in enumerate(frames):
            write_image(scratch / "frames" / f"{number:04d}.png", frame)
        write_video(scratch / "video.mp4", frames)
        more = {"seconds": round(made.seconds, 4), "python": platform.python_version()}
        text = json.dumps(record | more, indent=2, ensure_ascii=False)
        (scratch / RUN_FILE).write_text(text + "\n", encoding="utf-8")
