"""`handi areas`: stage 1 over prepared clips, so that stage 2 learns with what it will be given."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch

from handi.core.device import choose_device, choose_dtype, worker_device
from handi.core.errors import HandiError, InputError
from handi.core.executors import HERE, Executor, Serial
from handi.core.progress import Progress
from handi.core.stores import LARGE, local, upload, url_of
from handi.data import areas
from handi.data.dataset import HELD_OUT, PreparedClips
from handi.data.shards import read_prepared
from handi.method.area import usable_area
from handi.method.pipeline import HandiPipeline
from handi.models.folder import encoder_hash_of
from handi.models.parts import stage1_hash


@dataclass(frozen=True)
class AreaSettings:
    """How areas are sampled; what is None is the model card's."""

    steps: int | None = None
    guidance: float | None = None
    seed: int = 0
    batch: int = 8  # clips that are sampled together
    device: str = "auto"
    dtype: str = "auto"


@dataclass(frozen=True)
class Summary:
    """What there is after a run."""

    clips: int
    made: int  # in this run
    iou: float  # mean overlap of the areas, as stage 2 is given them, with the true ones


@dataclass(frozen=True)
class Piece:
    """A shard's clips by their numbers in their split."""

    split: str
    shard: str
    indices: list[int]


@dataclass(frozen=True)
class AreaMaker:
    """What a worker is made of. Pickled, it leaves its model behind: it is loaded anew where it works."""

    model: str
    folder: Path
    settings: AreaSettings
    dtype: str  # of the model: the same for all workers
    pipe: HandiPipeline | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"pipe": None}

    def __call__(self, number: int) -> Callable[[Piece], int]:
        pipe = self.pipe or _load(self.model, worker_device(self.settings.device, number), self.dtype)
        opened: dict[str, PreparedClips] = {}

        def work(piece: Piece) -> int:
            if piece.split not in opened:
                opened[piece.split] = PreparedClips(self.folder, piece.split)
                _check_latents(opened[piece.split], pipe)
            return make_shard(pipe, opened[piece.split], piece.shard, piece.indices, self.settings)

        return work


def _lost(piece: Piece) -> int:
    """Raises: HandiError for a shard on which workers have died; what the others made is kept."""
    hint = "use fewer --workers or a smaller --batch-size if memory is short"
    raise HandiError("the workers that sample its areas die", where=piece.shard, hint=hint)


def _load(model: str, device: str, dtype: str) -> HandiPipeline:
    """Raises: ModelError."""
    pipe = HandiPipeline.from_pretrained(model, torch_dtype=choose_dtype(dtype, device))
    pipe.set_progress_bar_config(disable=True)
    pipe.to(device)
    return pipe


