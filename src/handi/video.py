"""Videos: read, sample, write. The only module that touches codecs."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw

from handi.errors import InputError
from handi.files import replacing
from handi.images import resize
from handi.types import Frames, Picture


@dataclass(frozen=True)
class VideoInfo:
    """What a video file says of itself. `width` and `height` are as displayed, rotation applied."""

    width: int
    height: int
    fps: float
    frames: int  # 0 where the container does not say
    rotation: int  # degrees clockwise that a player turns the stored picture: 0, 90, 180, 270


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

    Every frame that the file holds is given once, whatever its time stamp (see `timed_frames`).
    Raises: InputError for a file that cannot be opened, has no video stream, or breaks off midway.
    """
    for _, picture in timed_frames(path):
        yield picture


def timed_frames(path: str | Path) -> Iterator[tuple[float, Picture]]:
    """`read_frames` with the presentation time of each frame, in seconds from the first."""
    with _opened(path) as (container, stream):
        first: float | None = None
        for frame in container.decode(stream):
            time = float(frame.time or 0.0)
            first = time if first is None else first
            turns = -round((frame.rotation or 0) / 90) % 4
            yield time - first, np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), -turns))


def count_frames(path: str | Path) -> int:
    """How many frames a video should hold, from its packets; nothing is decoded. Raises: InputError."""
    with _opened(path) as (container, stream):
        return sum(1 for packet in container.demux(stream) if packet.size)


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


def even_indices(total: int, count: int) -> list[int]:
    """`count` frame indices spread evenly over 0..total-1, both ends included (§3.1 of the paper)."""
    if total < 1 or count < 1:
        raise ValueError(f"cannot pick {count} of {total} frames")
    return [round(i) for i in np.linspace(0, total - 1, count)]


def write_video(path: str | Path, frames: Iterable[np.ndarray], *, fps: float = 8.0) -> None:
    """Write H×W×3 uint8 frames as H.264 yuv420p mp4 that a browser plays; atomic.

    An odd side loses its last row or column, as the pixel format has no half chroma samples.
    Raises: ValueError for no frame or frames of different sizes, OutputError.
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
                for array in itertools.chain([first], frames):
                    if array.shape != first.shape:
                        raise ValueError(f"a frame of {array.shape} among frames of {first.shape}")
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
