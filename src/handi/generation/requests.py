"""What is to be generated: one request per clip, from a command line or a batch file, and what they share."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from handi.core.device import choose_device
from handi.core.entries import read_entries
from handi.core.errors import InputError
from handi.core.images import open_image
from handi.core.inputs import check_clip, check_numbers, check_prompt, check_seed
from handi.core.kinds import named
from handi.core.names import alike, check_name
from handi.core.reading import read_jsonl


@dataclass(frozen=True)
class ClipRequest:
    """One clip to make; a line of a batch file."""

    image: str
    prompt: str
    mask: str | None = None  # a file, or "full"; None: stage 1 makes the motion area
    poses: str | None = None  # a poses.json, or a video of hands that move as these shall; None: predicted
    seed: int = 0
    motion: float | None = None
    id: str = ""  # the folder's name in a batch

    def check(self) -> None:
        """Raises: InputError for a prompt or a file that cannot be used; before any model is loaded."""
        check_prompt(self.prompt)
        check_seed(self.seed)
        if self.motion is not None and not math.isfinite(self.motion):
            raise InputError(f"motion is {self.motion}", hint="use a finite number")
        open_image(self.image_file)
        if self.mask is not None and self.mask != "full":
            open_image(self.mask)
        if self.poses is not None and not Path(self.poses).is_file():
            raise InputError("no such file of poses", where=self.poses, hint="give a poses.json or a video")

    @property
    def image_file(self) -> Path:
        """The context image; "example" is the picture that ships with the package."""
        if self.image == "example":
            return Path(str(files("handi.assets") / "example.png"))
        return Path(self.image)


@dataclass(frozen=True)
class GenerationSettings:
    """What all clips of a run share; None: as the model's card says."""

    model: str = "mini"
    variant: str | None = None  # of its weight files, such as "fp16"
    lora: str | None = None  # a LoRA file for it
    base: str | None = None  # of a folder of adapters, where it is not where its card says
    frames: int | None = None
    height: int | None = None
    width: int | None = None
    steps: int | None = None
    guidance: float | None = None
    area_steps: int | None = None
    area_guidance: float | None = None
    area_from: Literal["mask", "poses"] = "mask"  # or the hulls of the hands
    pose_steps: int = 1
    pose_guidance: float | None = None
    guidance_from: float = 0.0  # from which share of the steps guidance acts
    guidance_until: float = 1.0  # and until which
    restore_background: bool = True
    save_frames: bool = False
    device: str = "auto"
    dtype: str = "auto"
    offload: bool = False
    enrich: str | None = None  # who writes the prompts out in full: see `handi.data.enrich.open_enricher`
    enrich_model: str | None = None

    def check(self) -> None:
        """Raises: InputError for a number or a device that cannot be; before any model is loaded."""
        check_numbers(frames=self.frames, interval=(self.guidance_from, self.guidance_until))
        if self.height is not None and self.width is not None:
            check_clip(self.frames or 2, self.height, self.width)
        choose_device(self.device)
        check_numbers(steps=self.steps, guidance=self.guidance, stage="stage 2")
        check_numbers(steps=self.area_steps, guidance=self.area_guidance, stage="stage 1")
        check_numbers(steps=self.pose_steps, guidance=self.pose_guidance, stage="the poses")
        if self.lora is not None and self.lora.endswith(".safetensors") and not Path(self.lora).is_file():
            raise InputError("no such file", where=self.lora, hint="name a file, a folder or a hub id")


def read_batch(path: str | Path, *, seed: int = 0) -> tuple[list[ClipRequest], list[InputError]]:
    """The requests of a JSONL file, one object a line, and an error for each line that is not one.

    Relative paths count from the file's folder. A line without an id is called by its number.
    Raises: InputError for a file that cannot be read.
    """
    path = Path(path)
    requests: dict[str, ClipRequest] = {}
    errors: list[InputError] = []
    for number, entries in read_jsonl(path):
        try:
            if isinstance(entries, InputError):
                raise entries
            request = _read_line(entries, number, path, seed)
            if (key := alike(request.id)) in requests:
                other = requests[key].id
                how = "" if other == request.id else f", but for its case or Unicode form, as {other!r}"
                raise InputError(f"the id {request.id!r} was used before{how}")
            requests[key] = request
        except InputError as error:
            errors.append(InputError(error.what, where=f"{path}, line {number}", hint=error.hint))
    return list(requests.values()), errors


def _read_line(entries: dict[str, Any], number: int, path: Path, seed: int) -> ClipRequest:
    if isinstance(entries.get("prompt"), list):
        hint = "a line is one clip; for a sequence give --prompt several times, without --batch"
        raise InputError("prompt is a list", hint=hint)
    request = read_entries(ClipRequest, {"seed": seed, "id": f"{number:05d}", **entries}, path)
    for name in ("image", "prompt"):
        if not getattr(request, name).strip():
            raise InputError(f"has no {name}")
    check_name(request.id)
    image, mask, poses = (_beside(path, place) for place in (request.image, request.mask, request.poses))
    return replace(request, image=str(image), mask=mask, poses=poses)


def _beside(path: Path, place: str | None) -> str | None:
    """A file that a line names, counted from the batch file's folder."""
    if place in (None, "full", "example"):
        return place
    return str(named(path.parent, place) or path.parent / place)
