"""Training losses as pure functions: noise prediction, motion area, Hand Refinement Loss (Eq. 2 to 7).

Losses come as a dict of named terms, unweighted: α, η and the like are the recipe's. Names that start with
"_" are for the log only and carry no gradient. alpha and sigma are √ᾱ and √(1−ᾱ) of the schedule at each
clip's t, shape B: x_t = alpha·x0 + sigma·noise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from handi.core.types import Hands
from handi.method.poses import present

if TYPE_CHECKING:
    from handi.hands import HandDetector

PredictionKind = Literal["epsilon", "v_prediction", "sample", "flow"]
HandForm = Literal["roi", "literal"]

READABLE = 0.5  # presence below which a generated hand is not read
NEAR = 1 / 32  # of the frame's side: errors of predicted joints above it pull with constant force
HUBER = 0.1  # of a region's side: joint errors above it pull with constant force

# ------------------------------------------------------------------------------------------ diffusion


def _wide(values: Tensor, like: Tensor) -> Tensor:
    """B → B×1×1×… so that it multiplies `like`."""
    return values.to(like.device, like.dtype).view(-1, *[1] * (like.ndim - 1))


def target_of(x0: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor, kind: PredictionKind) -> Tensor:
    """What the network should answer: the noise (Eq. 3), v = alpha·noise − sigma·x0, x0, or noise − x0 where
    x_t moves straight from one to the other ("flow": alpha = 1 − sigma); B×C×F×h×w.

    Raises: ValueError for another kind.
    """
    if kind == "epsilon":
        return noise
    if kind == "v_prediction":
        return _wide(alpha, x0) * noise - _wide(sigma, x0) * x0
    if kind == "sample":
        return x0
    if kind == "flow":
        return noise - x0
    raise ValueError(f"no such kind of prediction: {kind!r}")


def predict_x0(prediction: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor, kind: PredictionKind) -> Tensor:
    """ẑ0 from the network's answer (Eq. 4), float32 B×C×F×h×w.

    Eq. 4 prints the true noise ε, with which ẑ0 would not depend on the network; the predicted one is meant.
    It also holds for epsilon only; other kinds have their own inverse. Not defined for epsilon at alpha = 0.
    Raises: ValueError for another kind.
    """
    prediction, x_t = prediction.float(), x_t.float()
    if kind == "epsilon":
        return (x_t - _wide(sigma, x_t) * prediction) / _wide(alpha, x_t)
    if kind == "v_prediction":
        return _wide(alpha, x_t) * x_t - _wide(sigma, x_t) * prediction
    if kind == "sample":
        return prediction
    if kind == "flow":
        return x_t - _wide(sigma, x_t) * prediction
    raise ValueError(f"no such kind of prediction: {kind!r}")


def snr_weight(
    alpha: Tensor, sigma: Tensor, kind: PredictionKind, gamma: float | None, *, least: float = 0.0
) -> Tensor:
    """Min-SNR-γ weights B of the noise loss (Hang et al. 2023): each kind's form of min(SNR, γ) on x0's loss.

    SNR = alpha²/sigma². epsilon: min(SNR, γ)/SNR; v_prediction: min(SNR, γ)/(SNR + 1); sample: min(SNR, γ);
    flow, whose error is 1/sigma times that of x0: min(SNR, γ)·sigma².
    gamma None gives ones. alpha = 0 and sigma = 0 have their limits. With zero terminal SNR the last step's
    v weight is 0: a recipe that must learn that step leaves gamma out, or, for sample, sets `least`: a lower
    limit of its weight (1 is the truncated SNR of Salimans & Ho 2022). Raises: ValueError for another kind.
    """
    if gamma is None:
        return torch.ones_like(alpha)
    signal, noise = alpha.square(), sigma.square()
    limited = torch.minimum(signal, gamma * noise)  # min(SNR, γ) · sigma²
    if kind == "flow":
        return limited
    if kind == "epsilon":
        return torch.where(signal > 0, limited / signal, 1)
    if kind == "v_prediction":
        return limited / (signal + noise)
    if kind == "sample":
        return torch.where(noise > 0, limited / noise, gamma).clamp(min=least)
    raise ValueError(f"no such kind of prediction: {kind!r}")


def noise_level_weight(alpha: Tensor, sigma: Tensor, limit: float) -> Tensor:
    """1 for clips on which pixel losses are worth computing, 0 for the others: B.

    The measure is sigma/alpha: the noise in x_t for one part of signal, and the factor by which an error
    of the predicted noise reaches ẑ0 (14.7 at t = 999 with Stable Diffusion's betas, 1.9 at 500). It grows
    with t in every schedule, and equal x_t have equal values whatever the schedule, its length or the kind
    of prediction; t alone says none of that. It is a step and no ramp, as presence already weighs each hand
    below the limit. `experiments/hand_loss/calibration.py` finds the limit for a model.
    """
    return (sigma <= limit * alpha).to(sigma.dtype)  # not sigma/alpha, which is 0/0 or infinite at alpha = 0


def noise_loss(
    prediction: Tensor, target: Tensor, weight: Tensor | None = None, mask: Tensor | None = None
) -> dict[str, Tensor]:
    """L_noise (Eq. 3): squared error, mean over each clip, then Σ weight·loss / B. B×C×F×h×w.

    `mask` B×1×1×h×w (or any shape that broadcasts) in [0, 1] makes each clip's mean a mean over its area, so
    that a small area counts as much as a large one; a clip with an empty one adds nothing. `weight` B is not
    normalised: that is what min-SNR means, and with a batch of one it would vanish otherwise.
    """
    error = (prediction.float() - target.float()).square()
    dims = tuple(range(1, error.ndim))
    if mask is None:
        clips = error.mean(dims)
    else:
        area = mask.to(error).expand_as(error)
        clips = (error * area).sum(dims) / area.sum(dims).clamp(min=1e-6)
    if weight is not None:
        clips = clips * weight.to(clips)
    return {"noise": clips.mean()}


def motion_loss(x0: Tensor, z: Tensor) -> dict[str, Tensor]:
    """AnimateAnything's motion loss: squared difference of motion scores; its own weight is 0.001.

    A score is one number per clip, so the loss says how much should move and nothing about where. The paper
    does not mention it; the official code uses it.
    """
    return {"motion": (motion_score(x0) - motion_score(z)).square().mean()}


def motion_score(z: Tensor) -> Tensor:
    """AnimateAnything's motion strength of latents B×C×F×h×w: B, 10·Σ_c mean|z[f+1] − z[f]|."""
    return 10 * z.float().diff(dim=2).abs().mean(dim=(2, 3, 4)).sum(dim=1)


# ---------------------------------------------------------------------------------------- motion area


def soft_miou(mask: Tensor, truth: Tensor) -> dict[str, Tensor]:
    """L_mIoU (Eq. 6): 1 − mean IoU of masks in [0, 1], …×H×W; on binary masks it is the ordinary IoU.

    The printed indices would multiply every pixel with every other; sums run over pixels here. The masks are
    not made binary as in the paper's text, for that has no gradient. Two empty masks agree: IoU 1.
    """
    mask, truth = mask.float(), truth.to(mask.device, torch.float32)
    both = (mask * truth).sum((-2, -1))
    either = (mask + truth).sum((-2, -1)) - both
    iou = torch.where(either > 0, both / either.clamp(min=1e-6), 1)
    return {"miou": 1 - iou.mean()}


def grounding(scores: Tensor, share: Tensor) -> dict[str, Tensor]:
    """How far a reader is from knowing which things and which hands the words mean: two terms, in nats.

    scores B×2×h×w of each cell, first for things, then for hands; share likewise in [0, 1], of the cell's
    pixels that show one that is meant. Each term is KL(share ‖ softmax of the scores) over a clip's cells:
    a small cup weighs as much as a drawer. Clips that show none do not count. This is not in the paper.
    """
    share = share.to(scores.device, torch.float32).flatten(2)
    total = share.sum(-1, keepdim=True)
    truth = share / total.clamp(min=1e-6)
    found = scores.float().flatten(2).log_softmax(-1)
    apart = (torch.xlogy(truth, truth) - truth * found).sum(-1)  # B×2
    there = (total[..., 0] > 0).float()
    things, hands = ((apart * there).sum(0) / there.sum(0).clamp(min=1)).unbind(0)
    return {"things": things, "hands": hands}


# ----------------------------------------------------------------------------------------------- hands


def pose_loss(joints: Tensor, presence_logits: Tensor, start: Tensor, way: Tensor) -> dict[str, Tensor]:
    """Terms of predicted poses B×F×42×2, their hands' presence B×F×2 and frame 0 as it was seen, B×42×2,
    for the true ones `way`, zeros where a hand is not there.

    Distances are Huber's, in units of NEAR: a wrong hand must not drown the others.
    """
    there = present(way)  #                                                           B×F×2
    counted = there.repeat_interleave(21, -1).to(joints)[..., None].expand_as(joints)

    def distance(guess: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
        return _weighted(F.smooth_l1_loss(guess / NEAR, truth / NEAR, reduction="none"), weights)

    with torch.no_grad():
        error = _weighted((joints - way).norm(dim=-1), counted[..., 0])
    return {
        "way": 4 * distance(joints, way, counted),
        "start": distance(start, way[:, 0], counted[:, 0]),
        "there": F.binary_cross_entropy_with_logits(presence_logits, there.to(presence_logits)),
        "_pose_error": error,  # mean over all joints, as a share of the side
    }


def jitter_rois(
    rois: Tensor,
    generator: torch.Generator | None = None,
    *,
    shift: float = 0.05,
    scale: float = 0.1,
    rotation: float = 0.1,
) -> Tensor:
    """Move hand regions a little, each for itself, so that no texture can be fitted to one fixed crop.

    rois B×2×4 as in `Hands.rois`. Uniform: the centre by up to `shift` of the side along either axis,
    the side by a factor from 1/(1 + scale) to 1 + scale, the angle by up to `rotation` rad. Empty slots stay
    empty.
    """
    drawn = torch.rand(rois.shape, generator=generator, device=generator.device if generator else "cpu")
    u = 2 * drawn.to(rois) - 1
    x, y, side, angle = rois.unbind(-1)
    moved = torch.stack(
        [
            x + shift * u[..., 0] * side,
            y + shift * u[..., 1] * side,
            side * (1 + scale) ** u[..., 2],
            angle + rotation * u[..., 3],
        ],
        dim=-1,
    )
    return torch.where(rois[..., 2:3] > 0, moved, rois)


def read_hands(
    detector: HandDetector,
    generated: Tensor,
    true: Tensor,
    rois: Tensor,
    *,
    form: HandForm = "roi",
    features: bool = False,
) -> tuple[Hands, Hands]:
    """Υ on generated and true frames, B×3×H×W in [-1, 1]: (read, truth) for `hand_refinement`.

    Gradients reach `generated` only. roi: both are read in the given regions, so that MediaPipe's habits (its
    joints lie up to a tenth of a hand off a renderer's) cancel. literal: both go through the whole detector,
    which finds its own regions and slots; `rois` is not used.
    """
    pictures = (generated.float() / 2 + 0.5).clamp(0, 1)
    with torch.no_grad():
        originals = (true.float() / 2 + 0.5).clamp(0, 1)
        if form == "literal":
            truth = detector.detect(originals)
            rois = detector.detect(pictures).rois
        else:
            truth = detector.landmarks(originals, rois, features=features)
    return detector.landmarks(pictures, rois, features=features and form == "roi"), truth


def hand_refinement(
    read: Hands,
    truth: Hands,
    form: HandForm = "roi",
    *,
    features: bool = False,
    readable: float = READABLE,
    huber: float = HUBER,
) -> dict[str, Tensor]:
    """Hand Refinement Loss (Eq. 2): hands `read` in B generated frames against `truth`, the true frames'.

    literal: Eq. 2 as printed, Σ over joints of the squared distance (in shares of the frame) / J / L, the
    joints of a hand that is not visible set to zero on either side. So a missed hand costs its distance from
    the frame's corner with no gradient that would bring it back, a hand that only the generated frame shows
    is pulled to the corner, and a hand in the other slot counts as both.

    roi, for `read` in the true frame's regions (see `read_hands`): hands are tied to the true slots, so that
    labels cannot collide. Errors are in sides of the region, so that small hands count as much as large
    ones, and Huber: beyond `huber` they pull with constant force. A hand weighs 1[truth visible] · presence
    of the generated one, which gets no gradient (else fading a hand out would lower the loss), and nothing
    below `readable`. That gate is needed: the sum is divided by the weights' sum, so that a hand of presence
    0.05 that is alone would count in full, and gradients are largest where nothing can be read. It is also
    the limit of the capture range, as presence vanishes once a hand is some 0.4 sides off.
    `features=True` adds `hand_features`, see `_feature_distance`.

    Logged: `_presence`, generated, mean over the true hands; `_hands`, how many hands counted; `_hand_error`,
    their mean joint error in sides of the region (roi) or of the frame (literal); NaN where there are none.
    Where no hand counts `roi` is exactly 0 and so is its gradient; where no region was read on the generated
    side at all, the terms are constants (`requires_grad` is False).
    Raises: ValueError for another form, or records of other frames.
    """
    if read.joints.shape != truth.joints.shape or read.size != truth.size:
        raise ValueError(f"hands of {len(read)} frames {read.size} and of {len(truth)} {truth.size}")
    generated, true = (hands.joints.unflatten(1, (2, -1)) for hands in (read, truth))  # B×2×21×2
    seen, wanted = read.visible, truth.visible.to(read.visible.device)
    true = true.detach().to(generated)
    if form == "literal":
        hidden, absent = (~seen)[..., None, None], (~wanted)[..., None, None]
        error = generated.masked_fill(hidden, 0) - true.masked_fill(absent, 0)
        losses = {"hand": error.square().sum((1, 2, 3)).mean() / read.joints.shape[1]}
        used = (seen & wanted).to(generated)
    elif form == "roi":
        side = truth.rois[..., 2].to(generated)
        unit = generated.new_tensor([read.size[1], read.size[0]]) / side.clamp(min=1e-6)[..., None, None]
        error = (generated - true) * unit
        presence = read.presence.detach()
        used = presence * (wanted & (side > 0) & (presence > readable))
        each = F.huber_loss(error, torch.zeros_like(error), reduction="none", delta=huber)
        losses = {"hand": _weighted(each.sum(-1).mean(-1), used)}
        if features:
            losses["hand_features"] = _feature_distance(read, truth)
    else:
        raise ValueError(f"no such form of the hand loss: {form!r}")
    with torch.no_grad():
        there = wanted.to(generated)
        losses["_presence"] = (read.presence * there).sum() / there.sum()
        losses["_hands"] = (used > 0).sum().to(generated)
        losses["_hand_error"] = (error.norm(dim=-1).mean(-1) * (used > 0)).sum() / losses["_hands"]
    return losses


def _weighted(values: Tensor, weights: Tensor) -> Tensor:
    """Σ w·v / Σ w; 0, with zero gradient, where all weights are."""
    return (values * weights).sum() / weights.sum().clamp(min=1e-6)


def _feature_distance(read: Hands, truth: Hands) -> Tensor:
    """How far the landmark network's activations are from those on the true frame in the same regions.

    Squared error over the power of the true activations: 0 when equal, 1 for none at all; mean over the
    maps and over the regions with a true hand. The generated presence does not weigh it as it does the
    joints: this is the term that can tell an unreadable blob what a hand looks like.
    Raises: ValueError where the two sides did not read the same regions.
    """
    slots = (read.rois[..., 2] > 0).flatten()
    if not slots.equal((truth.rois[..., 2] > 0).flatten().to(slots.device)):
        raise ValueError("features of different regions: read both sides with the same rois")
    if not slots.any():
        return read.joints.sum() * 0
    if not read.features or len(read.features) != len(truth.features):
        raise ValueError("these hands were read without features")
    rows = truth.visible.flatten().to(slots.device)[slots].to(read.joints)
    distances = []
    for mine, theirs in zip(read.features, truth.features, strict=True):
        theirs = theirs.detach().to(mine)
        power = theirs.square().sum((1, 2, 3)).clamp(min=1e-6)
        distances.append(_weighted((mine - theirs).square().sum((1, 2, 3)) / power, rows))
    return torch.stack(distances).mean()
