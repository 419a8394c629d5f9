"""Methods under one protocol: a context image and a sentence in, a clip of 16 frames out.

A method is named on the command line as NAME=SPEC, where SPEC is one of

    videos:FOLDER              videos that exist already
    handi:MODEL                a model of handi's, both stages
    animate-anything:FOLDER    an AnimateAnything folder; its mask is the whole frame
    pia:FOLDER                 diffusers' PIAPipeline
    cogvideox:FOLDER           diffusers' CogVideoX pipelines, image-to-video or text-to-video
    static                     floor: the context image, 16 times
    flow                       floor: the context image moved on by the optical flow to the next TRUE frame
    FILE.yaml                  kind: one of the above or `command` (any program), and its options
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol

import cv2
import numpy as np

from handi.core.errors import HandiError, InputError
from handi.core.images import resize
from handi.core.names import check_name
from handi.core.reading import read_yaml
from handi.core.types import BinaryMask, Frames, Picture
from handi.core.video import even_indices
from handi.evaluation.tally import failure
from handi.method.area import prior_area
from handi.motion.flow import farneback

FRAMES = 16  # of a clip, the context image included
Mask = Literal["true", "generated", "prior", "full"]


@dataclass(frozen=True)
class Task:
    """What a method is asked for. `area` and `following` are the truth, for methods that say they use it."""

    id: str
    context: Picture  # H×W×3
    prompt: str
    seed: int = 0
    area: BinaryMask | None = None  # H×W, the true motion area
    following: Picture | None = None  # H×W×3, the true frame after the context image


@dataclass(frozen=True)
class Made:
    """What came of a task: a clip, or why there is none."""

    id: str
    frames: Frames | HandiError  # FRAMES×H×W×3 of the context's size
    seconds: float = 0.0  # that it took
    stages: Mapping[str, float] = field(default_factory=dict)  # parts of these by name, where they are known
    area: BinaryMask | None = None  # H×W, where the method let things move, if it says


class Method(Protocol):
    """Something that makes clips."""

    parameters: int | None  # weights of all networks that it runs; None: not known
    about: Mapping[str, Any]  # what it is, recorded beside each clip; two methods with the same are the same
    peeks: str  # which part of the truth it is given; "": none

    def make(self, tasks: Iterable[Task]) -> Iterator[Made]:
        """A clip for each task, in order; a task that fails does not stop the others. Raises: HandiError."""
        ...


def one_by_one(tasks: Iterable[Task], make: Callable[[Task], Frames]) -> Iterator[Made]:
    """Run a function on each task, timed; what it raises becomes a result. Clips get the protocol's form."""
    for task in tasks:
        begin = time.perf_counter()
        try:
            frames: Frames | HandiError = conformed(make(task), task.context)
        except Exception as error:
            frames = failure(error)
        yield Made(task.id, frames, time.perf_counter() - begin)


def conformed(frames: Frames, context: Picture) -> Frames:
    """F×H×W×3 frames of any number and size as a clip: 16 of them spread evenly, at the context's size.

    Of 15 frames the context is taken to be missing and is put before them. Raises: InputError for one frame.
    """
    if len(frames) == FRAMES - 1:
        frames = np.concatenate([fitted(context[None], *frames.shape[1:3]), frames])
    if len(frames) < 2:
        raise InputError(f"a video of {len(frames)} frame", mend=f"make {FRAMES}")
    if len(frames) != FRAMES:
        frames = frames[even_indices(len(frames), FRAMES)]
    return fitted(frames, *context.shape[:2])


def fitted(frames: Frames, height: int, width: int) -> Frames:
    """F×H×W×3 frames at a size; stretched, so that what a model squeezed is put back."""
    return frames if frames.shape[1:3] == (height, width) else resize(frames, height, width)


# -------------------------------------------------------------------------------------------- floors


