"""What a caller hands to the pipeline: any picture, mask or list → arrays of one size."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from handi.core.errors import InputError
from handi.core.images import aspect_crop, fit_size, open_image, soft_mask, to_mask, to_rgb, upright
from handi.core.types import Picture, SoftMask

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels
ImageInput = str | Path | Image.Image | np.ndarray

MIN_SIDE, MAX_ASPECT = 32, 4.0  # pixels; longer side over shorter
MAX_STEPS, MAX_FRAMES = 1000, 1024  # of denoising: noise schedules have no more; of a clip
MAX_CLIP_PIXELS = 2**29  # of all frames: 1.5 GiB as bytes, and several times that while it is decoded
SEEDS = range(-(2**63), 2**64)  # that torch takes


def check_numbers(
    *,
    frames: int | None = None,
    strength: float | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    stage: str = "",
    interval: tuple[float, float] | None = None,
) -> None:
    """Raises: InputError for a number out of range; None is not checked."""
    if interval is not None and not 0 <= interval[0] < interval[1] <= 1:
        what = f"guidance from {interval[0]:g} to {interval[1]:g} of the steps"
        raise InputError(what, hint="use two numbers from 0 to 1, the smaller one first")
    if frames is not None and not 2 <= frames <= MAX_FRAMES:
        hint = f"use 2 to {MAX_FRAMES}: the context image counts as one"
        raise InputError(f"a clip of {frames} frames", hint=hint)
    if strength is not None and not 0 < strength <= 1:
        raise InputError(f"strength {strength}", hint="use a number above 0, at most 1")
    if steps is not None and not 1 <= steps <= MAX_STEPS:
        raise InputError(f"{steps} denoising steps for {stage}", hint=f"use 1 or more, {MAX_STEPS} at most")
    if guidance is not None and not 0 <= guidance < float("inf"):
        raise InputError(f"guidance {guidance} for {stage}", hint="use a number from 0 up")


def check_clip(frames: int, height: int, width: int) -> None:
    """Raises: InputError for a clip that no machine holds; before its memory is taken."""
    if frames * height * width > MAX_CLIP_PIXELS:
        raise InputError(
            f"{frames} frames of {height}×{width} are {frames * height * width / 1e6:,.0f} megapixels",
            hint=f"{MAX_CLIP_PIXELS / 1e6:,.0f} are the most: use fewer frames, or a smaller size",
        )


def parse_size(text: str, *, least: int | None = None, most: int = 0, multiple: int = 1) -> tuple[int, int]:
    """Read a size such as "256x448": (height, width) in pixels.

    least: of the shorter side; with it, most of the longer one, and what both are multiples of, count too.
    Raises: InputError naming --size.
    """
    limits = f" in multiples of {multiple}, {most} at most" if least else ""
    try:
        height, width = (int(side) for side in text.lower().replace("×", "x").split("x"))
        if least and not (least <= min(height, width) <= max(height, width) <= most):
            raise ValueError
        if height % multiple or width % multiple:
            raise ValueError
    except ValueError as error:
        raise InputError(f"--size {text!r}", hint=f"write HEIGHTxWIDTH{limits}, e.g. 256x448") from error
    return height, width


def check_seed(seed: int) -> None:
    """Raises: InputError for a seed of more than 64 bits."""
    if seed not in SEEDS:
        raise InputError(f"the seed has {seed.bit_length()} bits", hint="use a whole number of 64 bits")


def check_prompt(prompt: Any) -> None:
    """Raises: InputError for a prompt that says nothing."""
    if not isinstance(prompt, str) or not prompt.strip():
        raise InputError("the prompt is empty", hint='say what the hands do: "Cut the carrot."')
    if (found := re.search("[\0\ud800-\udfff]", prompt)) is not None:
        what = "a NUL character" if found[0] == "\0" else "half a character (a lone surrogate)"
        raise InputError(f"the prompt holds {what} at place {found.start() + 1}", hint="take it out")


def check_names(unknown: Mapping[str, Any], call: Callable[..., Any]) -> None:
    """Raises: InputError for arguments that a call does not have, with the nearest name."""
    for name in unknown:
        near = difflib.get_close_matches(name, inspect.signature(call).parameters, n=1)
        hint = f"did you mean {near[0]}?" if near else None
        raise InputError(f"there is no argument {name!r}", hint=hint)


def repeated(lists: Mapping[str, list[Any]], times: int) -> dict[str, list[Any]]:
    """Each entry of each list so many times, one after the other. Raises: InputError for less than once."""
    if isinstance(times, bool) or not isinstance(times, int) or times < 1:
        raise InputError(f"num_videos_per_prompt is {times!r}", hint="use a whole number from 1 up")
    return {name: [value for value in values for _ in range(times)] for name, values in lists.items()}


def broadcast(**arguments: Any) -> dict[str, list[Any]]:
    """Each argument as a list of one entry per clip; one that is given once counts for all.

    Raises: InputError for lists of different lengths.
    """
    lists = {
        name: list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        for name, value in arguments.items()
    }
    batch = max(map(len, lists.values()))
    for name, values in lists.items():
        if not values:
            raise InputError(f"{name} is an empty list", hint="give one for each clip")
        if len(values) not in (1, batch):
            raise InputError(f"{len(values)} of {name} for a batch of {batch}")
    return {name: values * batch if len(values) == 1 else values for name, values in lists.items()}


def fit_inputs(
    images: Sequence[ImageInput],
    masks: Sequence[ImageInput | None],
    *,
    height: int | None,
    width: int | None,
    area: int,
    multiple: int,
) -> tuple[np.ndarray, list[SoftMask | None], list[str]]:
    """Pictures B×H×W×3 uint8 of one size, their masks H×W in [0, 1], and notes on what was changed.

    Without height and width: the pictures' aspect, near `area` pixels, sides multiples of `multiple`. With
    them: exactly that, the pictures cropped to its aspect. A mask "full" is all ones, None stays None.
    Raises: InputError naming the file or argument.
    """
    opened = [_open(image) for image in images]
    if height is None and width is None:
        size = _common_size(opened, area, multiple)
    else:
        size = _exact_size(height, width, multiple)
    pictures, soft, notes = [], [], []
    for (image, name), mask in zip(opened, masks, strict=True):
        wide, high = image.size
        box = (0.0, 0.0, float(wide), float(high))
        if height is not None:
            box = aspect_crop(high, wide, size[1] / size[0])
        if (high, wide) != size:
            how = "resized" if box == (0, 0, wide, high) else "cropped and resized"
            notes.append(f"{name}: {wide}×{high} is {how} to {size[1]}×{size[0]}")
        pictures.append(_fit(to_rgb(image), size, box))
        soft.append(None if mask is None else _fit_mask(mask, image.size, size, box, notes))
    return np.stack(pictures), soft, notes


def _fit(picture: Image.Image, size: tuple[int, int], box: Box) -> Picture:
    return np.asarray(picture.resize(size[::-1], Image.Resampling.LANCZOS, box=box))


def _fit_mask(
    mask: ImageInput,
    picture: tuple[int, int],
    size: tuple[int, int],
    box: Box,
    notes: list[str],
) -> SoftMask:
    """The mask at the model's size, put through what its picture (width, height) went through."""
    if isinstance(mask, str) and mask == "full":
        return np.ones(size, np.float32)
    grey, name = _open_mask(mask)
    if grey.size != picture:
        notes.append(
            f"{name}: the mask is {grey.width}×{grey.height}, its picture {picture[0]}×{picture[1]}: "
            "the mask is resized"
        )
        grey = grey.resize(picture, Image.Resampling.BILINEAR)
    values = np.asarray(grey.resize(size[::-1], Image.Resampling.BILINEAR, box=box)).clip(0, 1)
    if not (values >= 0.5).any():
        raise InputError(
            "the mask is empty (nothing in it is brighter than half)",
            where=name,
            hint="paint the motion area white",
        )
    return values


