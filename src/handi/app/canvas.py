"""Pictures that the page shows and the brush paints on, and the mask that a painting means."""

from __future__ import annotations

import base64
import binascii
import io
from typing import Any

import cv2
import numpy as np
from PIL import Image

from handi.core.errors import InputError
from handi.core.images import upright
from handi.core.types import BinaryMask, Picture
from handi.hands.pose_files import drawn_poses

SIDE = 640  # px of the canvas's longer side at most; smaller photos are enlarged by a whole factor
COLOUR = (40, 110, 255)  # of the motion area, as in painter.js
PNG = "data:image/png;base64,"

Value = dict[str, str | None]  # of the brush: see assets/app/painter.js


def canvas_size(height: int, width: int) -> tuple[int, int]:
    """(H, W) of the canvas of a photo: whole multiples of a small one, or a large one made smaller."""
    longer = max(height, width)
    if longer <= SIDE:
        factor = SIDE // longer
        return height * factor, width * factor
    return max(1, round(height * SIDE / longer)), max(1, round(width * SIDE / longer))


def canvas(photo: Picture, area: BinaryMask | None = None, poses: np.ndarray | None = None) -> Value:
    """What the brush shows of a photo H×W×3: the motion area h×w over it, to paint on and to erase.

    poses: F×42×2, drawn into the photo.
    """
    height, width = canvas_size(*photo.shape[:2])
    shown = photo if poses is None else drawn_poses(photo, poses)
    background = Image.fromarray(shown).resize((width, height), Image.Resampling.LANCZOS)
    if area is None:
        return {"photo": _source(background), "area": None}
    layer = np.zeros((height, width, 4), np.uint8)
    layer[cv2.resize(area.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR) >= 0.5] = (
        *COLOUR,
        255,
    )
    return {"photo": _source(background), "area": _source(Image.fromarray(layer))}


def painted(value: Any, photo: Picture) -> BinaryMask | None:
    """The mask of the brush's value, at the size of the photo's canvas; None where nothing is painted.

    Raises: InputError for what no brush of ours sends.
    """
    value = value or {}
    source = value.get("mask") if "mask" in value else value.get("area")
    if source is None:
        return None
    try:
        data = base64.b64decode(source.removeprefix(PNG), validate=True)
        layer = upright(Image.open(io.BytesIO(data), formats=["PNG"]), "the mask")
    except (AttributeError, binascii.Error, OSError, ValueError) as error:
        raise InputError(f"the painted area cannot be read ({error})", hint="paint it again") from error
    size = canvas_size(*photo.shape[:2])
    if layer.mode != "RGBA" or layer.size != size[::-1]:
        raise InputError("the painted area is not of this photo", hint="paint it again")
    mask = np.asarray(layer)[..., 3] >= 128
    return mask if mask.any() else None


def mask_of(mask: BinaryMask, photo: Picture) -> np.ndarray:
    """A mask of the canvas as a picture of the photo's own size, H×W uint8."""
    height, width = photo.shape[:2]
    grey = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(grey.resize((width, height), Image.Resampling.BOX))


def _source(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return PNG + base64.b64encode(buffer.getvalue()).decode()
