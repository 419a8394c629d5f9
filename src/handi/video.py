"""Pictures and videos: read, sample, resize, write. The only module that touches codecs."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageOps, UnidentifiedImageError

from handi.errors import InputError, writing
from handi.types import Frames, Picture

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
VIDEO_SUFFIXES = {".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm"}
MAX_PIXELS = 400_000_000  # a bigger picture is more likely a decompression bomb than a photo


@dataclass(frozen=True)
class VideoInfo:
    """What a video file says of itself. `width` and `height` are as displayed, rotation applied."""

    width: int
    height: int
    fps: float
    frames: int  # 0 where the container does not say
    rotation: int  # degrees clockwise that a player turns the stored picture: 0, 90, 180, 270


# ---------------------------------------------------------------------------------------- pictures


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


def fit_size(height: int, width: int, *, area: int, multiple: int) -> tuple[int, int]:
    """(H, W) near `area` pixels with the aspect of `height`×`width`, both multiples of `multiple`."""
    scale = math.sqrt(area / (height * width))
    return tuple(max(multiple, round(side * scale / multiple) * multiple) for side in (height, width))  # type: ignore[return-value]


# ------------------------------------------------------------------------------------------ videos


@contextmanager
def _opened(path: str | Path) -> Iterator[tuple[av.container.InputContainer, av.video.stream.VideoStream]]:
    path = Path(path)
    if path.is_dir():
        raise InputError("is a folder, not a video", where=path)
    if not path.exists():
        raise InputError("no such video", where=path)
    if path.stat().st_size == 0:
        raise InputError("the video is empty (0 bytes)", where=path)
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise InputError("has no video stream", where=path)
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            yield container, stream
    except av.FFmpegError as error:
        raise InputError(
            f"the video is damaged or not a video ({error.strerror or error})", where=path
        ) from error


def read_frames(path: str | Path) -> Iterator[Picture]:
    """Frames of a video one by one, H×W×3 uint8 RGB, in presentation order, turned as a player would.

    Every frame that the file holds is given once, whatever its time stamp (see `frame_times`).
    Raises: InputError for a file that cannot be opened, has no video stream, or breaks off midway.
    """
    with _opened(path) as (container, stream):
        for frame in container.decode(stream):
            turns = -round((frame.rotation or 0) / 90) % 4
            yield np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), -turns))


def read_video(path: str | Path) -> Frames:
    """All frames of a video, F×H×W×3 uint8 RGB. Raises: InputError, also for a video of no frames."""
    frames = list(read_frames(path))
    if not frames:
        raise InputError("the video holds no frame that can be decoded", where=path)
    return np.stack(frames)


def probe_video(path: str | Path) -> VideoInfo:
    """Size as displayed, frame rate, frame count and rotation. Raises: InputError."""
    with _opened(path) as (container, stream):
        first = next(container.decode(stream), None)
        if first is None:
            raise InputError("the video holds no frame that can be decoded", where=path)
        rotation = round(-(first.rotation or 0) / 90) * 90 % 360
        width, height = (first.width, first.height) if rotation % 180 == 0 else (first.height, first.width)
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        return VideoInfo(width, height, float(rate), stream.frames, rotation)


def frame_times(path: str | Path) -> list[float]:
    """Presentation time of every frame in seconds from the first: uneven where the frame rate varies."""
    with _opened(path) as (container, stream):
        times = [float(frame.time or 0.0) for frame in container.decode(stream)]
    return [time - times[0] for time in times]


def even_indices(total: int, count: int) -> list[int]:
    """`count` frame indices spread evenly over 0..total-1, both ends included (§3.1 of the paper)."""
    if total < 1 or count < 1:
        raise ValueError(f"cannot pick {count} of {total} frames")
    return [round(i) for i in np.linspace(0, total - 1, count)]


def write_video(path: str | Path, frames: Iterable[np.ndarray], *, fps: float = 8.0) -> None:
    """Write H×W×3 uint8 frames as H.264 yuv420p mp4 that a browser plays; atomic.

    An odd side loses its last row or column, as the pixel format has no half chroma samples.
    Raises: ValueError for no frame, OutputError.
    """
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise ValueError("no frames to write")
    height, width = (side - side % 2 for side in first.shape[:2])
    rate = Fraction(fps).limit_denominator(1000)
    with replacing(path) as temporary:
        try:
            with av.open(str(temporary), "w", format="mp4", options={"movflags": "+faststart"}) as container:
                stream = container.add_stream("libx264", rate=rate, options={"crf": "14", "preset": "medium"})
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                for array in (first, *frames):
                    pixels = np.ascontiguousarray(array[:height, :width])
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
                container.mux(stream.encode())
        except av.FFmpegError as error:
            raise OSError(error.errno, error.strerror) from error


def contact_sheet(
    clips: list[Frames], *, labels: list[str] | None = None, columns: int = 8, height: int | None = None
) -> Picture:
    """One picture with a row a clip: `columns` frames spread evenly, and a label above each row."""
    rows = []
    for number, clip in enumerate(clips):
        chosen = clip[even_indices(len(clip), columns)]
        if height is not None:
            chosen = resize(chosen, height, round(clip.shape[2] * height / clip.shape[1]))
        strip = np.concatenate(list(chosen), axis=1)
        if labels is not None:
            band = Image.new("RGB", (strip.shape[1], 16), "white")
            ImageDraw.Draw(band).text((3, 2), labels[number], fill="black")
            strip = np.concatenate([np.asarray(band), strip])
        rows.append(strip)
    width = max(row.shape[1] for row in rows)
    return np.concatenate(
        [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    )


# ------------------------------------------------------------------------------------------ atomic


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place when the block ends well, else vanishes.

    Raises: OutputError for whatever keeps the file from being written.
    """
    path = Path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            os.chmod(temporary, 0o666 & ~_umask())  # mkstemp's 0600 is not what a result should have
            os.replace(temporary, path)
        finally:
            with suppress(FileNotFoundError):
                temporary.unlink()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
