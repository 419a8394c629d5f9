"""Videos: read, sample, write. The only module that touches codecs.

One clock for all: seconds from the container's start, as players and annotations count; where sound starts
first, the first frame is later than 0.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
from av.sidedata.sidedata import Type as SideData
from av.video.reformatter import ColorRange

from handi.core.animation import animation_frames
from handi.core.errors import InputError
from handi.core.files import replacing
from handi.core.kinds import is_animation
from handi.core.tars import open_member, tar_of
from handi.core.types import Frames, Picture

MAX_BYTES = 2 * 2**30  # of a video that is read as a whole; it takes twice that for a moment
TIME_SLACK = 1e-4  # s: times of frames are equal to within it
SEEK_MARGIN = 1.0  # s before what is looked for
END_SLACK = 0.5  # s that a container's length may be beyond its last frame
BT709 = 1  # matrix, primaries and transfer have one number in ITU-T H.273
# One thread, as x264's output depends on their number; without mbtree, which reads what freed memory held
# (experiments/encoder.py). So the same frames give the same bytes.
ENCODER = {"crf": "14", "preset": "medium", "x264-params": "threads=1:mbtree=0"}
MAX_STRETCH = 16.0  # of a pixel's sides: more is damage, not a format
# Containers that hold their own pictures and open no other file, as playlists and scripts of ffmpeg do.
FORMATS = "mov,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,mxf,nut,dv,ivf,rm,yuv4mpegpipe,wtv,gif"
COVER = av.stream.Disposition.attached_pic  # the picture of a sound file, which is no video
LISTS = ("ffconcat", "#extm3u", "[playlist]", "[reference]", "<?xml", "<mpd", "<asx", "<smil", "v=0", "file ")


@dataclass(frozen=True)
class VideoInfo:
    """A video as it is shown: turned, mirrored and stretched as its container says."""

    width: int
    height: int
    fps: float
    frames: int  # that a player shows; 0 where the container does not say
    rotation: int  # degrees clockwise that a player turns the stored picture: 0, 90, 180, 270
    mirrored: bool = False  # and whether it mirrors it left-right before that


@contextmanager
def _opened(path: str | Path) -> Iterator[tuple[av.container.InputContainer, av.video.stream.VideoStream]]:
    path = Path(path)
    if path.is_dir():
        raise InputError("is a folder, not a video", where=path)
    inside = tar_of(path) is not None
    if not inside and not path.exists():
        raise InputError("no such video", where=path)
    with open_member(path) if inside else path.open("rb") as file:
        head = file.read(64)
        if not head:
            raise InputError("the video is empty (0 bytes)", where=path)
        if head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(tuple(word.encode() for word in LISTS)):
            raise InputError(
                "is a text that names other files, not a video", where=path, hint="give the video"
            )
        file.seek(0)
        yield from _streams(path, file if inside else f"file:{path}")


def _streams(
    path: Path, source: object
) -> Iterator[tuple[av.container.InputContainer, av.video.stream.VideoStream]]:
    """The container of a video, and its first stream of pictures, while it is open."""
    try:
        options = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
        with av.open(source, container_options=options) as container:
            streams = [s for s in container.streams.video if not s.disposition & COVER]
            if not streams:
                raise InputError("has no video stream", where=path)
            stream = streams[0]
            stream.thread_type = "AUTO"
            yield container, stream
    except av.FFmpegError as error:
        raise InputError(
            f"the video is damaged or not a video ({error.strerror or error})", where=path
        ) from error


# ------------------------------------------------------------------------------------------- frames


@dataclass(frozen=True)
class _Shown:
    """A decoded frame."""

    time: float  # s, see above
    until: float  # s, when the next one is due
    picture: Callable[[], Picture]  # made on demand: most frames are decoded for their successors alone


def decoded_frames(path: str | Path, start: float = 0.0) -> Iterator[_Shown]:
    """All frames from a key frame at or before `start` on, in the order in which they are shown.

    Raises: InputError for what cannot be opened or decoded, and for a size that changes midway.
    """
    if is_animation(Path(path)):
        for begin, until, picture in animation_frames(Path(path)):
            yield _Shown(begin, until, partial(np.copy, picture))
        return
    with _opened(path) as (container, stream):
        base, rate = stream.time_base or Fraction(1, 1000), _rate(stream)
        zero = Fraction(container.start_time or 0, av.time_base)
        # AVI keeps no times of presentation: the order of the pictures and the slots in the file count.
        slots: list[int] | None = [] if container.format.name == "avi" else None
        if start > SEEK_MARGIN and _seekable(stream, slots is not None):
            container.seek(int((start - SEEK_MARGIN + zero) / base), stream=stream)
        show = partial(_upright, aspect=_aspect(stream, path))
        size, last = None, None
        for packet, frame in _frames(container, stream):
            if frame is None:
                if slots is not None and packet.dts is not None:
                    heapq.heappush(slots, packet.dts)
                continue
            if size not in (None, (frame.width, frame.height)):
                was, now = (f"{w}×{h}" for w, h in (size, (frame.width, frame.height)))
                raise InputError(
                    f"its frames change their size from {was} to {now} at {last or 0:.2f} s",
                    where=path,
                    hint="use frames of one size",
                )
            size = frame.width, frame.height
            pts = heapq.heappop(slots) if slots else frame.pts
            time = max(0.0, float(pts * base - zero)) if pts is not None else None
            if last is not None and (time is None or time <= last):
                time = last + 1 / rate
            last = time or 0.0
            yield _Shown(last, last + float((frame.duration or 0) * base), partial(show, frame))


def _frames(
    container: av.container.InputContainer, stream: av.video.stream.VideoStream
) -> Iterator[tuple[av.Packet, av.VideoFrame | None]]:
    """(packet, None) of each packet that shows something, then (packet, frame) of what it set free.

    What cannot be decoded before the first frame is passed over: a recording may begin amid a group of
    pictures. Raises: FFmpegError for damage after it, or where there is nothing else.
    """
    failure: av.FFmpegError | None = None
    begun = False
    for packet in container.demux(stream):
        if packet.size and not packet.is_discard:
            yield packet, None
        try:
            frames = packet.decode()
        except av.InvalidDataError as error:
            if begun:
                raise
            failure = error
            continue
        for frame in frames:
            begun = True
            yield packet, frame
    if failure is not None and not begun:
        raise failure


def _seekable(stream: av.video.stream.VideoStream, avi: bool) -> bool:
    """Whether the decoder can begin anywhere: palettes are sent once, slots are counted from the start."""
    context = stream.codec_context
    return context.pix_fmt != "pal8" and not (avi and context.has_b_frames)


def _rate(stream: av.video.stream.VideoStream) -> Fraction:
    return stream.average_rate or stream.guessed_rate or Fraction(25)


def _aspect(stream: av.video.stream.VideoStream, path: str | Path) -> Fraction:
    """Width of a stored pixel over its height."""
    aspect = stream.sample_aspect_ratio or Fraction(1)
    if aspect > 0 and not 1 / MAX_STRETCH <= aspect <= MAX_STRETCH:
        raise InputError(f"says that its pixels are {aspect} times as wide as high", where=path)
    return aspect if aspect > 0 else Fraction(1)


def _upright(frame: av.VideoFrame, aspect: Fraction) -> Picture:
    """H×W×3 uint8 RGB with square pixels, turned and mirrored by the display matrix as a player does.

    The matrix maps (x, y) to (ax + cy, bx + dy); one that is no multiple of 90° counts as the nearest.
    """
    width = max(1, round(frame.width * aspect))
    pixels = frame.reformat(width, frame.height, "rgb24", interpolation="BICUBIC").to_ndarray()
    a, b, c, d = _matrix(frame)
    if abs(b) + abs(c) > abs(a) + abs(d):
        pixels, a, d = pixels.transpose(1, 0, 2), c, b
    return np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def _matrix(frame: av.VideoFrame) -> tuple[int, int, int, int]:
    """a, b, c, d of a frame's display matrix."""
    data = frame.side_data.get(SideData.DISPLAYMATRIX)
    if data is None:
        return 1, 0, 0, 1
    a, b, _, c, d, *_ = np.frombuffer(bytes(data), np.int32).tolist()
    return a, b, c, d


