"""`handi prepare`: a source's clips into shards, by any number of workers; it can be killed and resumed."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from handi.core.device import choose_device, gpu_count
from handi.core.errors import InputError
from handi.core.executors import HERE, Executor
from handi.core.files import cache_folder
from handi.core.progress import Progress
from handi.core.stores import delete, names_in, pull, upload, url_of
from handi.core.types import Frames, Hands, Picture
from handi.core.video import even_indices
from handi.data import shards
from handi.data.claim import DESCRIPTIONS, claimed
from handi.data.enrich import TEMPLATE_VERSION, open_enricher
from handi.data.finish import finish
from handi.data.plan import make_plan
from handi.data.shard_writer import BuildWorker
from handi.data.sources import ClipLength, Kind, SourceClips, has_hands, read_source
from handi.data.sources.held_out import SHARE, hold_out
from handi.data.stages import PrepareSettings, Tools
from handi.hands import HandDetector
from handi.hands.weights import Complexity

if TYPE_CHECKING:
    from handi.world.rendering import WorldSettings

Truth = Literal["auto", "hull", "moved", "none"]
SEEDS_PER_SHARD = 16  # of the world, where a clip takes long: what a killed run loses is a started shard


@dataclass(frozen=True)
class ToolsMaker:
    """What a worker loads: makes its `Tools`, on the device that its number gives it. Picklable."""

    device: str = "auto"  # of detector and encoders; auto: a GPU where there is one
    complexity: Complexity = "full"
    model: str | None = None  # whose latents are cached
    embeddings: bool = False  # and whose text states
    enrich: str | None = None  # what writes descriptions out where none is stored: a model, or an address
    enrich_model: str | None = None  # the model's name at that address
    descriptions: Path | None = None  # folder of the answers, so that nothing is asked twice
    detects: bool = True  # False: the hands of all clips are known

    def __call__(self, number: int) -> Tools:
        """Raises: ModelError."""
        device = self.on(number)
        detect = self._detect(device) if self.detects else None
        enrich = self._enrich(device) if self.enrich is not None else None
        if self.model is None:
            return Tools(detect, enrich=enrich)
        from handi.data.encoder import Encoder

        encoder = Encoder(self.model, device, text=self.embeddings)
        return Tools(detect, encoder.latents, encoder.embeddings if self.embeddings else None, enrich)

    def _detect(self, device: torch.device) -> Callable[[Frames], Hands]:
        detector = HandDetector.from_pretrained(self.complexity, threads=1)
        return lambda frames: detector.detect(torch.from_numpy(frames).to(device))

    def _enrich(self, device: torch.device) -> Callable[[Picture, str], str]:
        enricher = open_enricher(
            str(self.enrich), model=self.enrich_model, cache=self.descriptions, device=str(device)
        )
        return lambda picture, action: enricher.describe(action, picture).text

    def on(self, number: int) -> torch.device:
        """The device of worker `number`: GPUs are dealt out in turn."""
        if self.device == "auto":
            count = gpu_count()
            return torch.device("cuda", number % count) if count else torch.device("cpu")
        return torch.device(self.device)

    def check(self) -> None:
        """Raises: InputError, ModelError for a device or a detector that is not there: before a source is
        read, which may take long."""
        if self.device != "auto":
            choose_device(self.device)
        if self.detects:
            HandDetector.from_pretrained(self.complexity, threads=1)

    def chunk(self, settings: PrepareSettings) -> int:
        """Frames of one latent after the first. Raises: InputError for sizes that the model cannot encode."""
        if self.model is None:
            return 1
        from handi.models.folder import check_sizes

        return check_sizes(self.model, settings.frames, settings.size)

    def hashes(self) -> dict[str, str]:
        """What is written down about the models. Raises: ModelError."""
        names: dict[str, str] = {"hands": self.complexity} if self.detects else {}
        if self.model is not None:
            from handi.models.folder import encoder_hashes

            made = encoder_hashes(self.model)
            names["vae"] = made["vae"]
            if self.embeddings:
                names["text_encoder"] = made["text_encoder"]
        if self.enrich is not None:
            names["enrich"] = f"{self.enrich} {self.enrich_model or ''} template {TEMPLATE_VERSION}"
        return names


def write_shards(
    found: SourceClips,
    out: Path,
    settings: PrepareSettings,
    tools: Callable[[int], Tools],
    executor: Executor,
    *,
    source: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Prepare all clips of a source into `out`; gives what `prepared.json` says.

    tools: makes a worker's models, from the worker's number; picklable. source: what is written down about
    where the clips come from. A shard and its part of the ledger appear whole or not at all, and everything
    else is derived from the parts at the end: who made them, in what order and how often it was tried leaves
    no trace. Shards that are there and unchanged are kept. Raises: InputError, also for a
    folder of other settings; OutputError, ModelError, and what kills every worker.
    """
    store = url_of(out)
    out = out if store is None else pull(store)
    plan = make_plan(found.clips, settings)
    content = {
        "format": shards.FORMAT,
        "version": shards.VERSION,
        **settings.as_dict(),
        "source": source or {},
    }
    with claimed(out, content):
        (out / shards.PREPARED).unlink(missing_ok=True)  # what it says may not be so for a while
        if store is not None:
            delete(store, [shards.PREPARED])
            upload(out, store, [shards.SETTINGS])
        pending = [shard for shard in plan if not shards.part_is_whole(out, shard.name, shard.key)]
        total, left = (sum(len(shard.clips) for shard in some) for some in (plan, pending))
        with Progress("prepare", total, "clips", done=total - left) as bar:
            rejected = 0
            build = BuildWorker(out, settings, tools, os.urandom(8).hex(), store)
            for done in executor.run(build, pending) if pending else ():
                rejected += done.rejected
                bar.advance(done.clips, f"{rejected} rejected" if rejected else None)
        if store is not None:
            pull(store)  # the parts that workers of other machines made
        summary = finish(out, [shard.name for shard in plan], settings, found.notes)
        if store is not None:
            names = {f"{shard.name}.{end}" for shard in plan for end in ("tar", "jsonl")}
            there = [name for name in names_in(store, shards.SHARDS) if name not in names]
            delete(store, [f"{shards.SHARDS}/{name}" for name in there])
            beside = [name for name in shards.BESIDE if (out / name).exists()]
            upload(out, store, [*beside, shards.PREPARED])
        return summary


