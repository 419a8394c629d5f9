"""The clips of a data set by a method, by any number of workers: what is missing is made, the rest is kept.

OUT/NAME/           frames/ (lossless), video.mp4, motion_area.png, run.json
OUT/ledger.jsonl    a line for each clip: its id, and why it could not be made
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from handi.core.device import worker_device
from handi.core.errors import HandiError, InputError, OutputError, failure
from handi.core.executors import Executor
from handi.core.files import staged
from handi.core.images import write_image
from handi.core.ledger import LEDGER, Ledger
from handi.core.names import distinct_names, place_in
from handi.core.progress import Progress
from handi.core.reading import read_json
from handi.core.video import write_video
from handi.data.sources.common import FRAMES
from handi.evaluation.methods import Spec
from handi.evaluation.methods.base import GeneratedClip, Method, Task
from handi.evaluation.pairs import TrueAreas
from handi.evaluation.videos import Entry, TextKind
from handi.generation.record import RUN_FILE

Named = list[tuple[Entry, str]]  # with the names of their folders
Fate = tuple[str, HandiError | None]  # of a clip: its id, and why there is none


@dataclass(frozen=True)
class ClipOptions:
    """How the clips of a data set are generated."""

    text: TextKind = "enriched"  # if a clip has one
    seed: int = 0
    areas: TrueAreas | None = None  # finds areas that no file gives; None: there are none then


def task_of(entry: Entry, sampling: ClipOptions = ClipOptions(), *, ground_truth: bool = True) -> Task:
    """What a method is asked for one clip of a data set. The true video's next frame and area are added only
    if they may be used.

    Raises: InputError: no text, or a picture that cannot be read; HandiError if its area cannot be found.
    """
    entry.check()
    prompt = entry.prompt(sampling.text)
    if not prompt:
        raise InputError("has no text to generate from", where=entry.id)
    context, frames, area = entry.context(), None, None
    if entry.video is not None and (context is None or ground_truth):
        frames = entry.frames(FRAMES)
        context = frames[0] if context is None else context
    if context is None:
        raise InputError("has neither a context image nor a true video", where=entry.id)
    if ground_truth:
        area = entry.area()
        if area is None and frames is not None and sampling.areas is not None:
            area = sampling.areas.of(entry, lambda: np.asarray(frames))
    following = frames[1] if ground_truth and frames is not None and len(frames) > 1 else None
    return Task(entry.id, context, prompt, sampling.seed, area, following)


def generate_clips(
    method: Method, data: Mapping[str, Entry], out: Path, sampling: ClipOptions = ClipOptions(),
    *, what: str = "generate", shared: tuple[Spec, Executor] | None = None,
) -> dict[str, HandiError]:  # fmt: skip
    """Generate each clip that is missing into OUT/NAME/.

    NAME is the clip's id if a folder can be called so (`distinct_names`). shared: how to build the method
    again, and who does the work in the place of this process. Returns the failures by id; the other clips
    are done. Raises: HandiError for what stops everything.
    """
    names = distinct_names(data)
    named = [(entry, names[entry.id]) for entry in data.values()]
    if shared is None:
        fates: Iterator[Fate] = _generate(method, named, out, sampling)
    else:
        fates = _shared(*shared, named, out, sampling)
    failures: dict[str, HandiError] = {}
    with Progress(what, len(data), "clips") as bar:
        for id, why in fates:
            if why is not None:
                failures[id] = why
            bar.advance()
    lines = ({"id": id, "reason": str(failures[id]) if id in failures else None} for id in data)
    Ledger(out / LEDGER).settle(lines)
    return failures


def _generate(method: Method, named: Named, out: Path, sampling: ClipOptions) -> Iterator[Fate]:
    """Make what is missing, by a method that is loaded."""
    kept: list[Fate] = []
    records: dict[str, dict[str, Any]] = {}
    names = {entry.id: name for entry, name in named}

    def missing() -> Iterator[Task]:
        for entry, name in named:
            try:
                folder = place_in(out, name)
                task = task_of(entry, sampling, ground_truth=bool(method.uses_ground_truth))
            except OutputError:  # a full disk is not this clip's fault
                raise
            except Exception as error:
                kept.append((entry.id, failure(error)))
                continue
            if is_generated(method, task, folder):
                kept.append((entry.id, None))
                continue
            records[entry.id] = _record(method, task)
            yield task

    tasks = missing()
    if (first := next(tasks, None)) is not None:  # no program is started without a task
        for clip in method.generate(chain([first], tasks)):
            if isinstance(clip.frames, HandiError):
                yield clip.id, clip.frames
            else:
                _write(clip, out / names[clip.id], records[clip.id])
                yield clip.id, None
            yield from kept
            kept.clear()
    yield from kept


@dataclass(frozen=True)
class _MethodMaker:
    """What a worker is made of: a method, built where it works."""

    spec: Spec
    out: Path
    sampling: ClipOptions

    def __call__(self, number: int) -> Callable[[Named], list[Fate]]:
        method = self.spec.build(worker_device("auto", number))
        return lambda named: list(_generate(method, named, self.out, self.sampling))


def _shared(spec: Spec, executor: Executor, named: Named, out: Path, sampling: ClipOptions) -> Iterator[Fate]:
    """By an executor's workers. A program is started once for each of them, as it loads its model each time;
    other methods are given one clip after the other."""
    if spec.kind == "command":
        pieces = [part for n in range(executor.workers) if (part := named[n :: executor.workers])]
    else:
        pieces = [[one] for one in named]
    for fates in executor.run(_MethodMaker(spec, out, sampling), pieces, _lost):
        yield from fates


def _lost(named: Named) -> list[Fate]:
    why = InputError("the workers that make it die", hint="use fewer --workers if memory is short")
    return [(entry.id, why) for entry, _ in named]


def is_generated(method: Method, task: Task, folder: Path) -> bool:
    """Whether a folder holds this method's clip for this task."""
    try:
        record = read_json(folder / RUN_FILE)
    except InputError:
        return False
    wanted = json.loads(json.dumps(_record(method, task)))
    return isinstance(record, dict) and all(record.get(key) == wanted[key] for key in ("request", "method"))


def _record(method: Method, task: Task) -> dict[str, Any]:
    """What a clip is generated for, and by what; a clip with the same record is kept."""
    digest = hashlib.sha256()
    for part in (task.context, task.area, task.following):
        digest.update(
            b"-" if part is None else f"{part.shape}".encode() + np.ascontiguousarray(part).tobytes()
        )
    request = {"prompt": task.prompt, "seed": task.seed, "pictures": digest.hexdigest()[:16]}
    origin = asdict(method.origin)
    return {"id": task.id, "request": request, "method": dict(method.config), "origin": origin}


def _write(clip: GeneratedClip, folder: Path, record: dict[str, Any]) -> None:
    frames = np.asarray(clip.frames)
    with staged(folder, last=RUN_FILE, owned=("frames", "video.mp4", "motion_area.png")) as scratch:
        for number, frame in enumerate(frames):
            write_image(scratch / "frames" / f"{number:04d}.png", frame)
        write_video(scratch / "video.mp4", frames)
        if clip.area is not None:
            write_image(scratch / "motion_area.png", clip.area)
        more = {"seconds": round(clip.seconds, 4), "python": platform.python_version()}
        text = json.dumps(record | more, indent=2, ensure_ascii=False)
        (scratch / RUN_FILE).write_text(text + "\n", encoding="utf-8")
