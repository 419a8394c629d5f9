"""Pictures and masks: read whatever a camera or an editor saves, resize, write."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from handi.core.errors import HandiError, InputError
from handi.core.files import replacing
from handi.core.types import Picture, SoftMask

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
VIDEO_SUFFIXES = {".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm"}
ORIENTATION = 0x0112  # the EXIF tag
TURNS = {  # what makes a picture of each orientation upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
MAX_PIXELS = 400_000_000  # a bigger picture is more likely a decompression bomb than a photo

# Broken EXIF counts as none (see `upright`): there is nothing that a user could do about Pillow's warning.
warnings.filterwarnings("ignore", "Corrupt EXIF data|Truncated File Read", UserWarning)


def open_image(path: str | Path) -> Image.Image:
    """Open a picture upright (EXIF rotation applied), in whatever mode the file has.

    Raises: InputError for a folder, a missing, empty, damaged or absurdly large file.
    """
    path = Path(path)
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, MAX_PIXELS // 2  # PIL refuses at twice this
    try:
        _check_file(path)
        return upright(Image.open(path), path)
    except HandiError:
        raise
    except UnidentifiedImageError as error:
        raise InputError("is not a picture that can be read", where=path, hint="use PNG or JPEG") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"has more than {MAX_PIXELS // 10**6} megapixels", where=path) from error
    except Exception as error:  # PIL's readers raise whatever a damaged file makes them stumble over
        raise _damaged(error, path) from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise InputError("is a folder, not a picture", where=path)
    if not path.exists():
        raise InputError("no such picture", where=path)
    if path.stat().st_size == 0:
        raise InputError("the picture is empty (0 bytes)", where=path)
    if path.suffix.lower() in VIDEO_SUFFIXES:
        raise InputError("is a video, not a picture", where=path, hint="save its first frame as PNG")


def upright(image: Image.Image, name: str | Path) -> Image.Image:
    """A picture with its pixels read and its EXIF rotation applied; broken EXIF counts as none.

    name: what to call it in the error. Raises: InputError for pixels that cannot be read.
    """
    try:
        image.load()
    except Exception as error:  # see above
        raise _damaged(error, name) from error
    try:
        turn = TURNS.get(image.getexif().get(ORIENTATION, 1))
    except Exception:  # nothing that a camera writes beside the pixels may stop them
        turn = None
    return image if turn is None else image.transpose(turn)


def _damaged(error: Exception, name: str | Path) -> InputError:
    reason = str(error) or type(error).__name__
    return InputError(f"the picture is damaged ({reason})", where=name, hint="save it again as PNG")


def to_rgb(image: Image.Image, background: tuple[int, int, int] = (255, 255, 255)) -> Image.Image:
    """RGB form of a picture of any mode; transparency is laid over `background`, 16 bit becomes 8."""
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        values = np.nan_to_num(np.asarray(image, dtype=np.float32))
        top = 65535.0 if values.max(initial=0) > 255 else 255.0
        if image.mode == "F" and values.max(initial=0) <= 1:
            top = 1.0
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

    So a mask painted in any colour on black, or in white on a transparent layer, means what it shows; and so
    does one of 0 and 1 alone, as segmenters save it.
    """
    return soft_mask(np.asarray(to_rgb(image, background=(0, 0, 0))).max(axis=2))


def soft_mask(values: np.ndarray) -> SoftMask:
    """Mask values of any type as float32 in [0, 1]: bool; 0 to 1; 0 to 255; or 0 to 65535, by the largest."""
    values = values.astype(np.float32)
    largest = values.max(initial=0)
    return (values / (1 if largest <= 1 else 255 if largest <= 255 else 65535)).clip(0, 1)


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
