"""Ego4D on disk: where its `ego4d` command puts videos, and what ego4d.json says of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from handi.core.errors import InputError
from handi.core.reading import finite, stream_array
from handi.data.sources.common import SPLITS, Split, check_split

METADATA = "ego4d.json"
TASKS = "lta|hands|sta|oscc-pnr"  # whose files say which pieces of a video are in which split
KINDS_OF_VIDEO = ("full_scale", "video_540ss")


class Metadata:
    """What ego4d.json and the files of the benchmark's tasks say of each video."""

    def __init__(self, homes: Sequence[Path], annotations: Path, curated: bool = False) -> None:
        self.curated = curated  # splits are another list's business
        self.durations: dict[str, float] = {}
        self.fps: dict[str, float] = {}
        self.participants: dict[str, str] = {}
        self._videos: dict[str, Split] = {}
        file = next((home / METADATA for home in homes if (home / METADATA).is_file()), None)
        self._pieces: dict[str, Split] = {}
        if file is None and curated:
            return
        if file is None:
            raise InputError(
                "is not there: it says which videos are for training, which for validation and test",
                where=homes[0] / METADATA,
                hint="load it: ego4d --output_directory DIR --datasets annotations --metadata",
            )
        for video in stream_array(file, "videos"):
            self._add(mapping(video))
        if not curated:
            self._pieces = dict(_splits_of_pieces(annotations))

    def _add(self, video: Mapping[str, Any]) -> None:
        uid, facts = str(video.get("video_uid")), mapping(video.get("video_metadata"))
        if duration := positive(video.get("duration_sec")):
            self.durations[uid] = duration
        if fps := positive(facts.get("fps")):
            self.fps[uid] = fps
        if (person := video.get("fb_participant_id")) is not None:
            self.participants[uid] = f"{person:g}" if isinstance(person, float) else str(person)
        # "multi": its pieces are in several splits; a video of no hands-and-objects task has another's split.
        named = [video[k] for k in ("split_fho", "split_em", "split_av") if isinstance(video.get(k), str)]
        if named and named[0] != "multi":
            try:
                self._videos[uid] = check_split(named[0])
            except ValueError as error:
                raise InputError(f"names no split for {uid}: {error}", where=METADATA) from error

    def split(self, video: str, piece: str | None) -> Split | None:
        """The split of a video's piece; None where no file says so."""
        return self._pieces.get(str(piece)) or self._videos.get(video)


def _splits_of_pieces(folder: Path) -> Iterator[tuple[str, Split]]:
    """(clip uid, split) of fho_lta_train.json and its like, training first: the last of a piece counts."""
    for split in SPLITS:
        for file in sorted(folder.glob(f"fho_*_{split}*.json")):
            if re.fullmatch(rf"fho_({TASKS})_{split}(_unannotated)?\.json", file.name):
                for piece in stream_array(file, "clips"):
                    if uid := mapping(piece).get("clip_uid"):
                        yield str(uid), split


class VideoFinder:
    """Finds videos as the `ego4d` command lays them out."""

    def __init__(self, roots: Sequence[Path]) -> None:
        for root in roots:
            if not root.is_dir():
                raise InputError("no such folder of videos", where=root)
        self.roots = [folder for root in roots for folder in (root, root / "v2") if folder.is_dir()]
        self._there = {
            (kind, path.stem): path
            for root in reversed(self.roots)
            for kind in (*KINDS_OF_VIDEO, "clips")
            for path in (root / kind).glob("*")
            if path.suffix.lower() == ".mp4"
        }

    def find(self, video: str, piece: str | None) -> tuple[Path | None, bool]:
        """(a video's file, True), else (the file of the piece that was annotated, False)."""
        for kind in KINDS_OF_VIDEO:
            if path := self._there.get((kind, video)):
                return path, True
        path = self._there.get(("clips", str(piece)))
        return path, path is None


def mapping(value: object) -> Mapping[str, Any]:
    """A JSON object, or an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def dicts(value: object) -> list[dict[str, Any]]:
    """The objects of a JSON array; none for anything else."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def positive(value: object) -> float | None:
    """A number above 0; None for anything else."""
    number = finite(value)
    return number if number is not None and number > 0 else None
