"""Footage as a user names it: a picture, a video, an image sequence, or a folder of any of these."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from handi.core.errors import InputError
from handi.core.images import open_image, read_image
from handi.core.kinds import Kind, files_in, kind_of, natural
from handi.core.types import Picture
from handi.core.video import count_frames, probe_video, timed_frames

SEQUENCE_FPS = 8.0  # of an image sequence, which has none of its own: that of the paper's clips


@dataclass(frozen=True)
class Footage:
    """One picture or clip."""

    kind: Literal["picture", "video", "sequence"]
    path: Path  # of a sequence: its folder, or its pattern
    pictures: tuple[Path, ...] = ()  # of a picture or a sequence, in order

    @property
    def name(self) -> str:
        """A name for the folder of its results."""
        return re.sub(r"%\d*d", "", self.path.stem).strip("_-. ") or self.path.parent.name or "sequence"

    def frames(self) -> Iterator[tuple[float, Picture]]:
        """(seconds, H×W×3 uint8) one by one. Raises: InputError (damaged, or a size that changes midway)."""
        size: tuple[int, ...] | None = None
        for number, (time, picture) in enumerate(self._frames()):
            if size not in (None, picture.shape):
                raise InputError(
                    f"frame {number} is {_size(picture.shape)}, the frames before it {_size(size or ())}",
                    where=self.path,
                    hint="use frames of one size",
                )
            size = picture.shape
            yield time, picture

    def _frames(self) -> Iterator[tuple[float, Picture]]:
        if self.kind == "video":
            yield from timed_frames(self.path)
        for number, path in enumerate(self.pictures):
            yield number / SEQUENCE_FPS, read_image(path)

    @cached_property
    def announced(self) -> int:
        """How many frames the file says that it holds. Raises: InputError."""
        return count_frames(self.path) if self.kind == "video" else len(self.pictures)

    @cached_property
    def fps(self) -> float:
        """Mean frame rate. Raises: InputError."""
        return probe_video(self.path).fps if self.kind == "video" else SEQUENCE_FPS

    def fingerprint(self) -> list[list[str | int]]:
        """Name, bytes and time of change of each file: equal for footage that is the same."""
        stats = [(path, path.stat()) for path in (self.pictures or (self.path,))]
        return [[path.name, stat.st_size, stat.st_mtime_ns] for path, stat in stats]


def _size(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape[:2]))


def find_footage(source: str | Path, say: Callable[[str], None] | None = None) -> list[Footage]:
    """What a path means: a file; a pattern such as frames/%04d.png; or all pictures and videos of a folder.

    A folder of pictures alone that are of one size and numbered evenly is one image sequence; pictures of any
    other folder are taken one by one. What a file is, its content says; `say` reports what is passed over.
    Raises: InputError, also when there is nothing.
    """
    path = Path(source)
    if path.is_dir():
        return _in_folder(path, say)
    if "%" in path.name and not path.exists():
        return [_sequence_of_pattern(path)]
    if not path.exists():
        raise InputError("no such file or folder", where=path)
    return [_one(path, kind_of(path) or "video")]


def _one(path: Path, kind: Kind) -> Footage:
    return Footage(kind, path, (path,) if kind == "picture" else ())


def _in_folder(folder: Path, say: Callable[[str], None] | None) -> list[Footage]:
    files = files_in(folder)
    if say is not None:
        for note in files.passed_over():
            say(f"note: {folder}: {note}")
    if not files.pictures and not files.videos:
        raise InputError("holds no picture and no video", where=folder)
    if not files.videos and _is_sequence(files.pictures):
        return [Footage("sequence", folder, tuple(files.pictures))]
    kinds: dict[Path, Kind] = dict.fromkeys(files.pictures, "picture")
    kinds |= dict.fromkeys(files.videos, "video")
    return [_one(path, kinds[path]) for path in sorted(kinds, key=natural)]


def _is_sequence(pictures: list[Path]) -> bool:
    """Two pictures or more that are named alike but for an evenly rising number, and are of one size."""
    parts = [re.split(r"(\d+)(?=\D*$)", path.name) for path in pictures]  # before, the last number, after
    if len(pictures) < 2 or any(len(part) != 3 for part in parts):
        return False
    if len({(before, after) for before, _, after in parts}) > 1:
        return False
    numbers = [int(number) for _, number, _ in parts]
    if len({later - earlier for earlier, later in itertools.pairwise(numbers)}) > 1:
        return False
    try:
        return len({open_image(path).size for path in pictures}) == 1
    except InputError:  # a damaged one is named when its turn comes
        return False


def _sequence_of_pattern(pattern: Path) -> Footage:
    parts = re.split(r"%(0?)(\d*)d", pattern.name)
    if len(parts) != 4:
        raise InputError("a pattern needs one number, as in frames/%04d.png", where=pattern)
    before, zero, digits, after = parts
    number = rf"\d{{{int(digits)},}}" if zero and digits else r"\d+"
    form = re.compile(re.escape(before) + number + re.escape(after))
    folder = pattern.parent
    found = [path for path in folder.iterdir() if form.fullmatch(path.name)] if folder.is_dir() else []
    if not found:
        raise InputError("no picture has such a name", where=pattern)
    return Footage("sequence", pattern, tuple(sorted(found, key=natural)))