def make_areas(model: str, folder: Path, settings: AreaSettings, executor: Executor = HERE) -> Summary:
    """Sample stage 1 for the training clips and the held-out ones that training uses, one shard at a time.

    What is there already is kept; killed at any moment, the next run makes what is missing. A clip's area is
    a function of the clip, the model and the settings, whoever makes it. Its sentence is the enriched
    one where it has one. Raises: InputError, ModelError, OutputError.
    """
    if settings.batch < 1:
        raise InputError(f"--batch {settings.batch}", hint="use 1 or more")
    store, folder = url_of(folder), local(folder)
    sets = [PreparedClips(folder, split) for split in _splits(folder)]
    device, here = choose_device(settings.device), isinstance(executor, Serial)
    dtype = str(choose_dtype(settings.dtype, device)).removeprefix("torch.")
    pipe = _load(model, device if here else "cpu", dtype)
    if pipe.area_unet is None or pipe.card.stage1 is None:
        raise InputError("this model has no stage 1", where=model, hint="train one: handi train epic_stage1")
    stage1 = pipe.card.stage1
    about = {
        "model": stage1_hash(pipe.checkpoint),
        "steps": stage1.steps if settings.steps is None else settings.steps,
        "guidance": stage1.guidance if settings.guidance is None else settings.guidance,
        "motion": stage1.motion,
        "seed": settings.seed,
        "dtype": dtype,
    }
    for clips in sets:
        _check_latents(clips, pipe)
    with areas.adding(folder, about) as stored:
        pending, total, left = [], 0, 0
        for clips in sets:
            places = clips.places()
            for shard, indices in _by_shard(clips):
                total += len(indices)
                if not all(stored.has(places[index]) for index in indices):
                    pending.append(Piece(clips.split, shard, indices))
                    left += len(indices)
        maker = AreaMaker(model, folder, settings, dtype, pipe if here else None)
        with Progress("areas", total, "clips", done=total - left) as bar:
            for count in executor.run(maker, pending, _lost):
                bar.advance(count)
    if store is not None:
        made = sorted((folder / areas.AREAS).iterdir(), key=lambda path: path.suffix != LARGE)
        upload(folder, store, [f"{areas.AREAS}/{path.name}" for path in made if path.is_file()])
    stored = areas.StoredAreas(folder)
    overlaps = [
        one["iou"]
        for clips in sets
        for shard, _ in _by_shard(clips)
        for one in stored.of_shard(shard).values()
    ]
    return Summary(total, left, float(np.mean(overlaps)))


def _splits(folder: Path) -> list[str]:
    """The splits that training uses: train, and val or else test."""
    kept = {name for name, split in read_prepared(folder)["splits"].items() if split["kept"]}
    held_out = [name for name in HELD_OUT if name in kept][:1]
    return [name for name in ("train", *held_out) if name in kept]


def _by_shard(clips: PreparedClips) -> Iterator[tuple[str, list[int]]]:
    places = clips.places()
    for shard, indices in groupby(range(len(places)), lambda index: str(places[index]["shard"])):
        yield shard, list(indices)


def make_shard(
    pipe: HandiPipeline,
    clips: PreparedClips,
    shard: str,
    indices: list[int],
    settings: AreaSettings,
) -> int:
    """Sample the areas of a shard's clips and write them; gives how many. Raises: OutputError."""
    soft: list[np.ndarray] = []
    overlaps: list[float] = []
    for start in range(0, len(indices), settings.batch):
        some = [clips[index] for index in indices[start : start + settings.batch]]
        if clips.latents:
            kept = np.stack([np.asarray(clip.latents)[0] for clip in some])
            context = torch.from_numpy(kept)[:, :, None].float().to(pipe.device)
        else:
            context = pipe.encode_images(np.stack([clip.frames[0] for clip in some]))
        texts = [(clip.texts.get("enriched") or clip.texts["short"])[0] for clip in some]
        made = pipe.soft_areas(
            context,
            texts,
            clips.size,
            steps=settings.steps,
            guidance=settings.guidance,
            generator=[clip_generator(clip.name, settings.seed) for clip in some],
        )
        soft += list(made)
        overlaps += [_iou(usable_area(one), clip.area) for one, clip in zip(made, some, strict=True)]
    places = clips.places()
    areas.write_shard(clips.folder, shard, [places[index] for index in indices], soft, overlaps)
    return len(indices)


def _check_latents(clips: PreparedClips, pipe: HandiPipeline) -> None:
    """Clips whose frames were not kept bear their context image's latents. Raises: InputError (another's)."""
    clips.latents = clips.pictures == "none"
    if clips.latents and clips.models.get("vae") != encoder_hash_of(pipe.checkpoint, "vae"):
        raise InputError(
            "its frames were not kept, and another model made its latents",
            where=clips.name,
            hint="prepare the clips again, with their frames or with this model",
        )


def clip_generator(name: str, seed: int) -> torch.Generator:
    """A clip's own, whatever it is sampled together with."""
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4], "big"))


def _iou(one: Any, other: Any) -> float:
    either = np.logical_or(one, other).sum()
    return float(np.logical_and(one, other).sum() / either) if either else 1.0