def prepare_world(
    seeds: list[int], world: WorldSettings, out: Path, executor: Executor = HERE
) -> dict[str, Any]:
    """Render the world's clips of these seeds straight into shards; gives what `prepared.json` says.

    Raises: HandiError.
    """
    from handi.data.sources.world import rendered_world, settings_for

    source = {"kind": "world", **asdict(world)}
    found, tools = rendered_world(seeds, world), ToolsMaker(detects=False)
    settings = replace(settings_for(world), clips_per_shard=SEEDS_PER_SHARD)
    return write_shards(found, out, settings, tools, executor, source=source)


def prepare_source(
    kind: Kind, path: Path, out: Path, asked: Mapping[str, Any], models: ToolsMaker, executor: Executor, *,
    truth: Truth = "auto", videos: Sequence[Path] = (), annotations: Path | None = None,
    camera_key: str | None = None, hands_key: str | None = None, limit: int | None = None,
    held_out: float = SHARE, say: Callable[[str], None] = print,
) -> dict[str, Any]:  # fmt: skip
    """Read a source, prepare its clips into `out`; gives what `prepared.json` says. Raises: HandiError.

    asked: fields of `PrepareSettings`; what is not named, or None, follows from the source. truth: of the
    world, see `world_settings`; with "none" hands are detected also where a data set knows them. camera_key,
    hands_key: of a LeRobot dataset, see `read_source`. limit: only so many clips, spread evenly over the
    source, to try things out. held_out: share of the videos that become the split "val", where the source
    names no splits.
    """
    settings = PrepareSettings()
    if kind == "world":
        from handi.data.sources.world import world_settings  # it takes a second to load

        settings = world_settings(path, truth)
    elif truth != "none" and has_hands(kind, path, hands_key):
        settings = replace(settings, hands="known")
    settings = replace(settings, **{name: value for name, value in asked.items() if value is not None})
    kept = out if url_of(out) is None else cache_folder("enrich")
    models = replace(models, detects=settings.detects, descriptions=kept / DESCRIPTIONS)
    settings = replace(settings, models=models.hashes(), chunk=models.chunk(settings))
    models.check()
    length = ClipLength(settings.frames, settings.fps)
    found = read_source(kind, path, videos=videos, annotations=annotations, length=length,
                        camera=camera_key, hands=hands_key)  # fmt: skip
    about: dict[str, Any] = {"kind": kind}
    if limit is not None:
        if limit < 1:
            raise InputError(f"{limit} clips", where="--limit", hint="use 1 or more")
        found = some_of(found, limit)
    if not found.has_splits and held_out:
        about["held_out"] = held_out  # another share is another division of the clips
    found = hold_out(found, held_out)
    for note in found.notes:
        say(f"note: {note}")
    return write_shards(found, out, settings, models, executor, source=about)


def some_of(found: SourceClips, limit: int) -> SourceClips:
    """`limit` clips, spread evenly over the source's order; all where it has no more."""
    count = len(found.clips)
    if limit >= count:
        return found
    clips = [found.clips[index] for index in even_indices(count, limit)]
    return replace(found, clips=clips, notes=[*found.notes, f"{limit} of {count:,} clips were asked for"])
