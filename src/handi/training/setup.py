"""From a recipe to what the loop runs on, and from its networks back to a model folder."""

from __future__ import annotations

import copy
import fnmatch
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from handi.core.errors import InputError
from handi.core.stores import local
from handi.data import shards
from handi.data.claim import AREAS
from handi.data.dataset import PreparedClips
from handi.hands import HandDetector
from handi.method.area import prior_area
from handi.method.latents import area_at
from handi.method.pipeline import HandiPipeline
from handi.models import folder as model_folder
from handi.models import fresh
from handi.models.lora import merge_lora, save_lora
from handi.models.parts import Checkpoint, StageSettings, stage1_hash
from handi.training.batches import Batches, Sampling
from handi.training.build import add_pose_stem, grown, reads_hands, take_over, with_pose_net
from handi.training.module import PARTS, StepModule
from handi.training.optim import DTYPES
from handi.training.recipe import Recipe

# That a stage trains.
NETWORK = {
    "vae": "vae",
    "stage1": "area_unet",
    "poses": "pose_net",
    "stage2": "unet",
}
VALIDATION_SEED = 0  # the same held-out samples and noise in every run, so that losses compare
BASIS_PICTURES = 512  # that the small autoencoder's basis is fitted to


# -------------------------------------------------------------------------------------------- clips


def open_data(recipe: Recipe) -> tuple[PreparedClips, Batches | None]:
    """The training clips, and the held-out samples where the recipe names some.

    Raises: InputError, also for clips that are not as the recipe asks for them.
    """
    data = recipe.data
    clips = _open_clips(recipe, data.path, "train")
    if data.validation is None:
        return clips, None
    held_out = _open_clips(recipe, data.validation, "held-out")
    # The clips in order, one text each, the same frames every time.
    sampling = Sampling(data.frames, texts=(data.shown_text,), masks=tuple(asdict(data.mask).items()))
    prior = prior_of_recipe(recipe, clips)
    return clips, Batches(held_out, sampling, VALIDATION_SEED, shuffle=False, prior=prior)


def prior_of_recipe(recipe: Recipe, clips: PreparedClips) -> np.ndarray | None:
    """The motion area H×W bool of samples with the mask "prior"; None where the recipe has none of them.

    The prior is that of the model to start from, which will be sampled with it; of a fresh model, the mean
    over the clips.
    """
    if not recipe.data.mask.prior:
        return None
    init = recipe.model.init
    given = None if init is None else model_folder.prior_of(init)
    prior = torch.from_numpy(clips.prior()) if given is None else given
    return prior_area(area_at(prior, torch.empty(1, *clips.size))[0].numpy())


def kind_of_area(recipe: Recipe) -> str:
    """What the motion areas of the recipe's clips are: "moved" or "hull". Raises: InputError."""
    return str(shards.read_prepared(recipe.data.path)["area"])


def _open_clips(recipe: Recipe, path: str, split: str) -> PreparedClips:
    data = recipe.data
    clips = PreparedClips(path, split, unfinished=data.unfinished)
    if clips.first_frames and recipe.stage != "poses":
        raise InputError(
            f"holds first frames alone, {recipe.stage} needs clips",
            where=path,
            hint="prepare clips: handi world --prepare DIR, without --first-frames",
        )
    if data.size and tuple(data.size) != clips.size:
        there, wanted = ("×".join(map(str, size)) for size in (clips.size, data.size))
        raise InputError(
            f"holds clips of {there}, data.size is {wanted}",
            where=path,
            hint="prepare them at that size, or leave data.size out",
        )
    if data.frames > clips.frames:
        raise InputError(
            f"holds clips of {clips.frames} frames, data.frames is {data.frames}",
            where=path,
            hint=f"set data.frames to {clips.frames} or less, or prepare with --frames {data.frames}",
        )
    if data.fps is not None and (clips.fps, clips.frames) != (data.fps, data.frames):
        rate = "spread over each action" if clips.fps is None else f"at {clips.fps:g} per second"
        raise InputError(
            f"holds clips of {clips.frames} frames {rate}, data.fps asks for {data.frames} at {data.fps:g}",
            where=path,
            hint=f"prepare with --frames {data.frames} --fps {data.fps:g}, or leave data.fps out",
        )
    if data.target == "per_frame":
        if clips.kind_of_area != "hull" or clips.first_frames:
            hint = "use areas that are hulls of hands, or the target union"
            raise InputError(
                "data.target: its motion areas are not known frame by frame", where=clips.name, hint=hint
            )
        clips.per_frame = True
    if data.mask.generated and (clips.folder / AREAS).is_dir():
        clips.use_areas()
    return clips