# ------------------------------------------------------------------------------------------ reading


def read_frames(path: str | Path) -> Iterator[Picture]:
    """Frames of a video one by one, H×W×3 uint8 RGB, in presentation order, as a player shows them.

    Raises: InputError for a file that cannot be opened, has no video stream, or breaks off midway.
    """
    for _, picture in timed_frames(path):
        yield picture


def timed_frames(path: str | Path) -> Iterator[tuple[float, Picture]]:
    """`read_frames` with the presentation time of each frame, s on the container's clock."""
    for shown in decoded_frames(path):
        yield shown.time, shown.picture()


@dataclass(frozen=True)
class Span:
    """The frames of a part of a video, by when they are shown; s on the container's clock."""

    times: list[float]  # rising
    end: float | None  # of the video, where it was reached: when its last frame appears


def frame_times(path: str | Path, start: float = 0.0, end: float | None = None) -> Span:
    """When the frames with start <= time <= end are shown; they are decoded for it.

    Frame rates may vary. Raises: InputError, also for a file that ends before it says so.
    """
    times: list[float] = []
    first, last, until = None, 0.0, 0.0
    for shown in decoded_frames(path, start):
        if end is not None and shown.time > end + TIME_SLACK:
            return Span(times, None)
        first = shown.time if first is None else first
        last, until = shown.time, max(until, shown.until)
        if shown.time >= start - TIME_SLACK:
            times.append(shown.time)
    announced = _announced_end(path)
    if first is not None and announced > until + END_SLACK:
        raise InputError(f"breaks off at {last:.2f} s of {announced:.2f} s", where=path)
    return Span(times, last)


