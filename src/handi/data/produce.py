"""Many clips into shards, by any number of workers, to be killed and gone on with at any time.

Which clips a shard holds is a function of the sorted clips alone. A shard and its part of the ledger appear
whole or not at all, and everything else is derived from the parts at the end. So the order in which shards
are made, by whom, and how often it was tried leave no trace.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from handi.core.errors import HandiError, InputError, reason
from handi.core.files import replacing, writing
from handi.core.progress import Progress
from handi.core.reading import read_json
from handi.data import shards
from handi.data.claim import WORK, claimed
from handi.data.executors import Executor
from handi.data.finish import finish
from handi.data.ledger import FAILED, KEPT, Rejected, row_of
from handi.data.prepare import Settings, Tools, prepare_clip
from handi.data.sources.common import Clip, Found

MOST_CLIPS = 2**16 - 1  # of a shard: it counts how many areas hold each pixel in 16 bits
TRIES = 3  # of a clip on which workers die, in one run


@dataclass(frozen=True)
class Shard:
    """A piece of work."""

    name: str  # such as train-00000
    clips: tuple[Clip, ...]
    key: str  # hash of everything that it is a function of


@dataclass(frozen=True)
class Done:
    """A shard that is finished."""

    name: str
    kept: int
    rejected: int


def produce(
    found: Found,
    out: Path,
    settings: Settings,
    tools: Callable[[int], Tools],
    executor: Executor,
    *,
    source: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Prepare all clips of a source into `out`; gives what `prepared.json` says.

    tools: makes a worker's models, from the worker's number; picklable. source: what is written down about
    where the clips come from. Shards that are there and unchanged are kept. Raises: InputError, also for a
    folder of other settings; OutputError, ModelError, and what kills every worker.
    """
    plan = make_plan(found.clips, settings)
    content = {
        "format": shards.FORMAT,
        "version": shards.VERSION,
        **settings.as_dict(),
        "source": source or {},
    }
    with claimed(out, content):
        (out / shards.PREPARED).unlink(missing_ok=True)  # what it says may not be so for a while
        pending = [shard for shard in plan if not shards.part_is_whole(out, shard.name, shard.key)]
        total, left = (sum(len(shard.clips) for shard in some) for some in (plan, pending))
        with Progress("prepare", total, "clips", done=total - left) as bar:
            rejected = 0
            build = _Build(out, settings, tools, os.urandom(8).hex())
            for done in executor.run(build, pending) if pending else ():
                rejected += done.rejected
                bar.advance(done.kept + done.rejected, f"{rejected} rejected" if rejected else None)
        return finish(out, [shard.name for shard in plan], settings, found.notes)


# -------------------------------------------------------------------------------------------- plan


def make_plan(clips: Sequence[Clip], settings: Settings) -> list[Shard]:
    """Clips by split and id, cut into shards of a fixed number. Raises: InputError for an id given twice."""
    ids = [clip.id for clip in clips]
    if len(set(ids)) < len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise InputError(f"two clips have the id {twice!r}", mend="give each its own")
    if not ids:
        raise InputError("the source holds no clips")
    if not 1 <= settings.clips_per_shard <= MOST_CLIPS:
        raise InputError(f"{settings.clips_per_shard} clips a shard", mend=f"use 1 to {MOST_CLIPS}")
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
    facts = asdict(replace(clip, video=None, truth=None))
    return facts | {"video": clip.video.name if clip.video else None, "truth": clip.truth is not None}


class _Stamps:
    """Bytes and time of change of clips' files, each looked at once: a video that changed is cut anew."""

    def __init__(self) -> None:
        self._known: dict[Path, list[int] | None] = {}

    def of(self, clip: Clip) -> list[list[int] | None]:
        return [self._stamp(path) for path in (clip.video, clip.truth) if path is not None]

    def _stamp(self, path: Path) -> list[int] | None:
        if path not in self._known:
            try:
                stat = path.stat()
                self._known[path] = [stat.st_size, stat.st_mtime_ns]
            except OSError:
                self._known[path] = None
        return self._known[path]


# ------------------------------------------------------------------------------------------ worker


@dataclass(frozen=True)
class _Build:
    """What a worker is made of; picklable."""

    out: Path
    settings: Settings
    tools: Callable[[int], Tools]
    run: str  # names this run, so that deaths in an earlier one do not count

    def __call__(self, number: int) -> Callable[[Shard], Done]:
        with _one_thread():
            return ShardWork(self.out, self.settings, self.tools(number), self.run)


class ShardWork:
    """A worker: clips of a shard one after the other into its tar, one clip in memory at a time."""

    def __init__(self, out: Path, settings: Settings, tools: Tools, run: str) -> None:
        self.out, self.settings, self.tools, self.run = out, settings, tools, run

    def __call__(self, shard: Shard) -> Done:
        """Write a shard. Raises: OutputError; what a model raises."""
        tar = self.out / shards.SHARDS / f"{shard.name}.tar"
        trials = Trials(self.out / WORK / f"{shard.name}.trial", self.run)
        areas = np.zeros(self.settings.size, np.int64)
        rows, offset = [], 0
        with _one_thread():
            with replacing(tar) as temporary, open(temporary, "wb") as file:
                for clip in shard.clips:
                    try:
                        trials.begin(clip.id)
                        made = prepare_clip(clip, self.settings, self.tools)
                    except Rejected as why:
                        rows.append(row_of(clip, reason=str(why)))
                        continue
                    except (HandiError, MemoryError, torch.OutOfMemoryError):
                        raise  # not this clip's fault: a disk, a server, a machine
                    except Exception as error:
                        rows.append(row_of(clip, reason=f"{FAILED}: {reason(error)}"))
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
            with replacing(shards.part_path(self.out, shard.name)) as temporary:
                text = shards.part_text(shard.key, size if kept else 0, areas, rows)
                temporary.write_text(text, encoding="utf-8")
        trials.end()
        return Done(shard.name, kept, len(rows) - kept)


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


@contextmanager
def _one_thread() -> Iterator[None]:
    """Networks and OpenCV on one CPU thread: sums come out the same anywhere, and workers do not crowd."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])
