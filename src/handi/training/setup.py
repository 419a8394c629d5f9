"""From a recipe to what the loop runs on: clips, a model to start from, a hand detector where one is needed."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch

from handi.config import DataRecipe, Recipe
from handi.data.clips import Batches, ClipSet, Drawing
from handi.data.world import WorldClips
from handi.errors import InputError, ModelError
from handi.hands.detector import HandDetector
from handi.models import checkpoint, presets
from handi.models.checkpoint import Checkpoint, StageSettings
from handi.motion.area import PriorMask

NETWORK = {"vae": "vae", "stage1": "area_unet", "stage2": "unet"}  # that a stage trains
VALIDATION_SEED = 0  # the same held-out samples and noise for every run, so that losses compare


def open_clips(data: DataRecipe, path: str, size: tuple[int, int], *, training: bool) -> ClipSet:
    """The clips of a folder. Raises: InputError, also for a kind that this handi cannot read."""
    if data.kind == "world":
        return WorldClips(path, area=data.area, training=training)
    raise InputError(f"data.kind {data.kind!r} cannot be read yet", mend="use world")


def training_batches(recipe: Recipe, clips: ClipSet) -> Batches:
    """The run's samples. Raises: InputError where clips are shorter than asked for."""
    data = recipe.data
    if data.frames > clips.frames:
        raise InputError(
            f"clips of {clips.frames} frames", where=clips.name, mend=f"set data.frames to {clips.frames}"
        )
    drawing = Drawing(data.frames, data.flip, data.texts, data.dropout)
    return Batches(clips, drawing, recipe.run.seed)


def validation_batches(recipe: Recipe, clips: ClipSet) -> Batches:
    """Held-out samples: the clips in order, nothing left to chance but the frames."""
    return Batches(clips, Drawing(recipe.data.frames), VALIDATION_SEED, shuffle=False)


def open_model(recipe: Recipe) -> Checkpoint:
    """The model to start from. Stage 1 of a model without one starts as a copy of stage 2's network.

    Raises: ModelError, InputError.
    """
    model = recipe.model
    if model.preset is not None:
        parts = presets.fresh(model.preset, recipe.run.seed)
    else:
        parts = checkpoint.load(str(model.init))
    if recipe.stage == "stage1" and parts.area_unet is None:
        parts = replace(parts, area_unet=copy.deepcopy(parts.unet), card=replace(parts.card, stage1=StageSettings()))
    return parts


def prior_of(clips: ClipSet) -> torch.Tensor:
    """Mean motion area of the training clips, H×W (§2.1). Raises: InputError where every one is empty."""
    prior = PriorMask(*clips.size)
    for index in range(len(clips)):
        prior.add(clips[index].area)
    try:
        return torch.from_numpy(prior.mean)
    except ValueError as error:
        raise InputError(str(error), where=clips.name) from error


def finished(recipe: Recipe, parts: Checkpoint, clips: ClipSet) -> Checkpoint:
    """The trained model with a card that says what it was trained on."""
    height, width = clips.size
    card = replace(parts.card, height=height, width=width, frames=clips.frames, weights="trained")
    return replace(parts, card=card)


def open_detector(recipe: Recipe) -> HandDetector | None:
    """Υ, where the recipe's loss reads hands."""
    if recipe.stage == "stage2" and recipe.loss.hand.weight > 0:
        return HandDetector.from_pretrained(backend="torch")
    return None