def use_cached(recipe: Recipe, clips: Sequence[PreparedClips], parts: Checkpoint) -> list[str]:
    """Let prepared clips bear their cached latents and text states where a run can use them; notes on it.

    Raises: InputError where a run needs frames that were not kept, or latents that another model made.
    """
    notes = []
    for some in clips:
        no_latents = _why_not(recipe, "vae", some, parts)
        no_embeddings = _why_not(recipe, "text_encoder", some, parts)
        some.latents, some.embeddings = no_latents is None, no_embeddings is None
        for what, part, why in (("latents", "vae", no_latents), ("text", "text_encoder", no_embeddings)):
            if why is not None and part in some.models:
                notes.append(f"the cached {what} of {some.name} ({some.split}) stays unused: {why}")
        if some.pictures != "none":
            continue
        if no_latents is not None:
            raise InputError(
                f"its frames were not kept, and its latents cannot be used: {no_latents}",
                where=some.name,
                hint="prepare the clips again, with their frames",
            )
        if recipe.run.sample_every:
            raise InputError(
                "its frames were not kept, and sample sheets show them",
                where=some.name,
                hint="set run.sample_every to 0",
            )
    return notes


def check_areas(recipe: Recipe, clips: Sequence[PreparedClips], parts: Checkpoint) -> None:
    """That the recipe's generated areas are there, or can be made in a step. Raises: InputError.

    In a step only what one step from pure noise gives can be made: that is a motion area where the network
    answers with it, and not where it answers with the noise.
    """
    if not recipe.data.mask.generated:
        return
    for some in clips:
        if some.areas is not None:
            if parts.area_unet is not None and some.areas.model != stage1_hash(parts):
                raise InputError(
                    f"its areas were made by another stage 1 than that of {parts.source}",
                    where=some.areas.folder,
                    hint=f"delete that folder and run handi areas --model {parts.source} --data {some.name}",
                )
        elif parts.area_unet is None:
            raise InputError("data.mask.generated: this model has no stage 1", where=parts.source)
        elif parts.backbone().process.kind in ("epsilon", "flow"):
            raise InputError(
                "data.mask.generated: the areas of its clips have not been made",
                where=some.name,
                hint=f"run handi areas --model {parts.source} --data {some.name}",
            )


def _why_not(recipe: Recipe, part: str, clips: PreparedClips, parts: Checkpoint) -> str | None:
    """Why a run cannot use what a network has cached of the clips; None: it can."""
    if part not in clips.models:
        return "there are none"
    if recipe.stage == "vae":
        return "an autoencoder learns from frames"
    if recipe.data.flip:
        return "data.flip asks for mirrored frames and words"
    if clips.chunked and recipe.data.frames != clips.frames:
        return f"data.frames is {recipe.data.frames}, and a part of a clip has other latents"
    if recipe.model.train:
        weights = getattr(parts, part).named_parameters()
        makers = [f"{part}.{name}" for name, _ in weights if not name.startswith("decoder.")]
        if any(fnmatch.filter(makers, pattern) for pattern in recipe.model.train):
            return f"{part} is trained"
    if clips.models[part] != model_folder.encoder_hash_of(parts, part):
        return "another model made them"
    return None


