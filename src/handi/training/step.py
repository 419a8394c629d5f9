"""One training step of each stage: a batch in, named loss terms out (Eq. 5 and 7).

The terms are already weighted: their sum is what is minimised. A name with a leading "_" is for the log only.
All chance comes from the generator and is drawn on its device: a step's noise is millions of numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from handi.hands import HandDetector
from handi.method import losses
from handi.method.area import usable_area
from handi.method.latents import area_at, as_video, grey
from handi.method.poses import pose_maps
from handi.models.backbone import Backbone, Given
from handi.models.pose_net import centred
from handi.training.batch import Batch
from handi.training.hand_view import View
from handi.training.noise import Noised, integers, normal, uniform
from handi.training.recipe import HandLossRecipe, LossRecipe

Terms = dict[str, Tensor]


@dataclass
class Networks:
    """What a step computes with. Those in training may be wrapped (DDP, FSDP, LoRA); only calls are used."""

    backbone: Backbone  # how they are run
    vae: Any
    text_encoder: Any
    unet: Any  # stage 2's noise predictor
    area_unet: Any  # stage 1's
    prior_mask: Tensor | None  # H×W in [0, 1], mean area of the training clips
    detector: HandDetector | None = None  # Υ, where the hand loss is on
    reader: Backbone | None = None  # whose autoencoder decodes for it; None: the backbone's own
    pose_net: Any = None  # predicts the hands' poses


# ---------------------------------------------------------------------------------------------- stages


def vae_step(networks: Networks, batch: Batch, recipe: LossRecipe, generator: torch.Generator) -> Terms:
    """The autoencoder: reconstruction of one frame per clip, and of its area as a picture (stage 1's video).

    The latents are blurred a little by noise, as those that a noise predictor makes will be.
    """
    rows = torch.arange(len(batch), device=batch.frames.device)
    chosen = integers(batch.frames.shape[1], len(batch), generator).to(rows)
    pictures = as_video(batch.frames[rows, chosen][:, None])[:, :, 0]
    masks = grey(batch.area[:, None])[: max(1, len(batch) // 8), :, 0]
    pictures = torch.cat([pictures, masks])
    latents = networks.vae.encode(pictures).latent_dist.mode()
    blur = recipe.latent_noise * uniform((len(pictures), 1, 1, 1), generator).to(latents)
    noisy = latents + blur * normal(latents.shape, generator).to(latents)
    error = networks.vae.decode(noisy).sample.float() - pictures
    # Edges count for themselves: fingers are thin, and what blurs them costs little in the mean.
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return {"l1": error.abs().mean(), "l2": error.square().mean().sqrt(), "edges": edges}


def poses_step(networks: Networks, batch: Batch, recipe: LossRecipe, generator: torch.Generator) -> Terms:
    """P of whole clips, of which the context images and the words are known; stage 1's finder looks.

    A picture that a batch has several times, with other words, is encoded once.
    """
    if batch.way is None:
        raise ValueError("poses need the joints of whole clips")
    finder, clean = networks.area_unet.finder, centred(batch.way)
    process = networks.backbone.process
    t = process.timesteps(len(batch), recipe.high_noise, recipe.pure_noise, generator).to(clean.device)
    signal, noise = process.levels(t)
    random = normal(clean.shape, generator).to(clean)
    noisy = signal.view(-1, 1, 1, 1) * clean + noise.view(-1, 1, 1, 1) * random
    context, picture = pictures_of(networks, batch)
    cells, text = finder.see(context), text_states(networks, batch)
    scores = finder.answer(cells[picture], text)
    guess = networks.pose_net(context, cells, scores, text, picture=picture, noisy=noisy, signal=signal)
    return losses.pose_loss(guess.joints, guess.presence_logits, guess.start, batch.way)


def stage1_step(networks: Networks, batch: Batch, recipe: LossRecipe, generator: torch.Generator) -> Terms:
    """The motion area: noise loss on the latents of the mask video, and mIoU on its pixels (Eq. 5)."""
    if networks.prior_mask is None:
        raise ValueError("stage 1 needs the prior mask")
    backbone, network = networks.backbone, networks.area_unet
    traits, frames = backbone.traits(network), batch.frame_index.shape[1]
    # The motion strength is that of the whole clip, in both stages, as a user gives one for both.
    given = given_of(networks, batch, None if traits.motion else 1)
    if traits.motion:
        strength = losses.motion_score(backbone.clip(network, given, batch.area).z)
        given = replace(given, motion=strength)
    masks = batch.area[:, None] if batch.frame_areas is None else batch.frame_areas  # B×1 or F×H×W
    prior = area_at(networks.prior_mask, batch.area)
    layout = backbone.area(network, given, prior, masks)
    noisy = Noised(backbone.process, layout.z, recipe, generator)
    more = {"return_grounding": True} if recipe.grounding else {}
    text = text_states(networks, batch)
    prediction = backbone.predict(network, noisy.x_t, noisy.t, text, layout, **more)
    found = {} if given.motion is None else {"_motion": given.motion.mean()}
    if recipe.grounding:
        prediction, scores = prediction
        found |= {name: recipe.grounding * term for name, term in _grounding(scores, batch).items()}
    terms = noisy.loss(prediction, layout.free if backbone.clamps else None) | found
    if recipe.miou:
        chosen = noisy.below(recipe.miou_noise_limit).nonzero()[: recipe.miou_clips, 0]
        if len(chosen):
            count = 1 if traits.one_mask else frames
            first = min(1, count - 1)  # frame 0 is the context's: the mean is over the L others
            order = torch.randperm(count - first, generator=generator, device=generator.device)
            some = first + order[: recipe.miou_frames].to(batch.area.device)
            soft = backbone.masks(noisy.x0(prediction)[chosen], some).mean(1) / 2 + 0.5
            truth = masks.expand(-1, count, -1, -1)[chosen][:, some]
            terms["miou"] = recipe.miou * losses.soft_miou(soft.clamp(0, 1), truth)["miou"]
    return terms


def stage2_step(networks: Networks, batch: Batch, recipe: LossRecipe, generator: torch.Generator) -> Terms:
    """The clip: noise loss inside the motion area, and the Hand Refinement Loss (Eq. 7)."""
    backbone, network = networks.backbone, networks.unet
    given = replace(given_of(networks, batch), poses=batch.poses)
    text = text_states(networks, batch)
    area = batch.mask
    if (chosen := batch.to_generate) is not None:
        # Without its words stage 1 cannot know the area; in sampling both branches have the prompt's.
        chosen &= torch.tensor([bool(words) for words in batch.texts], device=area.device)
        chosen = chosen[:, None, None]
        area = torch.where(chosen, area_of_stage1(networks, given, batch.area, text, generator), area)
    layout = backbone.clip(network, given, area)
    z = layout.z
    noisy = Noised(backbone.process, z, recipe, generator)
    motion = losses.motion_score(z)
    layout = replace(layout, motion=motion)
    counts = layout.free if recipe.inside_only or backbone.clamps else None  # of each cell, in the noise loss
    if recipe.cells and backbone.traits(network).cells:
        cells = places_of(layout.free, recipe.cells, generator)
        layout = replace(layout, cells=cells)
        counts = _spread(cells, layout.free) * (1.0 if counts is None else counts)
    if recipe.on_hands:
        more = 1 + recipe.on_hands * hand_cells(batch.joints, z.shape[-2:])
        counts = more * (1.0 if counts is None else counts)
    prediction = backbone.predict(network, noisy.x_t, noisy.t, text, layout)
    terms = noisy.loss(prediction, counts)
    if backbone.traits(network).motion:
        terms["_motion"] = motion.mean()
    if recipe.motion:
        terms["motion"] = recipe.motion * losses.motion_loss(noisy.x0(prediction), z)["motion"]
    if recipe.hand.weight:
        x0 = noisy.x0(prediction)
        x0 = layout.clamp(x0) if backbone.clamps else x0
        readable = noisy.below(recipe.hand.noise_limit)
        terms |= hand_terms(networks, batch, x0, readable, recipe.hand, generator, given.latents)
    return terms


def _grounding(scores: Tensor, batch: Batch) -> Terms:
    """`losses.grounding` of the clips that have words: without them nothing is meant."""
    if batch.referents is None:
        raise ValueError("loss.grounding needs clips that say what their words mean")
    has_text = torch.tensor([bool(words) for words in batch.texts], device=scores.device)
    share = F.interpolate(batch.referents, scores.shape[-2:], mode="area")
    return losses.grounding(scores, share * has_text[:, None, None, None])


def places_of(inside: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` cells per clip (or all there are), B×count: those inside the area B×1×1×h×w, any of them where
    there are too many, then those around it where there are too few."""
    inside = inside[:, 0]  #                                                          B×1×h×w
    around = F.avg_pool2d(inside, 5, 1, 2, count_include_pad=False)
    chance = uniform(inside.shape, generator).to(inside)
    return (
        (2 * inside + around * (1 - inside) + 0.01 * chance)
        .flatten(1)
        .topk(min(count, inside[0].numel()), dim=1)
        .indices
    )


def _spread(places: Tensor, like: Tensor) -> Tensor:
    """1 at the cells B×P, 0 elsewhere: B×1×1×h×w as `like`."""
    return torch.zeros_like(like).flatten(1).scatter(1, places, 1.0).view_as(like)


def hand_cells(joints: Tensor, cells: Sequence[int]) -> Tensor:
    """Share of each cell's surroundings that a hand covers, for joints B×F×42×2: B×1×F×h×w in [0, 1]."""
    maps = pose_maps(joints, (4 * cells[0], 4 * cells[1])).amax(2, keepdim=True)  #   B×F×1×4h×4w
    near = F.max_pool2d(maps.flatten(0, 1), 7, 1, 3)  # the flesh around the bones
    return F.avg_pool2d(near, 4).unflatten(0, maps.shape[:2]).transpose(1, 2)


@torch.no_grad()
def area_of_stage1(
    networks: Networks, given: Given, like: Tensor, text: Tensor, generator: torch.Generator
) -> Tensor:
    """The motion area B×H×W in {0, 1} that a stage 1 of one step makes from pure noise, as in sampling.

    like: areas of the size that is wanted. Raises: ValueError for a model without stage 1.
    """
    backbone, network = networks.backbone, networks.area_unet
    if network is None or networks.prior_mask is None:
        raise ValueError("the mask generated needs a model with a stage 1")
    given = replace(given, latents=given.latents[:, :, :1], frame_index=given.frame_index[:, :1])
    layout = backbone.area(network, given, area_at(networks.prior_mask, like))
    noise = normal(layout.z.shape, generator).to(layout.z)
    last = torch.full((len(noise),), backbone.process.last, device=noise.device)
    prediction = backbone.predict(network, noise, last, text, layout)
    levels = backbone.process.levels(last)
    x0 = losses.predict_x0(prediction.float(), noise, *levels, backbone.process.kind)
    soft = (backbone.masks(x0).mean(dim=(1, 2)) / 2 + 0.5).clamp(0, 1).cpu().numpy()
    return torch.from_numpy(np.stack([usable_area(one) for one in soft])).to(like)


def hand_terms(
    networks: Networks,
    batch: Batch,
    x0: Tensor,
    readable: Tensor,
    recipe: HandLossRecipe,
    generator: torch.Generator,
    z: Tensor | None = None,
) -> Terms:
    """Hand Refinement Loss (Eq. 2) on `recipe.frames` decoded frames of the clips that can be read, B.

    x0 B×C×F×h×w. z, likewise: the true latents, for clips whose frames are not kept; then the autoencoder's
    picture of a true frame is read. Frames are drawn among those with a hand, over the whole batch: decoding
    them and running Υ with a gradient is what the loss costs.
    """
    if networks.detector is None:
        raise ValueError("the hand loss needs a hand detector")
    candidates = batch.visible.any(-1) & readable[:, None]  # B×F
    candidates[:, 0] = False  # the context image is given, not generated
    reader = networks.reader or networks.backbone
    clips, frames = sample_frames(candidates, recipe.frames, reader.chunk, generator)
    if not len(clips):
        return {"_hands": x0.new_zeros(())}
    rois, rows = batch.rois[clips, frames], clips
    true = as_video(batch.frames[clips, frames][:, None])[:, :, 0] if batch.frames.numel() else None
    if recipe.crop:
        view = View.around_hands(rois, clips, frames, reader.chunk, recipe.crop, batch.area.shape[1:], x0)
        x0, rois, rows = view.latents(x0), view.rois(rois), view.rows
        z = None if z is None else view.latents(z)
        true = None if true is None else view.pixels(true)
    generated = reader.frames(x0, rows, frames)
    if true is None:
        if z is None:
            raise ValueError("the hand loss needs true frames, or their latents")
        with torch.no_grad():
            true = reader.frames(z, rows, frames)
    if recipe.jitter:
        rois = losses.jitter_rois(
            rois,
            generator,
            shift=0.05 * recipe.jitter,
            scale=0.1 * recipe.jitter,
            rotation=0.1 * recipe.jitter,
        )
    with torch.autocast(x0.device.type, enabled=False):  # Υ's own precision
        read, truth = losses.read_hands(
            networks.detector, generated, true, rois, form=recipe.form, features=recipe.features > 0
        )
    terms = losses.hand_refinement(read, truth, recipe.form, features=recipe.features > 0)
    weights = {"hand": recipe.weight, "hand_features": recipe.weight * recipe.features}
    return {name: weights.get(name, 1.0) * term for name, term in terms.items()}


def sample_frames(
    candidates: Tensor, count: int, chunk: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """(clips, frames) of about `count` of the candidates B×F: whole chunks, as their frames are decoded
    together. Frame 0 is a chunk of its own."""
    clips, frames = candidates.nonzero(as_tuple=True)
    chunks = clips * candidates.shape[1] + (frames + chunk - 1) // chunk
    found = chunks.unique()
    order = torch.randperm(len(found), generator=generator, device=generator.device).to(found.device)
    drawn = found[order[: -(-count // chunk)]]
    rows = (drawn[:, None] == chunks).nonzero()[:, 1]
    return clips[rows], frames[rows]


# --------------------------------------------------------------------------------------------- helpers


def given_of(networks: Networks, batch: Batch, count: int | None = None) -> Given:
    """What a batch's clips give a task: the latents of their first `count` frames, of all by default."""
    still = None if batch.still is None else batch.still.float()
    return Given(latents_of(networks, batch, count), batch.frame_index, frames=batch.frames, still=still)


def pictures_of(networks: Networks, batch: Batch) -> tuple[Tensor, list[int]]:
    """Latents V×h×w×C of a batch's different context images, and which of them each sample has."""
    first = {name: row for row, name in reversed(list(enumerate(batch.names)))}
    number = {name: n for n, name in enumerate(first)}
    rows = list(first.values())
    if batch.latents is not None:
        context = batch.latents[rows, :, 0].float()
    else:
        context = networks.backbone.encode(as_video(batch.frames[rows, :1]))[:, :, 0]
    return context.permute(0, 2, 3, 1), [number[name] for name in batch.names]


def latents_of(networks: Networks, batch: Batch, count: int | None = None) -> Tensor:
    """Latents of a batch's first `count` frames: B×C×f×h×w float32; the cached ones, where there are some."""
    if batch.latents is not None:
        return batch.latents[:, :, :count].float()
    return networks.backbone.encode(as_video(batch.frames[:, :count]))


def text_states(networks: Networks, batch: Batch) -> Tensor:
    """E_text B×N×D of a batch's sentences; the cached one, where there is one."""
    device = batch.area.device
    if batch.embeddings is None:
        return networks.backbone.text(batch.texts, device)
    states = batch.embeddings.float()
    dropped = [row for row, text in enumerate(batch.texts) if not text]
    if dropped and not batch.has_blank:
        states[dropped] = networks.backbone.text([""], device).float()
    return states