class Static:
    """The context image, again and again: what a method is worth that does nothing."""

    parameters: int | None = 0
    about: Mapping[str, Any] = {"kind": "static"}
    peeks = ""

    def make(self, tasks: Iterable[Task]) -> Iterator[Made]:
        return one_by_one(tasks, lambda task: np.repeat(task.context[None], FRAMES, axis=0))


class FlowExtrapolation:
    """The context image, moved on and on by the optical flow between it and the next true frame.

    One picture has no motion to go on with, so this floor is given one true frame more than any method.
    """

    parameters: int | None = 0
    about: Mapping[str, Any] = {"kind": "flow"}
    peeks = "the first true frame after the context image"

    def make(self, tasks: Iterable[Task]) -> Iterator[Made]:
        return one_by_one(tasks, self._make)

    def _make(self, task: Task) -> Frames:
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


# -------------------------------------------------------------------------------------- our pipeline


class Handi:
    """A model folder through HandiPipeline: HANDI itself, AnimateAnything, and the rows of the ablation.

    mask: where stage 2 may move things: "generated" (by its own stage 1), "full" (the whole frame), "prior"
    (the mean area of its training clips) or "true" (the ground truth).
    """

    def __init__(
        self,
        model: str,
        *,
        mask: Mask = "generated",
        steps: int | None = None,
        guidance: float | None = None,
        area_steps: int | None = None,
        area_guidance: float | None = None,
        device: str = "auto",
        dtype: str = "auto",
    ) -> None:
        from handi.core.device import choose_device, choose_dtype
        from handi.method.pipeline import HandiPipeline
        from handi.models.checkpoint import fingerprint

        self.device = choose_device(device)
        self.pipe = HandiPipeline.from_pretrained(model, torch_dtype=choose_dtype(dtype, self.device))
        self.pipe.set_progress_bar_config(disable=True)
        if mask in ("generated", "prior") and self.pipe.prior_mask is None:
            raise InputError(f"this model has no stage 1, which mask {mask} needs", where=model)
        self.mask = mask
        self.calls: dict[str, Any] = {
            "num_inference_steps": steps,
            "guidance_scale": guidance,
            "area_inference_steps": area_steps,
            "area_guidance_scale": area_guidance,
        }
        used = [self.pipe.unet, self.pipe.vae, self.pipe.text_encoder]
        used += [self.pipe.area_unet] if mask == "generated" else []
        self.parameters: int | None = sum(p.numel() for part in used for p in part.parameters())
        self.peeks = "the true motion area" if mask == "true" else ""
        self.about: Mapping[str, Any] = {
            "kind": "handi",
            "weights": fingerprint(self.pipe.checkpoint),
            "mask": mask,
            **self.calls,
        }
        self.pipe.to(self.device)
        self._stages: Mapping[str, float] = {}
        self._area: BinaryMask | None = None

    def make(self, tasks: Iterable[Task]) -> Iterator[Made]:
        for made in one_by_one(tasks, self._make):
            yield replace(made, stages=self._stages, area=self._area)

    def _make(self, task: Task) -> Frames:
        import torch

        output = self.pipe(
            task.context,
            task.prompt,
            mask=self._mask(task),
            num_frames=FRAMES,
            **self.calls,
            generator=torch.Generator().manual_seed(task.seed),
        )
        self._stages = dict(output.seconds)
        area = output.motion_area[0].astype(np.uint8)
        self._area = cv2.resize(area, task.context.shape[1::-1], interpolation=cv2.INTER_NEAREST) > 0
        return output.frames[0]

    def _mask(self, task: Task) -> Any:
        import torch

        from handi.method.latents import area_at

        if self.mask == "full":
            return "full"
        if self.mask == "prior":
            assert self.pipe.prior_mask is not None
            like = torch.empty(1, *task.context.shape[:2])  # as in training
            return prior_area(area_at(self.pipe.prior_mask.cpu(), like)[0].numpy())
        if self.mask == "true":
            if task.area is None:
                raise InputError("has no true motion area", where=task.id)
            return task.area
        return None