def has_text_states(recipe: Recipe, clips: Sequence[PreparedClips]) -> bool:
    """Whether a base's text encoder is not needed: its states of every sentence are stored with the clips."""
    init = recipe.model.init
    if init is None or model_folder.base_of(init) is None or recipe.run.sample_every:
        return False
    made = {some.models.get("text_encoder") for some in clips}
    return made == {model_folder.encoder_hashes(init)["text_encoder"]} and not recipe.data.flip


def training_batches(recipe: Recipe, clips: PreparedClips) -> Batches:
    """The run's samples. Raises: InputError where clips do not say what the recipe's loss asks for."""
    data = recipe.data
    if grounds(recipe) and clips[0].referents is None:
        raise InputError(
            "its clips do not say which things and hands their words mean",
            where=clips.name,
            hint="set loss.grounding to 0, or use clips of the world",
        )
    masks = tuple(asdict(data.mask).items())
    sampling = Sampling(data.frames, data.choice == "random", data.flip, data.texts, data.dropout, masks)
    return Batches(clips, sampling, recipe.run.seed, prior=prior_of_recipe(recipe, clips))


# -------------------------------------------------------------------------------------------- model


def make_start(recipe: Recipe, clips: PreparedClips, folder: Path) -> None:
    """Write the fresh model of a recipe with a preset to `folder`, so that it is the same whenever the run
    is resumed: its tokenizer and its autoencoder's basis come from the clips that there are now.

    Raises: InputError where the clips' frames were not kept.
    """
    if clips.pictures == "none":
        raise InputError(
            "its frames were not kept, and a fresh model begins with them",
            where=clips.name,
            hint="prepare the clips again, with their frames",
        )
    parts = fresh.from_preset(str(recipe.model.preset), _sentences(clips), seed=recipe.run.seed)
    parts.vae.basis.fit(_pictures(clips, recipe.run.seed))
    write_model(parts, folder)


def check_parts(recipe: Recipe) -> None:
    """Raises: InputError, ModelError for a model to start from, or a hand detector, that is not there."""
    if not local(recipe.data.path).is_dir():
        return  # clips that are not there come first: opening them says how they are made
    if recipe.model.init is not None:
        model_folder.require(str(recipe.model.init))
    elif recipe.model.preset not in fresh.PRESETS:
        raise InputError(f"model.preset is {recipe.model.preset!r}", hint=f"use {', '.join(fresh.PRESETS)}")
    if reads_hands(recipe):
        HandDetector.from_pretrained(backend="torch")


def open_model(recipe: Recipe, start: Path, *, text: bool = True) -> Checkpoint:
    """The model to start from. Stage 1 of a model without one starts as a copy of stage 2's network, or as
    another adapter on it.

    start: where `make_start` wrote a preset's. text: see `model_folder.load`. Raises: InputError, ModelError.
    """
    init = start if recipe.model.preset is not None else str(recipe.model.init)
    if recipe.model.preset is None and model_folder.base_of(init) is not None:
        return _open_base(recipe, str(init), text=text)
    if recipe.model.frozen == "int8":
        what = "model.frozen int8 is for adapters on a base of diffusers"
        raise InputError(what, where=init, hint="use bf16")
    parts = model_folder.load(init)
    if recipe.stage == "stage1" and parts.area_unet is None:
        card = replace(parts.card, stage1=StageSettings())
        blank = torch.zeros(card.height, card.width)  # until the mean of the training areas takes its place
        parts = replace(parts, area_unet=copy.deepcopy(parts.unet), prior_mask=blank, card=card)
    if needs_finder(recipe) and getattr(parts.area_unet, "finder", None) is None:
        raise InputError(
            "this model's stage 1 has no finder, which knows what words mean",
            where=parts.source,
            hint="start from a preset" + (", or set loss.grounding to 0" if recipe.stage == "stage1" else ""),
        )
    parts = with_pose_net(recipe, parts)
    if recipe.stage == "stage2" and (recipe.model.poses or recipe.model.area_only):
        parts = replace(parts, unet=grown(parts.unet, recipe, parts.source))
    if recipe.data.target == "per_frame" and parts.backbone().traits(parts.area_unet).one_mask:
        what = "data.target: this model's stage 1 makes one mask per clip"
        raise InputError(what, where=parts.source, hint="use the target union")
    if recipe.stage == "stage2" and recipe.model.from_stage1:
        if parts.area_unet is None:
            raise InputError("model.from_stage1: this model has no stage 1", where=parts.source)
        take_over(parts.area_unet, parts.unet)
    return parts


