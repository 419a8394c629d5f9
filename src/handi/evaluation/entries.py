"""One video of a side: its frames, however they are stored, and what is known of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from handi.core.errors import InputError
from handi.core.footage import find_footage
from handi.core.images import open_image, read_image, to_mask
from handi.core.kinds import kind_of
from handi.core.types import BinaryMask, Frames, Picture
from handi.core.video import count_frames, even_indices, probe_video, read_frames, read_video
from handi.world.files import kind_of_area, read_area, read_record

Shape = tuple[int, int, int]  # frames, H, W
TextKind = Literal["short", "enriched"]


@dataclass(frozen=True)
class Entry:
    """What one side has of one id. Paths are not opened before they are needed."""

    id: str
    video: Path | None = None
    area_file: Path | None = None
    context_file: Path | None = None
    text: str | None = None
    description: str | None = None
    truth: Path | None = None  # the record of a world clip
    problem: str | None = None  # why nothing of it can be used

    def check(self) -> None:
        """Raises: InputError for an entry with a problem."""
        if self.problem is not None:
            raise InputError(self.problem)

    def prompt(self, kind: TextKind) -> str | None:
        """What is generated from: the enriched text, if it is asked for and there is one, else the action."""
        return (self.description if kind == "enriched" else None) or self.text

    def shape(self) -> Shape:
        """Frames, H and W as the files announce them, without decoding. Raises: InputError."""
        return _shape(self._video(), self.truth)

    def frames(self, most: int | None = None) -> Frames:
        """F×H×W×3 uint8; of a longer video `most` of them, spread evenly.

        Raises: InputError: damaged, NaN, or fewer frames than announced.
        """
        return _frames(self._video(), self.truth, most)

    @property
    def has_area(self) -> bool:
        """Whether its motion area is given."""
        return self.area_file is not None or self.truth is not None

    def area(self) -> BinaryMask | None:
        """H×W, or None where none is given. Raises: InputError."""
        if self.area_file is not None:
            return to_mask(open_image(self.area_file)) >= 0.5
        if self.truth is not None:
            return read_area(self.truth, kind_of_area(self.truth.parent))
        return None

    def kind_of_area(self) -> str:
        """What its motion area is: "given" as a file, a world clip's "moved" or "hull", else "hull" of the
        hands that are found. Raises: InputError."""
        if self.area_file is not None:
            return "given"
        return "hull" if self.truth is None else kind_of_area(self.truth.parent)

    def context(self) -> Picture | None:
        """H×W×3, where it is given as a file. Raises: InputError."""
        return None if self.context_file is None else read_image(self.context_file)

    def _video(self) -> Path:
        self.check()
        if self.video is None:
            raise InputError("there is no video", where=self.id)
        return self.video


def is_video(path: Path) -> bool:
    """Whether a file is a video by its content; what is named .gif is one, even of one frame or damaged."""
    return path.is_file() and (path.suffix.lower() == ".gif" or kind_of(path) == "video")


def kinds_of_area(entries: Iterable[Entry]) -> list[str]:
    """What the motion areas of these clips are, each kind once. Raises: InputError."""
    return sorted({entry.kind_of_area() for entry in entries})


def _shape(video: Path, truth: Path | None) -> Shape:
    if truth is not None and video.suffix == ".png":
        record = read_record(truth)
        return record["frames"], record["size"], record["size"]
    if video.suffix.lower() == ".npy":
        frames, height, width, _ = _array(video).shape
        return frames, height, width
    if video.is_dir():
        pictures = _pictures(video)
        width, height = open_image(pictures[0]).size
        return len(pictures), height, width
    info = probe_video(video)
    return count_frames(video), info.height, info.width


def _frames(video: Path, truth: Path | None, most: int | None) -> Frames:
    if truth is not None and video.suffix == ".png":
        count, height, width = _shape(video, truth)
        return evenly(_strip(video, count, height, width), most)
    if video.suffix.lower() == ".npy":
        return evenly(_whole_array(video), most)
    if video.is_dir():
        pictures = np.array(_pictures(video))  # they are of one size
        return np.stack([read_image(path) for path in evenly(pictures, most)])
    if most is not None and (count := count_frames(video)) > most:
        return _picked(video, even_indices(count, most))
    frames = read_video(video)
    if (announced := probe_video(video).frames) > len(frames):
        raise InputError(f"breaks off: {len(frames)} of {announced} frames can be read", where=video)
    return frames


def evenly(frames: np.ndarray, most: int | None) -> np.ndarray:
    """`most` of the frames, spread evenly, both ends included; all where there are no more."""
    return frames if most is None or len(frames) <= most else frames[even_indices(len(frames), most)]


def _picked(video: Path, wanted: list[int]) -> Frames:
    """These frames of a video, without holding the others."""
    numbers = set(wanted)
    frames = [frame for number, frame in enumerate(read_frames(video)) if number in numbers]
    if len(frames) < len(wanted):
        raise InputError(f"breaks off: {len(frames)} of {len(wanted)} frames can be read", where=video)
    return np.stack(frames)


def _strip(path: Path, count: int, height: int, width: int) -> Frames:
    strip = read_image(path)
    if strip.shape != (count * height, width, 3):
        raise InputError(f"is no film strip of {count} frames of {width}×{height}", where=path)
    return strip.reshape(count, height, width, 3)


def _pictures(folder: Path) -> tuple[Path, ...]:
    """The pictures of a folder of frames, in order. Raises: InputError."""
    footage = find_footage(folder)
    if [one.kind for one in footage] != ["sequence"]:
        raise InputError("is not an evenly numbered sequence of pictures of one size", where=folder)
    return footage[0].pictures


def _array(path: Path) -> np.ndarray:
    """An .npy file as a memory map. Raises: InputError for anything but F×H×W×3 uint8 or floats."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"is not an array that can be read ({error})", where=path) from error
    if array.ndim != 4 or array.shape[3] != 3 or not array.size:
        raise InputError(f"is {'×'.join(map(str, array.shape))}, not F×H×W×3", where=path)
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise InputError(f"holds {array.dtype}, not uint8 or floats in [0, 1]", where=path)
    return array


def _whole_array(path: Path) -> Frames:
    array = _array(path)
    if array.dtype == np.uint8:
        return np.array(array)
    if not (finite := np.isfinite(array).all(axis=(1, 2, 3))).all():
        bad = np.flatnonzero(~finite)
        more = f" and {len(bad) - 1} others" if len(bad) > 1 else ""
        raise InputError(f"NaN or infinite pixels in frame {bad[0]}{more}", where=path)
    if array.min() < 0 or array.max() > 1:
        raise InputError(f"floats from {array.min():g} to {array.max():g}, not in [0, 1]", where=path)
    return np.rint(array.astype(np.float32) * 255).astype(np.uint8)