# ---------------------------------------------------------------------------------------------- specs

# Kind → where its class is and what the part behind the colon is called. Imported when asked for.
OURS = "handi.evaluation.baselines:Handi"
KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "static": ("handi.evaluation.baselines:Static", "", {}),
    "flow": ("handi.evaluation.baselines:FlowExtrapolation", "", {}),
    "handi": (OURS, "model", {}),
    "animate-anything": (OURS, "model", {"mask": "full"}),
    "pia": ("handi.evaluation.published:Pia", "model", {}),
    "cogvideox": ("handi.evaluation.published:CogVideoX", "model", {}),
    "command": ("handi.evaluation.external:Command", "command", {}),
}
STORED = "videos"


@dataclass(frozen=True)
class Spec:
    """A method as it was named; `build` loads it, which may take a while."""

    name: str
    kind: str
    options: Mapping[str, Any]

    @property
    def stored(self) -> Path | None:
        """The folder of its videos, where they exist already."""
        return Path(self.options["folder"]) if self.kind == STORED else None

    def check(self) -> None:
        """Look whether what it names is there; nothing is loaded. Raises: HandiError."""
        if self.stored is not None:
            if not self.stored.exists():
                raise InputError("no such folder or manifest of videos", where=self.stored)
        elif self.kind == "command":
            self.build().check()  # type: ignore[attr-defined]  # it loads nothing
        elif "model" in self.options and KINDS[self.kind][0] == OURS:
            from handi.models.checkpoint import require

            require(str(self.options["model"]))
        elif "model" in self.options and not Path(self.options["model"]).expanduser().is_dir():
            raise InputError("no such model folder", where=str(self.options["model"]))

    def build(self) -> Method:
        """The method, ready to make clips. Raises: HandiError."""
        place, _, preset = KINDS[self.kind]
        module, _, kind = place.partition(":")
        try:
            made: Method = getattr(import_module(module), kind)(**(preset | dict(self.options)))
        except TypeError as error:  # an option that the class does not have
            raise InputError(f"{error}", where=self.name) from error
        return made


def parse_spec(text: str) -> Spec:
    """NAME=SPEC, or SPEC alone, which is then its own name; see the top of this file. Raises: InputError."""
    name, equals, rest = text.partition("=")
    if not equals:
        name, rest = text.partition(":")[0], text
    name = Path(name).stem if name.endswith((".yaml", ".yml")) else name
    if not name:
        raise InputError(f"{text!r} has no name that a folder may have", mend="write NAME=SPEC")
    check_name(name, "name of a method")
    if rest.endswith((".yaml", ".yml")):
        return _of_file(name, Path(rest))
    kind, _, value = rest.partition(":")
    known = [*KINDS, STORED]
    if kind not in known:
        raise InputError(
            f"{text!r}: no kind of method {kind!r}", mend=f"use {', '.join(known)}, or a FILE.yaml"
        )
    if kind == "command":
        raise InputError(
            f"{text!r}: a command needs a file", mend="write NAME=FILE.yaml, see docs/baselines.md"
        )
    argument = "folder" if kind == STORED else KINDS[kind][1]
    if bool(argument) != bool(value):
        raise InputError(
            f"{text!r}", mend=f"write {kind}:{argument.upper()}" if argument else f"write {kind}"
        )
    return Spec(name, kind, {argument: value} if argument else {})


def _of_file(name: str, path: Path) -> Spec:
    content = read_yaml(path)
    if not isinstance(content, dict) or content.get("kind") not in list(KINDS):
        raise InputError("does not say which kind of method", where=path, mend=f"kind: {' | '.join(KINDS)}")
    options = {key: value for key, value in content.items() if key != "kind"}
    if content["kind"] == "command":
        options["folder"] = path.parent  # its paths count from there
    return Spec(name, content["kind"], options)
