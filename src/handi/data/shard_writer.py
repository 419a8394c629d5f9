"""A worker of `handi prepare`: the clips of a shard into its tar, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from handi.core.device import one_thread
from handi.core.errors import HandiError, reason
from handi.core.files import replacing, write_text, writing
from handi.core.reading import read_json
from handi.core.stores import upload
from handi.data import shards
from handi.data.claim import WORK
from handi.data.ledger import FAILED, KEPT, Rejected, row_of
from handi.data.plan import Shard
from handi.data.sources.common import Clip
from handi.data.stages import Prepared, PrepareSettings, Tools, prepare_clip

TRIES = 3  # of a clip on which workers die, in one run


@dataclass(frozen=True)
class Done:
    """A shard that is finished."""

    name: str
    clips: int  # of its plan
    rejected: int


@dataclass(frozen=True)
class BuildWorker:
    """What a worker is made of; picklable."""

    out: Path
    settings: PrepareSettings
    tools: Callable[[int], Tools]
    run: str  # names this run, so that deaths in an earlier one do not count
    store: str | None = None  # the URL of an object store that the shards belong into

    def __call__(self, number: int) -> Callable[[Shard], Done]:
        with one_thread():
            return ShardWriter(self.out, self.settings, self.tools(number), self.run, self.store)


class ShardWriter:
    """A worker: clips of a shard one after the other into its tar, one clip in memory at a time."""

    def __init__(
        self, out: Path, settings: PrepareSettings, tools: Tools, run: str, store: str | None = None
    ) -> None:
        self.out, self.settings, self.tools, self.run, self.store = out, settings, tools, run, store

    def __call__(self, shard: Shard) -> Done:
        """Write a shard. Raises: OutputError; what a model raises."""
        tar = self.out / shards.SHARDS / f"{shard.name}.tar"
        if self.store is not None:  # another machine's copy may be new
            with writing(self.out):
                (self.out / WORK).mkdir(parents=True, exist_ok=True)
        trials = Trials(self.out / WORK / f"{shard.name}.trial", self.run)
        areas = np.zeros(self.settings.size, np.int64)
        rows, offset = [], 0
        with one_thread():
            with replacing(tar) as temporary, open(temporary, "wb") as file:
                for clip, made in self._prepared(shard, trials):
                    if isinstance(made, str):
                        rows.append(row_of(clip, reason=made))
                        continue
                    piece = shards.pack(clip.id, made.members)
                    place = (shard.name, offset, len(piece), hashlib.sha256(piece).hexdigest())
                    rows.append(made.row | dict(zip(shards.PLACE, place, strict=True)))
                    file.write(piece)
                    offset += len(piece)
                    areas += made.area
                trials.begin(None)
                file.write(bytes(2 * shards.BLOCK))  # the end of a tar
                file.flush()
                os.fsync(file.fileno())
                size = file.tell()
                # The part of an earlier tar must not stand beside this one.
                shards.part_path(self.out, shard.name).unlink(missing_ok=True)
            kept = sum(row["status"] == KEPT for row in rows)
            if not kept:
                tar.unlink()
            text = shards.part_text(shard.key, size if kept else 0, areas, rows)
            part = shards.part_path(self.out, shard.name)
            write_text(part, text)
        trials.end()
        if self.store is not None:  # the part last: where it is, the tar is
            names = [tar] if kept else []
            upload(self.out, self.store, [str(p.relative_to(self.out)) for p in (*names, part)])
        return Done(shard.name, len(shard.clips), len(rows) - kept)

    def _prepared(self, shard: Shard, trials: Trials) -> Iterator[tuple[Clip, Prepared | str]]:
        """Each clip of a shard, prepared, or with the reason why it is rejected."""
        for planned in shard.clips:
            try:
                trials.begin(planned.id)
                clips = rendered(planned)
            except Exception as error:
                yield planned, _reason(error)
                continue
            for clip in clips:
                try:
                    made: Prepared | str = prepare_clip(clip, self.settings, self.tools)
                except Exception as error:
                    made = _reason(error)
                yield clip, made


def rendered(clip: Clip) -> list[Clip]:
    """The clips that a seed of the world gives, rendered; any other clip as it is."""
    if clip.truth is None or isinstance(clip.truth, Path):
        return [clip]
    from handi.data.sources.world import render_clips  # only where it is needed: it takes a second to load

    return render_clips(clip)


def _reason(error: Exception) -> str:
    """Why a clip is rejected. Raises the error again where the clip is not at fault."""
    if isinstance(error, Rejected):
        return str(error)
    if isinstance(error, HandiError | MemoryError | torch.OutOfMemoryError):
        raise error
    return f"{FAILED}: {reason(error)}"


class Trials:
    """How often workers have died on each clip of a shard, so that one that kills them comes to be rejected.

    On disk, as the worker that knew it is dead; of one run only, so that a run that is killed again and again
    rejects nothing.
    """

    def __init__(self, path: Path, run: str) -> None:
        self.path, self.run = path, run
        self.deaths: dict[str, int] = {}
        with suppress(OSError, ValueError, KeyError):
            content = read_json(path)
            if content["run"] == run:
                self.deaths = content["deaths"]
                if (last := content["clip"]) is not None:
                    self.deaths[last] = self.deaths.get(last, 0) + 1

    def begin(self, clip_id: str | None) -> None:
        """Note which clip is begun. Raises: Rejected where workers have died on it; OutputError."""
        fatal = clip_id is not None and self.deaths.get(clip_id, 0) >= TRIES
        with writing(self.path):
            content = {"run": self.run, "clip": None if fatal else clip_id, "deaths": self.deaths}
            self.path.write_text(json.dumps(content))
        if fatal:
            raise Rejected(f"the worker died on it, {TRIES} times")

    def end(self) -> None:
        """The shard is finished."""
        self.path.unlink(missing_ok=True)