def _exact_size(height: int | None, width: int | None, multiple: int) -> tuple[int, int]:
    if height is None or width is None:
        raise InputError("height and width go together")
    if min(height, width) < MIN_SIDE or height % multiple or width % multiple:
        raise InputError(
            f"size {height}×{width}: both sides must be multiples of {multiple}, and {MIN_SIDE} at least"
        )
    return height, width


def _common_size(opened: Sequence[tuple[Image.Image, str]], area: int, multiple: int) -> tuple[int, int]:
    sizes = {}
    for image, name in opened:
        wide, high = image.size
        if min(wide, high) < MIN_SIDE:
            raise InputError(f"{wide}×{high} is too small: at least {MIN_SIDE} px per side", where=name)
        if max(wide, high) > MAX_ASPECT * min(wide, high):
            raise InputError(
                f"{wide}×{high} is too long: at most {MAX_ASPECT:g}:1", where=name, hint="crop it"
            )
        sizes[fit_size(high, wide, area=area, multiple=multiple)] = name
    if len(sizes) > 1:
        listed = ", ".join(f"{name} {wide}×{high}" for (high, wide), name in sizes.items())
        raise InputError(
            f"the pictures of a batch have different shapes ({listed})", hint="give height and width"
        )
    return next(iter(sizes))


def _open(source: ImageInput) -> tuple[Image.Image, str]:
    """A PIL image, upright, of a path, an array or an image, and what to call it in a message."""
    if isinstance(source, str | Path):
        return open_image(source), str(source)
    if isinstance(source, Image.Image):
        return upright(source, "the picture"), "the picture"
    array = np.asarray(source)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] not in (3, 4):
        raise InputError(f"the picture must be H×W×3 uint8, not {array.shape} {array.dtype}")
    return Image.fromarray(array), "the picture"


def _open_mask(source: ImageInput) -> tuple[Image.Image, str]:
    """A PIL image of mode F, [0, 1], of a mask, and what to call it in a message."""
    if isinstance(source, str | Path):
        return Image.fromarray(to_mask(open_image(source))), str(source)
    if isinstance(source, Image.Image):
        return Image.fromarray(to_mask(upright(source, "the mask"))), "the mask"
    array = np.asarray(source)
    if array.ndim == 3 and 1 in (array.shape[0], array.shape[2]):  # segmenters give 1×H×W
        array = array.squeeze(0 if array.shape[0] == 1 else 2)
    if array.ndim == 3 and array.shape[2] == 4 and array.dtype == np.uint8:
        return Image.fromarray(to_mask(Image.fromarray(array))), "the mask"
    if array.ndim == 3 and array.shape[2] == 3:
        array = array.max(axis=2)
    if array.ndim != 2 or array.dtype.kind not in "buif" or not array.size:
        raise InputError(f"the mask must be H×W or H×W×3 numbers, not {array.shape} {array.dtype}")
    if not np.isfinite(array).all():
        raise InputError("the mask holds NaN or infinity", hint="use 0 to 1, or 0 to 255")
    return Image.fromarray(soft_mask(array)), "the mask"
