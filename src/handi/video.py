"""Videos: read, sample, write. The only module that touches codecs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw

from handi.errors import InputError
from handi.files import replacing
from handi.images import resize
from handi.types import Frames, Picture

TIME_SLACK = 1e-4  # s: times of frames are equal to within it
SEEK_MARGIN = 1.0  # s before what is looked for
END_SLACK = 0.5  # s that a container's length may be beyond its last frame


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
            yield time - first, _upright(frame)


@dataclass(frozen=True)
class Span:
    """The frames of a part of a video, by when they are shown; s from the video's first frame."""

    times: list[float]  # rising
    end: float | None  # of the video, where it was reached: when its last frame appears


def frame_times(path: str | Path, start: float = 0.0, end: float | None = None) -> Span:
    """When the frames with start <= time <= end are shown, from the packets; nothing is decoded.

    Frame rates may vary. Raises: InputError, also for a file whose packets bear no times, and for one that
    ends before it says so.
    """
    with _opened(path) as (container, stream):
        base, zero = stream.time_base or Fraction(1, 1000), stream.start_time or 0
        _seek(container, stream, start)
        times, last, shown, untimed = [], 0.0, 0.0, 0
        for packet in container.demux(stream):
            if packet.pts is None or not packet.size:
                untimed += packet.size > 0
                continue
            time = float((packet.pts - zero) * base)
            last, shown = max(last, time), max(shown, time + float((packet.duration or 0) * base))
            if time >= start - TIME_SLACK and (end is None or time <= end + TIME_SLACK):
                times.append(time)
            if end is not None and packet.dts is not None and (packet.dts - zero) * base > end:
                return Span(sorted(times), None)
        if untimed and not times:
            raise InputError("its frames bear no times", where=path, mend="convert it to mp4")
        announced = float((stream.duration or 0) * base)
        if announced > shown + END_SLACK:
            raise InputError(f"breaks off at {last:.2f} s of {announced:.2f} s", where=path)
        return Span(sorted(times), last)


def frames_at(path: str | Path, times: Sequence[float]) -> Iterator[Picture]:
    """The frames shown at these rising times (of `frame_times`), H×W×3 uint8 RGB, turned as a player would.

    Only the part of the video that is needed is decoded, one frame at a time is held. Raises: InputError
    where the file is damaged, also where one of the frames is missing.
    """
    for seeking in (True, False):
        given = 0
        for time, picture in _decoded_from(path, times[0] if seeking else 0.0):
            if given == 0 and seeking and time > times[0] + TIME_SLACK:
                break  # the seek went too far: from the start, then
            while given < len(times) and times[given] < time - TIME_SLACK:
                raise InputError(f"the frame at {times[given]:.2f} s cannot be decoded", where=path)
            while given < len(times) and times[given] <= time + TIME_SLACK:
                yield picture()
                given += 1
            if given == len(times):
                return
        if given:
            raise InputError(f"breaks off at {times[given]:.2f} s", where=path)
    raise InputError(f"the frame at {times[0]:.2f} s cannot be decoded", where=path)


def _decoded_from(path: str | Path, start: float) -> Iterator[tuple[float, Callable[[], Picture]]]:
    """(s from the video's first frame, what makes the RGB picture) from the key frame before `start` on."""
    with _opened(path) as (container, stream):
        base, zero = stream.time_base or Fraction(1, 1000), stream.start_time or 0
        _seek(container, stream, start)
        for frame in container.decode(stream):
            if frame.pts is not None:
                yield float((frame.pts - zero) * base), partial(_upright, frame)


def _seek(container: av.container.InputContainer, stream: av.video.stream.VideoStream, start: float) -> None:
    """To a key frame at or before `start`. Containers seek by decoding time, which is a little earlier."""
    if start > SEEK_MARGIN and stream.time_base:
        early = int((start - SEEK_MARGIN) / stream.time_base)
        container.seek(early + (stream.start_time or 0), stream=stream)


def _upright(frame: av.VideoFrame) -> Picture:
    turns = -round((frame.rotation or 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), -turns))


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
