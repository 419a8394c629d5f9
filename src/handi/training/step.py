"""One training step of each stage: a batch in, named loss terms out (Eq. 5 and 7).

The terms are already weighted: their sum is what is minimised. A name with a leading "_" is for the log only.
All chance comes from the generator and is drawn on its device: a step's noise is millions of numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from handi.data.clips import Batch
from handi.hands import HandDetector
from handi.method import diffusion, losses
from handi.method.area import usable_area
from handi.method.poses import pose_maps
from handi.training.noise import Noised, integers, normal, uniform
from handi.training.recipe import HandLossRecipe, LossRecipe

Terms = dict[str, Tensor]


@dataclass
class Networks:
    """What a step computes with. Those in training may be wrapped (DDP, FSDP, LoRA); only calls are used."""

    vae: Any
    text_encoder: Any
    tokenizer: Any
    unet: Any  # stage 2's noise predictor
    area_unet: Any  # stage 1's
    scheduler: Any  # a diffusers scheduler: its betas and prediction type count
    prior_mask: Tensor | None  # H×W in [0, 1], mean area of the training clips
    detector: HandDetector | None = None  # Υ, where the hand loss is on
    pose_net: Any = None  # predicts the hands' poses

    def schedule(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """√ᾱ and √(1−ᾱ) at timesteps B."""
        signal = self.scheduler.alphas_cumprod.to(t.device, torch.float32)[t]
        return signal.sqrt(), (1 - signal).sqrt()


# ---------------------------------------------------------------------------------------------- stages


def vae_step(networks: Networks, batch: Batch, recipe: LossRecipe, generator: torch.Generator) -> Terms:
    """Autoencoder: reconstruction of one frame a clip, and of its area as a picture (stage 1's video).

    The latents are blurred a little by noise, as those that a noise predictor makes will be.
    """
    rows = torch.arange(len(batch), device=batch.frames.device)
    chosen = integers(batch.frames.shape[1], len(batch), generator).to(rows)
    pictures = _video(batch.frames[rows, chosen][:, None])[:, :, 0]
    masks = _mask_picture(batch.area)[: max(1, len(batch) // 8)]
    pictures = torch.cat([pictures, masks])
    latents = networks.vae.encode(pictures).latent_dist.mode()
    blur = recipe.latent_noise * uniform((len(pictures), 1, 1, 1), generator).to(latents)
    noisy = latents + blur * normal(latents.shape, generator).to(latents)
    error = networks.vae.decode(noisy).sample.float() - pictures
    # Edges count for themselves: fingers are thin, and what blurs them costs little in the mean.
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return {"l1": error.abs().mean(), "l2": error.square().mean().sqrt(), "edges": edges}


def grounding_step(networks: Networks, batch: Batch, recipe: LossRecipe, generator: torch.Generator) -> Terms:
    """Stage 1's finder alone: which things and hands the words mean in the context image.

    A picture that a batch has several times, with other words, is looked at once.
    """
    finder = networks.area_unet.finder
    context, picture = pictures_of(networks, batch)
    cells = finder.see(context)[picture]
    scores = finder.answer(cells, text_states(networks, batch))
    return _grounding(scores.mT.unflatten(2, context.shape[1:3]), batch)


def stage1_step(networks: Networks, batch: Batch, recipe: LossRecipe, generator: torch.Generator) -> Terms:
    """The motion area: noise loss on the latents of the mask video, and mIoU on its pixels (Eq. 5)."""
    if networks.prior_mask is None:
        raise ValueError("stage 1 needs the prior mask")
    network = networks.area_unet
    # The motion strength is that of the whole clip, in both stages, as a user gives one for both.
    reads_motion = diffusion.reads_motion(_config(network))
    clip = latents_of(networks, batch, None if reads_motion else 1)
    context = clip[:, :, :1]  #                                                     B×C×1×h×w
    # The union is the same in every frame: one that has no use for repetition is given a single frame.
    repeats = 1 if makes_one_mask(network) else batch.frame_index.shape[1]
    masks = batch.area[:, None] if batch.frame_areas is None else batch.frame_areas  # B×1 or F×H×W
    z = encode(networks.vae, _mask_video(masks)).expand(-1, -1, repeats, -1, -1)
    prior = diffusion.area_at(networks.prior_mask, batch.area)
    noisy = Noised(networks, z, recipe, generator)
    motion = losses.motion_score(_frozen(clip, batch.area, network)[0]) if reads_motion else None
    extra: dict[str, Any] = {"return_grounding": True} if recipe.grounding else {}
    prediction = network(
        noisy.x_t,
        noisy.t,
        text_states(networks, batch),
        **diffusion.conditions(_config(network), context, prior, motion, batch.frame_index[:, :repeats]),
        **extra,
    )
    found = {} if motion is None else {"_motion": motion.mean()}
    if recipe.grounding:
        prediction, scores = prediction
        found |= {name: recipe.grounding * term for name, term in _grounding(scores, batch).items()}
    terms = noisy.loss(prediction) | found
    if recipe.miou:
        chosen = noisy.below(recipe.miou_noise_limit).nonzero()[: recipe.miou_clips, 0]
        if len(chosen):
            first = min(1, repeats - 1)  # frame 0 is the context's: the mean is over the L others
            order = torch.randperm(repeats - first, generator=generator, device=generator.device)
            frames = first + order[: recipe.miou_frames].to(z.device)
            soft = decode(networks.vae, noisy.x0(prediction)[chosen][:, :, frames]).mean(1) / 2 + 0.5
            truth = masks.expand(-1, repeats, -1, -1)[chosen][:, frames]
            terms["miou"] = recipe.miou * losses.soft_miou(soft.clamp(0, 1), truth)["miou"]
    return terms


def stage2_step(networks: Networks, batch: Batch, recipe: LossRecipe, generator: torch.Generator) -> Terms:
    """The clip: noise loss inside the motion area, and the Hand Refinement Loss (Eq. 7)."""
    network = networks.unet
    z = whole = latents_of(networks, batch)  #                                      B×C×F×h×w
    context = z[:, :, :1]
    text = text_states(networks, batch)
    area = batch.mask
    if (chosen := batch.to_generate) is not None:
        # Without its words stage 1 cannot know the area; in sampling both branches have the prompt's.
        chosen &= torch.tensor([bool(words) for words in batch.texts], device=area.device)
        chosen = chosen[:, None, None]
        area = torch.where(chosen, area_of_stage1(networks, batch, context, text, generator), area)
    z, inside = _frozen(z, area, network)
    noisy = Noised(networks, z, recipe, generator)
    motion = losses.motion_score(z)
    given = diffusion.conditions(_config(network), context, area, motion, batch.frame_index, batch.poses)
    counts = inside if recipe.inside_only else None  # what each cell counts in the noise loss
    if recipe.cells and getattr(_config(network), "area_only", False):
        given["places"] = places_of(inside, recipe.cells, generator)
        counts = _spread(given["places"], inside) * (1.0 if counts is None else counts)
    if recipe.on_hands:
        more = 1 + recipe.on_hands * hand_cells(batch.joints, z.shape[-2:])
        counts = more * (1.0 if counts is None else counts)
    prediction = network(noisy.x_t, noisy.t, text, **given)
    terms = noisy.loss(prediction, counts)
    if "motion" in given:
        terms["_motion"] = motion.mean()
    if recipe.motion:
        terms["motion"] = recipe.motion * losses.motion_loss(noisy.x0(prediction), z)["motion"]
    if recipe.hand.weight:
        x0 = noisy.x0(prediction)
        readable = noisy.below(recipe.hand.noise_limit)
        terms |= hand_terms(networks, batch, x0, readable, recipe.hand, generator, whole)
    return terms


def _grounding(scores: Tensor, batch: Batch) -> Terms:
    """`losses.grounding` of the clips that have words: without them nothing is meant."""
    if batch.referents is None:
        raise ValueError("loss.grounding needs clips that say what their words mean")
    said = torch.tensor([bool(words) for words in batch.texts], device=scores.device)
    share = F.interpolate(batch.referents, scores.shape[-2:], mode="area")
    return losses.grounding(scores, share * said[:, None, None, None])


def places_of(inside: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` cells a clip (or all there are), B×count: those inside the area B×1×1×h×w, any of them where
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
    networks: Networks, batch: Batch, context: Tensor, text: Tensor, generator: torch.Generator
) -> Tensor:
    """The motion area B×H×W in {0, 1} that a stage 1 of one step makes from pure noise, as in sampling.
    Raises: ValueError for a model without stage 1."""
    network = networks.area_unet
    if network is None or networks.prior_mask is None:
        raise ValueError("the mask generated needs a model with a stage 1")
    last = torch.full((len(batch),), networks.scheduler.config.num_train_timesteps - 1, device=context.device)
    noise = normal(context.shape, generator).to(context)
    prior = diffusion.area_at(networks.prior_mask, batch.area)
    given = diffusion.conditions(_config(network), context, prior, None, batch.frame_index[:, :1])
    prediction = network(noise, last, text, **given)
    kind: losses.PredictionKind = networks.scheduler.config.prediction_type
    x0 = losses.predict_x0(prediction.float(), noise, *networks.schedule(last), kind)
    soft = (decode(networks.vae, x0).mean(dim=(1, 2)) / 2 + 0.5).clamp(0, 1).cpu().numpy()
    return torch.from_numpy(np.stack([usable_area(one) for one in soft])).to(batch.area)


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
    clips, frames = candidates.nonzero(as_tuple=True)
    order = torch.randperm(len(clips), generator=generator, device=generator.device)
    drawn = order[: recipe.frames].to(clips.device)
    if not len(drawn):
        return {"_hands": x0.new_zeros(())}
    clips, frames = clips[drawn], frames[drawn]
    generated = decode(networks.vae, x0[clips, :, frames][:, :, None])[:, :, 0]
    if batch.frames.numel():
        true = _video(batch.frames[clips, frames][:, None])[:, :, 0]
    elif z is not None:
        with torch.no_grad():
            true = decode(networks.vae, z[clips, :, frames][:, :, None])[:, :, 0]
    else:
        raise ValueError("the hand loss needs true frames, or their latents")
    rois = batch.rois[clips, frames]
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


# --------------------------------------------------------------------------------------------- helpers


def pictures_of(networks: Networks, batch: Batch) -> tuple[Tensor, list[int]]:
    """Latents V×h×w×C of a batch's different context images, and which of them each sample has."""
    first = {name: row for row, name in reversed(list(enumerate(batch.names)))}
    number = {name: n for n, name in enumerate(first)}
    rows = list(first.values())
    if batch.latents is not None:
        context = batch.latents[rows, :, 0].float()
    else:
        context = encode(networks.vae, _video(batch.frames[rows, :1]))[:, :, 0]
    return context.permute(0, 2, 3, 1), [number[name] for name in batch.names]


def latents_of(networks: Networks, batch: Batch, count: int | None = None) -> Tensor:
    """Latents of a batch's first `count` frames: B×C×F×h×w float32; the cached ones, where there are some."""
    if batch.latents is not None:
        return batch.latents[:, :, :count].float()
    return encode(networks.vae, _video(batch.frames[:, :count]))


def encode(vae: Any, video: Tensor) -> Tensor:
    """Latents of B×3×F×H×W in [-1, 1]: B×C×F×h×w float32, scaled; no gradient."""
    with torch.no_grad():
        flat = video.transpose(1, 2).flatten(0, 1)
        latents = vae.encode(flat.to(vae.dtype)).latent_dist.mode().float() * vae.config.scaling_factor
        return latents.unflatten(0, (len(video), -1)).transpose(1, 2)


def decode(vae: Any, latents: Tensor) -> Tensor:
    """Pixels of latents B×C×F×h×w: B×3×F×H×W float32, about [-1, 1], with a gradient."""
    flat = latents.transpose(1, 2).flatten(0, 1) / vae.config.scaling_factor
    return vae.decode(flat.to(vae.dtype)).sample.float().unflatten(0, (len(latents), -1)).transpose(1, 2)


def encode_text(networks: Networks, texts: Sequence[str]) -> Tensor:
    """E_text B×N×D."""
    tokenizer, encoder = networks.tokenizer, networks.text_encoder
    limit = min(tokenizer.model_max_length, _config(encoder).max_position_embeddings)
    ids = tokenizer(
        list(texts), padding="max_length", max_length=limit, truncation=True, return_tensors="pt"
    ).input_ids
    return encoder(ids.to(_device(encoder))).last_hidden_state


def text_states(networks: Networks, batch: Batch) -> Tensor:
    """E_text B×N×D of a batch's sentences; the cached one, where there is one."""
    if batch.embeddings is None:
        return encode_text(networks, batch.texts)
    states = batch.embeddings.float()
    dropped = [row for row, text in enumerate(batch.texts) if not text]
    if dropped:
        states[dropped] = encode_text(networks, [""]).float()
    return states


def _video(frames: Tensor) -> Tensor:
    """Frames as an autoencoder takes them: B×F×H×W×3 uint8 → B×3×F×H×W float32 in [-1, 1]."""
    return frames.permute(0, 4, 1, 2, 3).float() / 127.5 - 1


def makes_one_mask(network: Any) -> bool:
    """Whether stage 1's network makes a single mask a clip, not one for each frame."""
    return getattr(_config(network), "from_context", True) is False


def _mask_video(masks: Tensor) -> Tensor:
    """Masks as a grey video: B×F×H×W in {0, 1} → B×3×F×H×W in {-1, 1}."""
    return (2 * masks - 1)[:, None].expand(-1, 3, -1, -1, -1)


def _mask_picture(area: Tensor) -> Tensor:
    """A motion area as a grey picture: B×H×W in {0, 1} → B×3×H×W in {-1, 1}."""
    return (2 * area - 1)[:, None].expand(-1, 3, -1, -1)


def _frozen(z: Tensor, area: Tensor, network: Any) -> tuple[Tensor, Tensor]:
    """(latents B×C×F×h×w with those outside the area B×H×W frozen to the first frame's; B×1×1×h×w in
    {0, 1}, where they are not). Source: docs/method.md §6."""
    mask = diffusion.latent_mask(area, z.shape[-2:], _mask_mode(network))
    inside = (mask > 0).to(z) if _mask_mode(network) == "area" else (mask >= 0.5).to(z)
    return z[:, :, :1] * (1 - inside) + z * inside, inside


def _mask_mode(network: Any) -> str | None:
    return getattr(_config(network), "mask_mode", None)


def _config(network: Any) -> Any:
    """The config of a network inside whatever wraps it."""
    while not hasattr(network, "config"):
        network = network.module
    return network.config


def _device(network: Any) -> torch.device:
    return next(network.parameters()).device
