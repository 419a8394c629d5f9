"""Clips of a method for a data set: generated once, kept with a record, gone on with when stopped."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from handi.core.errors import HandiError, InputError, OutputError
from handi.core.files import staged
from handi.core.images import write_image
from handi.core.names import distinct_names, place_in
from handi.core.progress import Progress
from handi.core.reading import read_json
from handi.core.types import BinaryMask, Frames
from handi.core.video import write_video
from handi.data.sources.common import FRAMES
from handi.evaluation.areas import TrueAreas
from handi.evaluation.baselines import Made, Method, Task
from handi.evaluation.entries import Entry, TextKind
from handi.evaluation.tally import failure
from handi.generation.generate import RUN_FILE

Failures = dict[str, HandiError]


@dataclass(frozen=True)
class Request:
    """What a clip was made for; a clip that was made for the same, by the same, is kept."""

    prompt: str
    seed: int
    pictures: str  # a hash of the context image, and of the parts of the truth that the method was given


@dataclass(frozen=True)
class Asking:
    """How clips of a data set are asked for."""

    text: TextKind = "enriched"  # where a clip has one
    seed: int = 0
    areas: TrueAreas | None = None  # finds areas that no file gives; None: there are none then


def task_of(entry: Entry, asking: Asking = Asking(), *, peeks: bool = True) -> Task:
    """What a method is asked for one clip of a data set. The true video's next frame and area go along only
    where they may be used.

    Raises: InputError: no text, or a picture that cannot be read; HandiError where its area cannot be had.
    """
    entry.check()
    prompt = entry.prompt(asking.text)
    if not prompt:
        raise InputError("has no text to generate from", where=entry.id)
    context, frames, area = entry.context(), None, None
    if entry.video is not None and (context is None or peeks):
        frames = entry.frames(FRAMES)
        context = frames[0] if context is None else context
    if context is None:
        raise InputError("has neither a context image nor a true video", where=entry.id)
    if peeks:
        area = _area(entry, asking, frames)
    following = frames[1] if peeks and frames is not None and len(frames) > 1 else None
    return Task(entry.id, context, prompt, asking.seed, area, following)


def _area(entry: Entry, asking: Asking, frames: Frames | None) -> BinaryMask | None:
    if entry.has_area or asking.areas is None or frames is None:
        return entry.area()
    return asking.areas.of(entry, lambda: frames)


def produce(
    method: Method, data: Mapping[str, Entry], out: Path, asking: Asking = Asking(), *, what: str = "generate"
) -> Failures:
    """Make OUT/NAME/ of each clip that is not there: frames/, lossless; video.mp4; motion_area.png; run.json.

    NAME is the clip's id wherever a folder can be called so (`distinct_names`). Gives what failed, by id; the
    others are done. Raises: HandiError for what stops everything.
    """
    failures: Failures = {}
    records: dict[str, dict[str, Any]] = {}
    names = distinct_names(data)

    with Progress(what, len(data), "clips") as bar:

        def tasks() -> Iterator[Task]:
            for entry in data.values():
                try:
                    folder = place_in(out, names[entry.id])
                    task = task_of(entry, asking, peeks=bool(method.peeks))
                except OutputError:  # a full disk is not this clip's fault
                    raise
                except Exception as error:
                    failures[entry.id] = failure(error)
                    continue
                if is_made(method, task, folder):
                    bar.advance()
                    continue
                records[entry.id] = _record(method, task)
                yield task

        todo = tasks()
        if (first := next(todo, None)) is None:  # a program is not started for nothing
            return failures
        for made in method.make(chain([first], todo)):
            if isinstance(made.frames, HandiError):
                failures[made.id] = made.frames
            else:
                _write(made, out / names[made.id], records[made.id])
            bar.advance()
    return failures


def is_made(method: Method, task: Task, folder: Path) -> bool:
    """Whether a folder holds this method's clip for this task."""
    try:
        record = read_json(folder / RUN_FILE)
    except InputError:
        return False
    wanted = json.loads(json.dumps(_record(method, task)))
    return isinstance(record, dict) and all(record.get(key) == wanted[key] for key in ("request", "method"))


def _record(method: Method, task: Task) -> dict[str, Any]:
    digest = hashlib.sha256()
    for part in (task.context, task.area, task.following):
        digest.update(
            b"-" if part is None else f"{part.shape}".encode() + np.ascontiguousarray(part).tobytes()
        )
    request = Request(task.prompt, task.seed, digest.hexdigest()[:16])
    return {"id": task.id, "request": asdict(request), "method": dict(method.about)}


def _write(made: Made, folder: Path, record: dict[str, Any]) -> None:
    frames = np.asarray(made.frames)
    with staged(folder, last=RUN_FILE, owned=("frames", "video.mp4", "motion_area.png")) as scratch:
        for number, frame in enumerate(frames):
            write_image(scratch / "frames" / f"{number:04d}.png", frame)
        write_video(scratch / "video.mp4", frames)
        if made.area is not None:
            write_image(scratch / "motion_area.png", made.area)
        more = {"seconds": round(made.seconds, 4), "python": platform.python_version()}
        text = json.dumps(record | more, indent=2, ensure_ascii=False)
        (scratch / RUN_FILE).write_text(text + "\n", encoding="utf-8")
