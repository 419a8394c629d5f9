"""Pictures and masks: read whatever a camera or an editor saves, resize, write."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from handi.errors import InputError
from handi.files import replacing
from handi.types import Picture, SoftMask

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
VIDEO_SUFFIXES = {".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm"}
MAX_PIXELS = 400_000_000  # a bigger picture is more likely a decompression bomb than a photo


def open_image(path: str | Path) -> Image.Image:
    """Open a picture upright (EXIF rotation applied), in whatever mode the file has.

    Raises: InputError for a folder, a missing, empty, damaged or absurdly large file.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError("is a folder, not a picture", where=path)
    if not path.exists():
        raise InputError("no such picture", where=path)
    if path.stat().st_size == 0:
        raise InputError("the picture is empty (0 bytes)", where=path)
    if path.suffix.lower() in VIDEO_SUFFIXES:
        raise InputError("is a video, not a picture", where=path, mend="save its first frame as PNG")
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, MAX_PIXELS // 2  # PIL refuses at twice this
    try:
        image = Image.open(path)
        return ImageOps.exif_transpose(image)
    except UnidentifiedImageError as error:
        raise InputError("is not a picture that can be read", where=path, mend="use PNG or JPEG") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"has more than {MAX_PIXELS // 10**6} megapixels", where=path) from error
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"the picture is damaged ({error})", where=path) from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def to_rgb(image: Image.Image, background: tuple[int, int, int] = (255, 255, 255)) -> Image.Image:
    """RGB form of a picture of any mode; transparency is laid over `background`, 16 bit becomes 8."""
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        values = np.asarray(image, dtype=np.float32)
        top = 65535.0 if values.max(initial=0) > 255 else 255.0
        image = Image.fromarray((values.clip(0, top) / top * 255 + 0.5).astype(np.uint8))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        canvas = Image.new("RGBA", layer.size, (*background, 255))
        image = Image.alpha_composite(canvas, layer)
    return image.convert("RGB")


def read_image(path: str | Path) -> Picture:
    """Read a picture: H×W×3 uint8 RGB, upright, transparency over white. Raises: InputError."""
    return np.asarray(to_rgb(open_image(path)))


def to_mask(image: Image.Image) -> SoftMask:
    """H×W float32 in [0, 1] of a mask of any mode: its brightest channel, transparency counting as 0.

    So a mask painted in any colour on black, or in white on a transparent layer, means what it shows.
    """
    return np.asarray(to_rgb(image, background=(0, 0, 0))).max(axis=2).astype(np.float32) / 255


def write_image(path: str | Path, picture: np.ndarray) -> None:
    """Write H×W×3 or H×W uint8 (or bool) as PNG, atomically. Raises: OutputError."""
    if picture.dtype == np.bool_:
        picture = picture.astype(np.uint8) * 255
    with replacing(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")


def resize(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize ...×H×W×3 uint8 frames or one H×W array; area-averaged when shrinking, else bicubic."""
    if frames.ndim == 4:
        return np.stack([resize(frame, height, width) for frame in frames])
    shrinking = height * width < frames.shape[0] * frames.shape[1]
    return cv2.resize(frames, (width, height), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_CUBIC)


def cover(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """An H×W×3 picture cropped around its middle to the aspect of height×width, and resized to it."""
    box = aspect_crop(picture.shape[0], picture.shape[1], width / height)
    left, top, right, bottom = map(round, box)
    cropped = np.ascontiguousarray(picture[top:bottom, left:right])
    return cropped if cropped.shape[:2] == (height, width) else resize(cropped, height, width)


def fit_size(height: int, width: int, *, area: int, multiple: int) -> tuple[int, int]:
    """(H, W) near `area` pixels with the aspect of `height`×`width`, both multiples of `multiple`."""
    scale = math.sqrt(area / (height * width))
    rounded = [max(1, round(side * scale / multiple)) * multiple for side in (height, width)]
    return rounded[0], rounded[1]


def aspect_crop(height: int, width: int, target: float) -> tuple[float, float, float, float]:
    """The largest centred box (left, top, right, bottom) of a height×width picture with width/height
    = `target`."""
    wide, high = min(width, height * target), min(height, width / target)
    left, top = (width - wide) / 2, (height - high) / 2
    return left, top, left + wide, top + high