def _open_base(recipe: Recipe, init: str, *, text: bool) -> Checkpoint:
    """A base, with the adapters that it has so far; the one to be trained comes with `choose_trained`."""
    stage, model = recipe.stage, recipe.model
    for fine, what, hint in (
        (stage in ("stage1", "stage2"), f"stage {stage}: a base has none", "use stage1 or stage2"),
        (model.lora_rank > 0, "model.lora_rank is 0: of a base adapters are trained", "use 32"),
        (not model.train, "model.train: of a base adapters are trained", "leave it out"),
        (not model.area_only, "model.area_only is for lean networks", "leave it out"),
        (recipe.data.target == "union", "data.target: stage 1 of a base makes one mask a clip", "use union"),
    ):  # fmt: skip
        if not fine:
            raise InputError(what, where=init, hint=hint)
    parts = model_folder.load(init, dtype=DTYPES[model.frozen], text=text)
    add_pose_stem(recipe, parts)
    if stage == "stage1" and parts.area_unet is None:
        settings = replace(parts.card.stage2, frames=None)
        parts = replace(parts, area_unet=parts.unet, card=replace(parts.card, stage1=settings))
    return parts


def grounds(recipe: Recipe) -> bool:
    """Whether the recipe's loss asks stage 1's finder what words mean."""
    return recipe.stage == "stage1" and recipe.loss.grounding > 0


def needs_finder(recipe: Recipe) -> bool:
    """Whether the recipe cannot do without stage 1's finder."""
    return recipe.stage == "poses" or grounds(recipe)


def finished(module: StepModule, parts: Checkpoint, clips: PreparedClips) -> Checkpoint:
    """The trained model: networks that stand alone, and a card that says what it was trained on."""
    height, width = clips.size
    frames = clips.frames if clips.frames > 1 else parts.card.frames  # first frames do not say
    card = replace(parts.card, height=height, width=width, frames=frames, weights="trained")
    if card.base is not None and clips.fps is not None:
        card = replace(card, fps=clips.fps)
    networks = {name: getattr(module, name) for name in PARTS}
    tokenizer = copy.deepcopy(parts.tokenizer)
    return replace(parts, **networks, tokenizer=tokenizer, prior_mask=module.networks.prior_mask, card=card)


def write_lora(module: StepModule, network: str, path: Path) -> None:
    """Write the adapters alone, then merge them into their network. Raises: OutputError."""
    save_lora(getattr(module, network), network, path)
    merge_lora(getattr(module, network))


def write_model(parts: Checkpoint, folder: Path) -> None:
    """A complete model folder, as `handi generate --model` takes it. Raises: OutputError."""
    HandiPipeline.from_checkpoint(parts).save_pretrained(folder)


def _sentences(clips: PreparedClips) -> Iterator[str]:
    for index in range(len(clips)):
        for sentences in clips.words(index).texts.values():
            yield from sentences


def _pictures(clips: PreparedClips, seed: int) -> torch.Tensor:
    """Frames of the clips, and for an eighth of them their areas as pictures: B×3×H×W in [-1, 1]."""
    rng = np.random.default_rng([seed, 4])
    chosen = rng.integers(len(clips), size=BASIS_PICTURES)
    pictures = [clips[int(i)].frames[rng.integers(clips.frames)] for i in chosen]
    masks = [np.repeat(clips[int(i)].area[..., None], 3, axis=2) * np.uint8(255) for i in chosen[::8]]
    return torch.from_numpy(np.stack(pictures + masks)).permute(0, 3, 1, 2).float() / 127.5 - 1
