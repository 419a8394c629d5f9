"""What a method is: a context image and a sentence in, a clip of 16 frames out; and the two floors."""

from __future__ import annotations

import hashlib
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from handi import __version__
from handi.core.errors import HandiError, InputError, failure
from handi.core.files import sha256_of
from handi.core.images import resize
from handi.core.types import BinaryMask, Frames, Picture
from handi.core.video import even_indices
from handi.data.sources.common import FRAMES
from handi.motion.flow import farneback


@dataclass(frozen=True)
class Task:
    """What a method is asked for. `area` and `following` are ground truth, for methods that use it."""

    id: str
    context: Picture  # H×W×3
    prompt: str
    seed: int = 0
    area: BinaryMask | None = None  # H×W, the true motion area
    following: Picture | None = None  # H×W×3, the true frame after the context image


@dataclass(frozen=True)
class GeneratedClip:
    """The result of a task: a clip, or why there is none."""

    id: str
    frames: Frames | HandiError  # FRAMES×H×W×3 of the context's size
    seconds: float = 0.0
    stages: Mapping[str, float] = field(default_factory=dict)  # seconds of each stage, if they are known
    area: BinaryMask | None = None  # H×W, where the method let things move, if it says


@dataclass(frozen=True)
class Origin:
    """Where a method's clips come from, as the tables state it; "" where nothing can tell."""

    code: str  # whose
    revision: str = ""  # of that code
    weights: str = ""
    trained_on: str = ""


HANDI = Origin("handi", __version__)


def revision_of(checkout: Path) -> str:
    """The commit of a checkout, and whether files of it were changed; "" where git cannot tell."""

    def git(*words: str) -> str:
        line = ["git", "-C", str(checkout), *words]
        return subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", ".")
        return git("rev-parse", "HEAD")[:12] + (", changed" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


@lru_cache
def hash_of(weights: Path) -> str:
    """SHA-256 of a file; of a folder, over the names and hashes of its files. Raises: OSError."""
    if weights.is_file():
        return sha256_of(weights)
    digest = hashlib.sha256()
    for path in sorted(path for path in weights.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(weights).as_posix()} {sha256_of(path)}\n".encode())
    return digest.hexdigest()


class Method(Protocol):
    """Something that generates clips."""

    origin: Origin
    parameters: int | None  # weights of all networks that it runs; None: not known
    config: Mapping[str, Any]  # recorded beside each clip; two methods with the same config are the same
    uses_ground_truth: str  # which part of the truth it is given; "": none

    def generate(self, tasks: Iterable[Task]) -> Iterator[GeneratedClip]:
        """A clip per task, in order; a task that fails does not stop the others. Raises: HandiError."""
        ...


def one_by_one(tasks: Iterable[Task], generate: Callable[[Task], Frames]) -> Iterator[GeneratedClip]:
    """Run a function on each task, timed, and conform its clips; an exception becomes the task's result."""
    for task in tasks:
        begin = time.perf_counter()
        try:
            frames: Frames | HandiError = conformed(generate(task), task.context)
        except Exception as error:
            frames = failure(error)
        yield GeneratedClip(task.id, frames, time.perf_counter() - begin)


def conformed(frames: Frames, context: Picture) -> Frames:
    """F×H×W×3 frames of any number and size as a clip: 16 evenly spread ones, at the context's size.

    If there are 15 the context image is missing and is put before them. Raises: InputError for one frame.
    """
    if len(frames) == FRAMES - 1:
        frames = np.concatenate([_fitted(context[None], *frames.shape[1:3]), frames])
    if len(frames) < 2:
        raise InputError(f"a video of {len(frames)} frame", hint=f"make {FRAMES}")
    if len(frames) != FRAMES:
        frames = frames[even_indices(len(frames), FRAMES)]
    return _fitted(frames, *context.shape[:2])


def _fitted(frames: Frames, height: int, width: int) -> Frames:
    """F×H×W×3 frames at a size; stretched, which undoes what a model squeezed."""
    return frames if frames.shape[1:3] == (height, width) else resize(frames, height, width)


class Static:
    """Floor: the context image, repeated."""

    parameters: int | None = 0
    config: Mapping[str, Any] = {"kind": "static"}
    origin = HANDI
    uses_ground_truth = ""

    def generate(self, tasks: Iterable[Task]) -> Iterator[GeneratedClip]:
        return one_by_one(tasks, lambda task: np.repeat(task.context[None], FRAMES, axis=0))


class FlowExtrapolation:
    """Floor: the context image, moved on and on by the optical flow between it and the next true frame.

    One picture has no motion to continue, so this floor is given one true frame more than any method.
    """

    parameters: int | None = 0
    config: Mapping[str, Any] = {"kind": "flow"}
    origin = HANDI
    uses_ground_truth = "the first true frame after the context image"

    def generate(self, tasks: Iterable[Task]) -> Iterator[GeneratedClip]:
        return one_by_one(tasks, self._generate)

    def _generate(self, task: Task) -> Frames:
        if task.following is None:
            raise InputError("needs the true video, to see its first motion", where=task.id)
        before, after = (cv2.cvtColor(p, cv2.COLOR_RGB2GRAY) for p in (task.context, task.following))
        # From the later frame back to the context: where each pixel of a new frame comes from.
        flow = farneback(after, before)
        rows, columns = np.indices(before.shape, np.float32)
        frames = [task.context]
        for number in range(1, FRAMES):
            x, y = columns + number * flow[..., 0], rows + number * flow[..., 1]
            frames.append(cv2.remap(task.context, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
        return np.stack(frames)
