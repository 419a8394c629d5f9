"""EPIC-KITCHENS-100: the published CSV annotations, joined to videos or folders of frames."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from handi.core.errors import InputError
from handi.core.kinds import some
from handi.core.reading import Row, read_csv
from handi.data.sources.common import (
    PAPER,
    SPLITS,
    Annotation,
    Clip,
    ClipLength,
    SourceClips,
    Split,
    clip_id,
    sentence,
)

FILES: dict[Split, str] = {"train": "EPIC_100_train.csv", "val": "EPIC_100_validation.csv"}
PUBLISHED = {"EPIC_100_train.csv": 67_217, "EPIC_100_validation.csv": 9_668}  # rows
COLUMNS = ("narration_id", "participant_id", "video_id", "start_timestamp", "stop_timestamp", "narration")
SUFFIXES = (".MP4", ".mp4")
# Pictures per second of the published frames, which the annotated frame numbers count. The videos themselves
# have other rates (59.94, 50, and a few 29.97, 47.95 and 90): those are cut by time.
OLD_RATE, NEW_RATE = 60.0, 50.0  # of PXX_YY (EPIC-KITCHENS-55) and of PXX_1YY


def read_epic(annotations: Path, videos: Sequence[Path], length: ClipLength = PAPER) -> SourceClips:
    """All annotated actions of EPIC-KITCHENS-100; those shorter than `length` have a problem.

    annotations: the folder of the published CSV files, or one of them. videos: the folders that hold
    PXX/videos/PXX_YY.MP4, or frames as PXX/rgb_frames/PXX_YY/frame_0000000001.jpg. Raises: InputError.
    """
    notes: list[str] = []
    return SourceClips([entry.clip for entry in epic_entries(annotations, videos, notes, length)], notes)


def epic_entries(
    annotations: Path, videos: Sequence[Path], notes: list[str], length: ClipLength
) -> list[Annotation]:
    """`read_epic` with the names that other lists may use. Appends to `notes`. Raises: InputError."""
    files = _files(annotations, notes)
    folder = files[0][1].parent
    footage = _Footage(videos)
    durations = _durations(folder / "EPIC_100_video_info.csv")
    verbs = _classes(folder / "EPIC_100_verb_classes.csv")
    nouns = _classes(folder / "EPIC_100_noun_classes.csv")
    entries: list[Annotation] = []
    for split, path in files:
        rows = read_csv(path, COLUMNS)
        if not rows:
            raise InputError("holds no annotations", where=path)
        if (published := PUBLISHED.get(path.name)) not in (None, len(rows)):
            notes.append(f"{path.name}: {len(rows):,} annotations, published are {published:,}")
        if untimed := sum(row.values.get("narration_timestamp") == "" for row in rows):
            what = "annotations have no narration timestamp; their start and stop are used"
            notes.append(f"{path.name}: {untimed:,} {what}")
        for row in rows:
            verb = verbs.get(row["verb_class"], row["verb"]) or None
            noun = nouns.get(row["noun_class"], row["noun"]) or None
            entries.append(_entry(row, split, footage, durations, verb, noun, length))
    return entries


def _files(annotations: Path, notes: list[str]) -> list[tuple[Split, Path]]:
    """The annotation files to read, training first."""
    if annotations.is_file():
        named: list[Split] = [split for split in SPLITS if split in annotations.stem.lower()]
        return [(named[0] if named else "train", annotations)]
    if not annotations.is_dir():
        raise InputError("no such file or folder", where=annotations)
    found = [(split, annotations / name) for split, name in FILES.items() if (annotations / name).is_file()]
    if not found:
        raise InputError(
            f"holds neither {' nor '.join(FILES.values())}",
            where=annotations,
            hint="clone github.com/epic-kitchens/epic-kitchens-100-annotations and name its folder",
        )
    notes += [f"{name} is not there" for name in FILES.values() if not (annotations / name).is_file()]
    return found


def _entry(
    row: Row,
    split: Split,
    footage: _Footage,
    durations: dict[str, float],
    verb: str | None,
    noun: str | None,
    length: ClipLength,
) -> Annotation:
    name, video_id = row["narration_id"], row["video_id"]
    rate = NEW_RATE if re.fullmatch(r"P\d+_\d{3,}", video_id) else OLD_RATE
    problem = row.problem
    start, end = _seconds(row["start_timestamp"]), _seconds(row["stop_timestamp"])
    first, last = _number(row["start_frame"]), _number(row["stop_frame"])
    if not name:
        problem = problem or f"line {row.line} has no narration_id"
    if not row["narration"]:
        problem = problem or "has no narration"
    if start is None or end is None:
        column = "start_timestamp" if start is None else "stop_timestamp"
        problem = problem or f"has no {column} of the form hh:mm:ss ({row[column]!r})"
        start = end = 0.0
    elif end <= start:
        problem = problem or f"stops at {end:g} s, before it starts at {start:g} s"
    if first and last and last - first < (steps := length.steps(rate)):
        problem = problem or f"is {last - first + 1} frames long, {steps + 1} are needed"
    place = footage.find(video_id)
    fps = None
    if place.frames:
        fps = rate
        if first and last:
            start, end = (first - 1) / fps, (last - 1) / fps
            if last > place.frames:
                problem = problem or f"stops at frame {last}; there are {place.frames} of {video_id}"
    elif (seconds := durations.get(video_id)) is not None and end > seconds:
        # Rounded times may lie a frame behind the last one.
        if end > seconds + 0.05:
            problem = problem or f"stops at {end:g} s; {video_id} is {seconds:.2f} s long"
        end = min(end, seconds)
    clip = Clip(
        id=clip_id(name or f"line-{row.line}"),
        video=place.path,
        start=start,
        end=end,
        action=sentence(row["narration"]),
        split=split,
        verb=verb,
        noun=noun,
        participant=row["participant_id"] or None,
        problem=problem or place.problem,
        fps=fps,
    )
    number = name.rpartition("_")[2]
    return Annotation(clip, row["narration"], (video_id,), (name, number), (first or 0, last or 0))


def _seconds(text: str) -> float | None:
    """ "00:01:02.50" → 62.5."""
    match = re.fullmatch(r"(\d+):([0-5]?\d):([0-5]?\d(?:\.\d+)?)", text)
    return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3]) if match else None


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() else None


def _durations(path: Path) -> dict[str, float]:
    """Seconds of each video, where the published list of them lies with the annotations."""
    if not path.is_file():
        return {}
    rows = read_csv(path, ("video_id", "duration"))
    try:
        return {row["video_id"]: float(row["duration"]) for row in rows}
    except ValueError as error:
        raise InputError(f"has a duration that is no number ({error})", where=path) from error


def _classes(path: Path) -> dict[str, str]:
    """Names of the verb or noun classes by number, where the list of them lies with the annotations."""
    return {row["id"]: row["key"] for row in read_csv(path, ("id", "key"))} if path.is_file() else {}


@dataclass(frozen=True)
class _Place:
    """Where the pictures of a video are."""

    path: Path | None
    problem: str | None = None
    frames: int = 0  # of a folder of frames


class _Footage:
    """Finds videos and frames under the root folders as the official download script lays them out."""

    def __init__(self, roots: Sequence[Path]) -> None:
        for root in roots:
            if not root.is_dir():
                raise InputError("no such folder of videos", where=root)
        # The script's --output-path is the parent of the folder that it makes.
        self.roots = [r / "EPIC-KITCHENS" if (r / "EPIC-KITCHENS").is_dir() else r for r in roots]
        self.find = cache(self._find)

    def _find(self, video: str) -> _Place:
        if not re.fullmatch(r"P\d+_\d+", video):
            return _Place(None, f"has no video_id of the form P01_01 ({video!r})")
        participant = video.partition("_")[0]
        for folder in self._folders(participant, "videos"):
            for suffix in SUFFIXES:
                if (path := folder / f"{video}{suffix}").is_file():
                    return _Place(path)
        packed: Path | None = None
        for folder in self._folders(participant, "rgb_frames"):
            if (path := folder / video).is_dir():
                return _frames_in(path)
            if packed is None and (path := folder / f"{video}.tar").is_file():
                packed = path
        if packed is not None:
            tar, into = shlex.quote(str(packed)), shlex.quote(str(packed.with_suffix("")))
            unpack = f"mkdir {into} && tar xf {tar} -C {into}"
            return _Place(None, f"the frames of {video} are still packed; unpack them: {unpack}")
        return _Place(None, f"there is no video {video}.MP4 and there are no frames of it")

    def _folders(self, participant: str, kind: str) -> Iterator[Path]:
        for root in self.roots:
            yield root / participant / kind
            yield root


def _frames_in(folder: Path) -> _Place:
    """A folder of frames, if it has all from the first to the last."""
    names = (re.fullmatch(r"frame_(\d{10})\.jpg", path.name) for path in folder.iterdir())
    numbers = sorted(int(name[1]) for name in names if name)
    if not numbers:
        return _Place(None, f"{folder.name} holds no frame_0000000001.jpg, …")
    if numbers != list(range(1, len(numbers) + 1)):
        there = set(numbers)
        gaps = [f"{n:010d}" for n in range(1, numbers[-1] + 1) if n not in there]
        return _Place(None, f"of the frames of {folder.name} these are missing: {some(gaps)}")
    return _Place(folder, frames=len(numbers))