def _announced_end(path: str | Path) -> float:
    """Where a video should end, s on the container's clock; 0 where it does not say."""
    if is_animation(Path(path)):
        return 0.0
    with _opened(path) as (container, stream):
        length = (stream.duration or 0) * (stream.time_base or 0)
        begin = (stream.start_time or 0) * (stream.time_base or 0)
        return float(begin + length) - (container.start_time or 0) / av.time_base if length else 0.0


def frames_at(path: str | Path, times: Sequence[float], start: float | None = None) -> Iterator[Picture]:
    """The frames shown at these rising times (of `frame_times` from the same `start`), H×W×3 uint8 RGB.

    Only the part of the video that is needed is decoded, one frame at a time is held. Raises: InputError
    where the file is damaged, also where one of the frames is missing.
    """
    given = 0
    for shown in decoded_frames(path, times[0] if start is None else start):
        while given < len(times) and times[given] < shown.time - TIME_SLACK:
            raise InputError(f"the frame at {times[given]:.2f} s cannot be decoded", where=path)
        while given < len(times) and times[given] <= shown.time + TIME_SLACK:
            yield shown.picture()
            given += 1
        if given == len(times):
            return
    raise InputError(f"breaks off at {times[given]:.2f} s", where=path)


def count_frames(path: str | Path) -> int:
    """How many frames a player should show, from the packets; nothing is decoded. Raises: InputError."""
    if is_animation(Path(path)):
        return len(list(animation_frames(Path(path))))
    with _opened(path) as (container, stream):
        return sum(1 for packet in container.demux(stream) if packet.size and not packet.is_discard)


