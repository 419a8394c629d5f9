"""One video of an evaluation: its frames, in whatever form they are stored, and what is known about it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import suppress
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
from handi.data.dataset import PreparedClips
from handi.data.shards import read_prepared

Shape = tuple[int, int, int]  # frames, H, W
TextKind = Literal["short", "enriched"]


@dataclass(frozen=True)
class Entry:
    """What a folder has for one id. No file is opened before it is needed."""

    id: str
    video: Path | None = None
    area_file: Path | None = None
    context_file: Path | None = None
    text: str | None = None
    description: str | None = None  # the enriched text
    truth: Path | None = None  # the record of a world clip
    problem: str | None = None  # why nothing of it can be used

    def check(self) -> None:
        """Raises: InputError for an entry with a problem."""
        if self.problem is not None:
            raise InputError(self.problem)

    def prompt(self, kind: TextKind) -> str | None:
        """The text to generate from: the enriched one if it is asked for and exists, else the action."""
        return (self.description if kind == "enriched" else None) or self.text

    def shape(self) -> Shape:
        """Frames, H and W as the files announce them, without decoding. Raises: InputError."""
        video = self._video()
        if video.suffix.lower() == ".npy":
            frames, height, width, _ = _array(video).shape
            return frames, height, width
        if video.is_dir():
            pictures = _pictures(video)
            width, height = open_image(pictures[0]).size
            return len(pictures), height, width
        info = probe_video(video)
        return count_frames(video), info.height, info.width

    def frames(self, most: int | None = None) -> Frames:
        """F×H×W×3 uint8; `most` evenly spread frames of a longer video.

        Raises: InputError: damaged, NaN, or fewer frames than announced.
        """
        video = self._video()
        if video.suffix.lower() == ".npy":
            return evenly(_whole_array(video), most)
        if video.is_dir():
            pictures = np.array(_pictures(video))  # they are of one size
            return np.stack([read_image(path) for path in evenly(pictures, most)])
        if most is not None and (count := count_frames(video)) > most:
            wanted = set(even_indices(count, most))
            found = [frame for number, frame in enumerate(read_frames(video)) if number in wanted]
            frames, announced = np.array(found), most
        else:
            frames, announced = read_video(video), probe_video(video).frames
        if len(frames) < announced:
            raise InputError(f"breaks off: {len(frames)} of {announced} frames can be read", where=video)
        return frames

    @property
    def has_area(self) -> bool:
        """Whether its motion area is given."""
        return self.area_file is not None

    def area(self) -> BinaryMask | None:
        """H×W, or None if none is given. Raises: InputError."""
        return None if self.area_file is None else to_mask(open_image(self.area_file)) >= 0.5

    def kind_of_area(self) -> str:
        """What its motion area is: "given" as a file, "moved" pixels, or the "hull" of the hands.

        Raises: InputError.
        """
        return "hull" if self.area_file is None else "given"

    def context(self) -> Picture | None:
        """H×W×3, if it is given as a file. Raises: InputError."""
        return None if self.context_file is None else read_image(self.context_file)

    def _video(self) -> Path:
        self.check()
        if self.video is None:
            raise InputError("there is no video", where=self.id)
        return self.video


def kinds_of_area(entries: Iterable[Entry]) -> list[str]:
    """What the motion areas of these clips are, each kind once. Raises: InputError."""
    return sorted({entry.kind_of_area() for entry in entries})


def is_video(path: Path) -> bool:
    """Whether a file is a video by its content. A file named .gif is one, even with one frame or damaged."""
    return path.is_file() and (path.suffix.lower() == ".gif" or kind_of(path) == "video")


def evenly(frames: np.ndarray, most: int | None) -> np.ndarray:
    """`most` evenly spread frames, both ends included; all frames if there are no more."""
    return frames if most is None or len(frames) <= most else frames[even_indices(len(frames), most)]


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


# ------------------------------------------------------------------------------------ prepared clips


@dataclass(frozen=True)
class PreparedEntry(Entry):
    """A clip in a shard that `handi prepare` wrote; `video` is the folder of the shards."""

    clips: PreparedClips = None  # type: ignore[assignment]  # a field after those with defaults needs one
    index: int = 0

    def shape(self) -> Shape:
        return self.clips.frames, *self.clips.size

    def frames(self, most: int | None = None) -> Frames:
        return evenly(np.array(self.clips[self.index].frames), most)

    @property
    def has_area(self) -> bool:
        return True

    def area(self) -> BinaryMask | None:
        return self.clips[self.index].area

    def kind_of_area(self) -> str:
        return self.clips.kind_of_area


def prepared_entries(folder: Path) -> dict[str, Entry]:
    """The clips of the split "test" by id, or those of "val" if there is none. Raises: InputError."""
    tests = read_prepared(folder)["splits"].get("test", {}).get("kept")
    clips = PreparedClips(folder, "test" if tests else "val")
    if clips.pictures == "none":
        raise InputError("was prepared without pictures", where=folder, hint="prepare it with them")
    entries: dict[str, Entry] = {}
    for index in range(len(clips)):
        row = clips.row(index)
        id, text, description = row["id"], row["action"], row["description"]
        entries[id] = PreparedEntry(
            id, video=folder, text=text, description=description, clips=clips, index=index
        )
    return entries


def fingerprint(entries: Iterable[Entry]) -> str:
    """Equal as long as no file of a folder has changed: names, sizes and times of change, and the texts."""
    digest = hashlib.sha256()
    for entry in entries:
        digest.update(repr((entry.id, entry.text, entry.description)).encode())
        area = None if entry.truth is None else entry.truth.with_suffix(".area.png")
        for path in (entry.video, entry.area_file, entry.context_file, entry.truth, area):
            if path is None:
                continue
            for file in sorted(path.iterdir()) if path.is_dir() else [path]:
                with suppress(OSError):
                    stat = file.stat()
                    digest.update(repr((file.name, stat.st_size, stat.st_mtime_ns)).encode())
    return digest.hexdigest()
