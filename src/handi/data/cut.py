"""The frames of a clip out of its footage: so many, spread over the action or at a rate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from handi.core.errors import InputError
from handi.core.images import IMAGE_SUFFIXES, cover, read_image
from handi.core.types import Frames, Picture
from handi.core.video import even_indices, frame_times, frames_at
from handi.data.known_hands import KnownHands, known_hands
from handi.data.ledger import Rejected, Row
from handi.data.sources.common import Clip

if TYPE_CHECKING:
    from handi.data.sources.world import Truth
    from handi.data.stages import PrepareSettings

END_SLACK = 0.5  # s that an annotation may reach beyond its video: hand-made ones often do a little
SLACK = 1e-4  # s


@dataclass(frozen=True)
class Cut:
    """A clip's frames at the size asked for."""

    frames: Frames
    figures: Row  # of the ledger
    truth: Truth | None = None  # of a world clip: of just these frames
    hands: KnownHands | None = None  # where the settings ask for those of the data set
    mirrors: bool = True


def cut(clip: Clip, settings: PrepareSettings) -> Cut:
    """The frames that `settings` ask for, cropped around their middle and resized to H×W.

    Raises: Rejected, whatever is wrong with the footage.
    """
    if not clip.action:
        raise Rejected("has no words")
    try:
        if clip.truth is not None:
            return _cut_world(clip, settings)
        if clip.video is None:
            raise Rejected("has no video")
        shape: tuple[int, ...] | None = None
        source = _from_folder if clip.video.is_dir() else _from_video
        pictures, figures, times = source(clip, clip.video, settings)
        fitted = []
        for picture in pictures:
            if shape not in (None, picture.shape):
                raise Rejected(f"its frames change their size from {_size(shape)} to {_size(picture.shape)}")
            shape = picture.shape
            fitted.append(cover(picture, *settings.size))
        hands = None
        if settings.hands == "known" and shape is not None:
            if clip.hands is None:
                raise Rejected("its data set says nothing of its hands")
            hands = known_hands(clip.hands, times, (shape[0], shape[1]), settings.size)
    except Rejected:
        raise
    except InputError as error:
        raise Rejected(error.what) from error
    except Exception as error:  # of a file that breaks its decoder in ways of its own
        raise Rejected(f"cannot be read ({type(error).__name__}: {' '.join(str(error).split())})") from error
    figures = {**figures, "source_size": list(shape[:2]) if shape else None}
    return Cut(np.stack(fitted), figures, hands=hands)


def _from_video(
    clip: Clip, video: Path, settings: PrepareSettings
) -> tuple[Iterator[Picture], Row, list[float]]:
    span = frame_times(video, clip.start, clip.end)
    chosen, figures = choose_frames(clip, span.times, settings, span.end)
    times = [span.times[index] for index in chosen]
    return frames_at(video, times, clip.start), figures, times


def _from_folder(
    clip: Clip, folder: Path, settings: PrepareSettings
) -> tuple[Iterator[Picture], Row, list[float]]:
    """Of a folder of numbered frames: number n, from 0, is shown at n / fps."""
    if not clip.fps:
        raise Rejected("is a folder of frames without a frame rate")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        raise Rejected("its folder holds no frames")
    times = [number / clip.fps for number in range(len(paths))]
    end = clip.end if clip.end is not None else times[-1]
    inside = [n for n, time in enumerate(times) if clip.start - SLACK <= time <= end + SLACK]
    video_end = times[-1] if end > times[-1] else None
    chosen, figures = choose_frames(clip, [times[n] for n in inside], settings, video_end)
    numbers = [inside[index] for index in chosen]
    return (read_image(paths[number]) for number in numbers), figures, [times[n] for n in numbers]


def _cut_world(clip: Clip, settings: PrepareSettings) -> Cut:
    from handi.data.sources.world import part_of, read_truth  # only where it is needed: it takes a second

    truth = read_truth(clip.truth)
    shape = list(truth.frames.shape[1:3])
    if settings.first_frames:
        if not truth.requests:
            raise Rejected("is a clip, others are first frames")
        if tuple(shape) != settings.size:
            raise Rejected(f"is a first frame of {_size(shape)}, others are {_size(settings.size)}")
        figures: Row = {"seconds": 0.0, "source_frames": 1, "uneven": False}
    else:
        if truth.requests:
            raise Rejected("is a first frame, others are clips")
        times = [number / truth.fps for number in range(len(truth.frames))]
        chosen, figures = choose_frames(clip, times, settings, None)
        truth = part_of(truth, chosen)
    fitted = np.stack([cover(frame, *settings.size) for frame in truth.frames])
    return Cut(fitted, {**figures, "source_size": shape}, truth, mirrors=truth.mirrors)


def choose_frames(
    clip: Clip, times: Sequence[float], settings: PrepareSettings, video_end: float | None
) -> tuple[list[int], Row]:
    """Which of the frames shown at these times (s, rising) a clip takes, and what is measured on them.

    Without a rate they are spread evenly over the clip's time; with one they begin at its start and stand
    1 / fps apart. video_end: s, where the video was read to its end. Raises: Rejected.
    """
    if video_end is not None:
        if clip.start > video_end + SLACK:
            raise Rejected(f"begins at {clip.start:.2f} s, its video ends at {video_end:.2f} s")
        if clip.end is not None and clip.end > video_end + END_SLACK:
            raise Rejected(f"goes to {clip.end:.2f} s, its video ends at {video_end:.2f} s")
    count = settings.frames
    if len(times) < count:
        raise Rejected(f"has {len(times)} frames, {count} are needed")
    array = np.array(times)
    steps = np.diff(array)
    uneven = bool(steps.max() - steps.min() >= 0.5 * np.median(steps))
    if settings.fps is not None:
        wanted = array[0] + np.arange(count) / settings.fps
        if wanted[-1] > array[-1] + np.median(steps) / 2:
            what = f"{count} frames at {settings.fps:g} per second take {wanted[-1] - wanted[0]:.2f} s"
            raise Rejected(f"lasts {array[-1] - array[0]:.2f} s, {what}")
        indices = _nearest(array, wanted)
        if len(set(indices)) < count:
            raise Rejected(f"has fewer frames per second than the {settings.fps:g} that are asked for")
    elif uneven:
        indices = _nearest(array, np.linspace(array[0], array[-1], count))
    else:  # evenly spaced frames
        indices = even_indices(len(times), count)
    figures = {
        "seconds": round(times[indices[-1]] - times[indices[0]], 4),
        "source_frames": len(times),
        "uneven": uneven,
    }
    return indices, figures


def _nearest(times: np.ndarray, wanted: np.ndarray) -> list[int]:
    return [int(np.abs(times - time).argmin()) for time in wanted]


def _size(shape: Sequence[int] | None) -> str:
    return "×".join(map(str, (shape or ())[:2]))