def read_video(path: str | Path) -> Frames:
    """All frames of a video, F×H×W×3 uint8 RGB. Raises: InputError, also for a video of no frames."""
    frames: list[Picture] = []
    for frame in read_frames(path):
        if frames and frame.shape != frames[0].shape:
            sizes = [f"{one.shape[1]}×{one.shape[0]}" for one in (frames[0], frame)]
            raise InputError(f"its frames change their size from {sizes[0]} to {sizes[1]}", where=path,
                             hint="convert it to one size")  # fmt: skip
        if (len(frames) + 1) * frame.nbytes > MAX_BYTES:
            what = f"is longer than fits in memory: {len(frames)} frames are {MAX_BYTES / 2**30:.0f} GiB"
            raise InputError(what, where=path, hint="cut it, or make it smaller")
        frames.append(frame)
    if not frames:
        raise InputError("the video holds no frame that can be decoded", where=path)
    return np.stack(frames)


def probe_video(path: str | Path) -> VideoInfo:
    """Size as displayed, frame rate, frame count, rotation. Raises: InputError."""
    if is_animation(Path(path)):
        frames = list(animation_frames(Path(path)))
        height, width = frames[0][2].shape[:2]
        return VideoInfo(width, height, len(frames) / frames[-1][1], len(frames), 0)
    with _opened(path) as (container, stream):
        first = next((frame for _, frame in _frames(container, stream) if frame is not None), None)
        if first is None:
            raise InputError("the video holds no frame that can be decoded", where=path)
        height, width = _upright(first, _aspect(stream, path)).shape[:2]
        a, b, c, d = _matrix(first)
        mirrored = a * d < b * c
        rotation = round(math.degrees(math.atan2(-b if mirrored else b, d)) / 90) * 90 % 360
        count = count_frames(path) if stream.frames else 0
        return VideoInfo(width, height, float(_rate(stream)), count, rotation, mirrored)


def even_indices(total: int, count: int) -> list[int]:
    """`count` frame indices spread evenly over 0..total-1, both ends included (paper §3)."""
    if total < 1 or count < 1:
        raise ValueError(f"cannot pick {count} of {total} frames")
    return [round(i) for i in np.linspace(0, total - 1, count)]


def write_video(path: str | Path, frames: Iterable[np.ndarray], *, fps: float = 8.0) -> None:
    """Write H×W×3 uint8 frames as H.264 yuv420p mp4, BT.709, that a browser plays; atomic.

    The same frames give the same bytes, whatever the load or the number of cores. An odd side loses its last
    row or column, as the pixel format has no half chroma samples. Raises: ValueError for no frame or frames
    of different sizes, OutputError.
    """
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise ValueError("no frames to write")
    height, width = (side - side % 2 for side in first.shape[:2])
    rate = Fraction(fps).limit_denominator(1000)
    with replacing(path) as temporary:
        try:
            with av.open(
                f"file:{temporary}", "w", format="mp4", options={"movflags": "+faststart"}
            ) as container:
                stream = container.add_stream("libx264", rate=rate, options=ENCODER)
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                context = stream.codec_context
                context.colorspace = context.color_primaries = context.color_trc = BT709
                context.color_range = ColorRange.MPEG
                for array in itertools.chain([first], frames):
                    if array.shape != first.shape:
                        raise ValueError(f"a frame of {array.shape} among frames of {first.shape}")
                    pixels = np.ascontiguousarray(array[:height, :width])
                    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                    frame = frame.reformat(
                        format="yuv420p", dst_colorspace=BT709, dst_color_range=ColorRange.MPEG, threads=1,
                        interpolation="BICUBIC",
                    )  # fmt: skip
                    frame.colorspace = frame.color_primaries = frame.color_trc = BT709
                    frame.color_range = ColorRange.MPEG
                    container.mux(stream.encode(frame))
                container.mux(stream.encode())
        except av.FFmpegError as error:
            raise OSError(error.errno, error.strerror) from error
