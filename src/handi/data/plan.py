"""Which clips go into which shard: a function of the sorted clips and the settings alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from handi.core.errors import InputError
from handi.core.tars import tar_of
from handi.data import shards
from handi.data.sources.common import Clip
from handi.data.stages import PrepareSettings

MOST_CLIPS = 2**16 - 1  # of a shard: it counts how many areas hold each pixel in 16 bits


@dataclass(frozen=True)
class Shard:
    """A piece of work."""

    name: str  # such as train-00000
    clips: tuple[Clip, ...]
    key: str  # hash of everything that it is a function of


def make_plan(clips: Sequence[Clip], settings: PrepareSettings) -> list[Shard]:
    """Clips by split and id, cut into shards of a fixed number. Raises: InputError for an id given twice."""
    ids = [clip.id for clip in clips]
    if len(set(ids)) < len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise InputError(f"two clips have the id {twice!r}", hint="give each its own")
    if not ids:
        raise InputError("the source holds no clips")
    if not 1 <= settings.clips_per_shard <= MOST_CLIPS:
        raise InputError(f"{settings.clips_per_shard} clips per shard", hint=f"use 1 to {MOST_CLIPS}")
    stamps = _Stamps()
    plan = []
    for split in sorted({clip.split for clip in clips}):
        rows = sorted((clip for clip in clips if clip.split == split), key=lambda clip: clip.id)
        for number, start in enumerate(range(0, len(rows), settings.clips_per_shard)):
            piece = tuple(rows[start : start + settings.clips_per_shard])
            facts = [shards.VERSION, settings.as_dict(), [[_facts(clip), stamps.of(clip)] for clip in piece]]
            key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
            plan.append(Shard(f"{split}-{number:05d}", piece, key))
    return plan


def _facts(clip: Clip) -> dict[str, Any]:
    """What the source says of a clip. Not where the footage lies: that may be another disk tomorrow."""
    facts = asdict(replace(clip, video=None, truth=None, hands=None))
    del facts["hands"]
    if is_dataclass(clip.hands):
        facts["hands"] = {
            entry.name: value.name if isinstance(value := getattr(clip.hands, entry.name), Path) else value
            for entry in fields(clip.hands)
        }
    rendered = is_dataclass(clip.truth) and not isinstance(clip.truth, type)
    truth = asdict(clip.truth) if rendered else clip.truth is not None
    return facts | {"video": clip.video.name if clip.video else None, "truth": truth}


class _Stamps:
    """Bytes and time of change of clips' files, each read once: a video that changed is cut anew."""

    def __init__(self) -> None:
        self._known: dict[Path, list[int] | None] = {}

    def of(self, clip: Clip) -> list[list[int] | None]:
        hands = clip.hands.path if clip.hands is not None else None
        return [self._stamp(path) for path in (clip.video, clip.truth, hands) if isinstance(path, Path)]

    def _stamp(self, path: Path) -> list[int] | None:
        if path not in self._known:
            try:
                stat = (tar_of(path) or path).stat()
                self._known[path] = [stat.st_size, stat.st_mtime_ns]
            except OSError:
                self._known[path] = None
        return self._known[path]
