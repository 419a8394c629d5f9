"""Up to which noise level can the hand detector Υ read what stage 2 makes of a noised clip?

    python benchmarks/hand_loss_calibration.py --model mini --clips 32 --world FOLDER

For each timestep t: the true latents of test clips are noised to t, x0 is predicted in one step with the true
motion area and the clip's text, and decoded: just what the Hand Refinement Loss sees in training. Logged on
frames 2, 6, 9 and 13, for the hands that Υ reads in the true frame's regions:

- presence that Υ gives the decoded frame in those regions, and the joint error there (sides of the region);
- whether the whole detector finds the hand again, palms first (docs/world.md's protocol, frames enlarged to
  256 px), of those that it finds in the plain reconstruction, and the error of those found (share of a box);
- on the first clips, the gradient of the hand loss with respect to the noise predictor's weights: its norm
  (weight 1) over the noise loss's, and the cosine between the two.

As a yardstick the table begins with the true frames, blurred, and the plain reconstruction. The limit that
it recommends is sigma/alpha of the largest t up to which, from the lowest on, the median presence
stays above 0.9 and more than half of the reconstruction's hands are found again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from estimates import table
from hand_match import ACTION_FRAMES, INSIDE, enlarge, match_hands
from mini_data import load_clips
from torch import Tensor
from torch.nn import functional as F

from handi import HandiPipeline, diffusion, losses
from handi.data.world import rois_of
from handi.files import replacing
from handi.hands import HandDetector
from handi.world import WorldClip
from handi.world.truth import OUTSIDE

LEVELS = (20, 100, 200, 300, 400, 500, 600, 700, 800, 900, 999)
BLURS = (0.5, 1.0, 1.5, 2.0, 3.0)  # sd in px
PRESENCE, AGAIN = 0.9, 0.5  # what the recommended level must keep


@dataclass
class Level:
    """What was seen in one kind of picture, a number a hand or a clip."""

    name: str  # heading of its row
    t: int | None = None  # timestep, of predictions
    gain: float = 0.0  # sigma / alpha
    blur: float = 0.0  # sd in px, of true frames
    presence: list[float] = field(default_factory=list)
    error: list[float] = field(default_factory=list)  # in the true region, of its side
    again: list[float | None] = field(default_factory=list)  # error of the hand found anew, of its box
    ratio: list[float] = field(default_factory=list)  # gradient norm, hand loss over noise loss
    cosine: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Scene:
    """A clip, ready to be noised."""

    clip: WorldClip
    z: Tensor  # 1×C×F×h×w, frozen to the context outside the area as in training
    inside: Tensor  # 1×1×1×h×w
    conditions: dict[str, Tensor]
    true: Tensor  # f×3×H×W in [-1, 1], the frames that are looked at
    rois: Tensor  # f×2×4


def scene_of(pipe: HandiPipeline, clip: WorldClip) -> Scene:
    """Latents, area and text of a clip as a training step has them."""
    frames = list(ACTION_FRAMES)
    z = pipe.encode_images(clip.frames.copy()).transpose(0, 2).contiguous()  # F×C×1×h×w → 1×C×F×h×w
    mode = getattr(pipe.unet.config, "mask_mode", None)
    mask = diffusion.latent_mask(torch.from_numpy(clip.area_moved)[None], z.shape[-2:], mode).to(z)
    inside = (mask > 0 if mode == "area" else mask >= 0.5).to(z)
    context = z[:, :, :1]
    seen = ((clip.visible != OUTSIDE) & clip.joints2d.any(-1)).reshape(-1, 2, 21).sum(2) >= INSIDE
    size = clip.frames.shape[1:3]
    return Scene(
        clip=clip,
        z=context * (1 - inside) + z * inside,
        inside=inside,
        conditions={
            "encoder_hidden_states": pipe.encode_text([clip.text]),
            "condition_latent": context,
            "mask": mask,
            "motion": torch.tensor([pipe.card.stage2.motion], device=z.device),
        },
        true=torch.from_numpy(clip.frames[frames]).permute(0, 3, 1, 2).float().to(z) / 127.5 - 1,
        rois=torch.from_numpy(rois_of(clip.joints2d, seen, *size)[frames]).to(z),
    )


def predict(pipe: HandiPipeline, scene: Scene, t: int) -> tuple[Tensor, Tensor]:
    """(L_noise, ẑ0 1×C×F×h×w) at a timestep; the noise is the clip's own, the same at every t."""
    kind = pipe.scheduler.config.prediction_type
    steps = torch.tensor([t], device=scene.z.device)
    bar = pipe.scheduler.alphas_cumprod.to(scene.z)[steps]
    alpha, sigma = bar.sqrt(), (1 - bar).sqrt()
    noise = diffusion.clip_noise(scene.z.shape[1:], [scene.clip.seed], stream=2).to(scene.z)
    x_t = alpha * scene.z + sigma * noise
    prediction = pipe.unet(x_t, steps, **scene.conditions)
    target = losses.target_of(scene.z, noise, alpha, sigma, kind)
    loss = losses.noise_loss(prediction, target, mask=scene.inside)["noise"]
    return loss, losses.predict_x0(prediction, x_t, alpha, sigma, kind)


def decode(pipe: HandiPipeline, x0: Tensor) -> Tensor:
    """The frames of ẑ0 that are looked at, f×3×H×W in [-1, 1]."""
    return 2 * pipe.decode(x0[:, :, list(ACTION_FRAMES)])[0].transpose(0, 1) - 1


def look(detector: HandDetector, scene: Scene, pictures: Tensor, level: Level) -> Tensor:
    """Note what Υ makes of the chosen frames of a clip, f×3×H×W in [-1, 1], and return the hand loss."""
    read, truth = losses.read_hands(detector, pictures, scene.true, scene.rois)
    known = truth.visible
    size = torch.tensor(read.size[::-1]).to(read.joints)
    away = ((read.joints - truth.joints).detach() * size).unflatten(1, (2, 21)).norm(dim=-1).mean(-1)
    level.presence += read.presence.detach()[known].tolist()
    level.error += (away / scene.rois[..., 2].clamp(min=1))[known].tolist()
    levels = ((pictures.detach() / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
    enlarged = np.stack([enlarge(frame) for frame in levels.permute(0, 2, 3, 1).cpu().numpy()])
    anew = detector.detect(enlarged)
    for n, f in enumerate(ACTION_FRAMES):
        found = list(anew.joints[n].view(2, 21, 2)[anew.visible[n]].numpy())
        inside = (scene.clip.visible[f] != OUTSIDE) & scene.clip.joints2d[f].any(-1)
        matched = match_hands(scene.clip.joints2d[f], inside, found)
        level.again += [matched.get(side) for side in (0, 1) if known[n, side]]
    return losses.hand_refinement(read, truth)["hand"]


def compare_gradients(pipe: HandiPipeline, noise: Tensor, hand: Tensor, level: Level) -> None:
    """Note how the two losses pull on the noise predictor's weights; nothing where no hand was readable."""
    weights = [weight for weight in pipe.unet.parameters() if weight.requires_grad]

    def pull(loss: Tensor) -> Tensor:
        parts = torch.autograd.grad(
            loss, weights, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return torch.cat([part.flatten() for part in parts])

    pulls = [pull(noise), pull(hand)]
    norms = [float(pull.norm()) for pull in pulls]
    if min(norms) > 0:
        level.ratio.append(norms[1] / norms[0])
        level.cosine.append(float(pulls[0] @ pulls[1]) / (norms[0] * norms[1]))


def calibrate(
    pipe: HandiPipeline,
    detector: HandDetector,
    clips: Sequence[WorldClip],
    levels: Sequence[int],
    gradients: int,
) -> list[Level]:
    """Blurred true frames, the plain reconstruction, and every level."""
    bar = pipe.scheduler.alphas_cumprod
    blurred = [Level(f"true frames, blurred {blur:g} px", blur=blur) for blur in BLURS]
    plain = Level("reconstruction")
    predicted = [Level(f"t = {t}", t, float(((1 - bar[t]) / bar[t]).sqrt())) for t in levels]
    for number, clip in enumerate(clips):
        with torch.no_grad():
            scene = scene_of(pipe, clip)
            for level in blurred:
                look(detector, scene, gaussian_blur(scene.true, level.blur), level)
            look(detector, scene, decode(pipe, scene.z), plain)
        for level in predicted:
            with torch.set_grad_enabled(number < gradients):
                noise, x0 = predict(pipe, scene, int(level.t or 0))
                hand = look(detector, scene, decode(pipe, x0), level)
                if hand.requires_grad:
                    compare_gradients(pipe, noise, hand, level)
    return [*blurred, plain, *predicted]


def gaussian_blur(pictures: Tensor, sd: float) -> Tensor:
    """f×3×H×W, edges repeated."""
    reach = int(np.ceil(3 * sd))
    at = torch.arange(-reach, reach + 1).to(pictures)
    kernel = torch.exp(-0.5 * (at / sd) ** 2)
    kernel = (kernel / kernel.sum()).expand(pictures.shape[1], 1, 1, -1)
    wide = F.pad(pictures, [reach] * 4, mode="replicate")
    return F.conv2d(F.conv2d(wide, kernel, groups=3), kernel.transpose(2, 3), groups=3)


def reconstruction_of(levels: Sequence[Level]) -> Level:
    """The level that detections are compared with."""
    return next(level for level in levels if level.t is None and not level.blur)


def again_share(level: Level, reference: Level) -> float:
    """Share of the hands found in the reference that are found at this level too."""
    both = [a is not None for a, b in zip(level.again, reference.again, strict=True) if b is not None]
    return float(np.mean(both)) if both else float("nan")


def recommended(levels: Sequence[Level]) -> Level | None:
    """The last level, from the lowest on, that keeps presence and re-detection (see the module's text)."""
    last, plain = None, reconstruction_of(levels)
    for level in (level for level in levels if level.t is not None):
        if not (np.median(level.presence or [0]) > PRESENCE and again_share(level, plain) > AGAIN):
            break
        last = level
    return last


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if np.isfinite(share) else "–"


def report(levels: Sequence[Level]) -> str:
    """The table and the recommendation, Markdown."""
    rows, base = [], reconstruction_of(levels)
    for level in levels:
        presence = np.array(level.presence or [np.nan])
        found = [error for error in level.again if error is not None]
        rows.append(
            [
                level.name,
                "" if level.t is None else f"{level.gain:.2f}",
                f"{np.median(presence):.3f} ({np.quantile(presence, 0.25):.3f})",
                _percent(np.mean(presence > losses.READABLE)),
                f"{np.median(level.error or [np.nan]):.3f}",
                _percent(again_share(level, base)),
                f"{np.mean(found):.3f}" if found else "–",
                f"{np.median(level.ratio):.3g} ({len(level.ratio)})" if level.ratio else "–",
                f"{np.median(level.cosine):.2f}" if level.cosine else "–",
            ]
        )
    header = [
        "pictures", "sigma/alpha", "presence, median (25 %)", "above 0.5", "joint error in region",
        "found again", "error of those found", "hand/noise gradient (clips)", "cosine",
    ]  # fmt: skip
    detected = sum(error is not None for error in base.again)
    best = recommended(levels)
    verdict = (
        f"Recommended noise_limit: {best.gain:.2f} (t = {best.t})."
        if best is not None
        else "No level can be read well enough: train without a hand loss, or use the features alone."
    )
    return (
        f"{len(base.presence)} hands, of which the detector finds {detected} in the plain reconstruction.\n\n"
        + table(header, rows)
        + f"\nRule: the largest t up to which the median presence stays above {PRESENCE} and more than "
        f"{100 * AGAIN:.0f} % are found again. {verdict}\n"
    )


def main(arguments: Sequence[str] | None = None) -> str:
    """The command line; prints and returns the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="mini", help="folder, hub id, mini or random")
    parser.add_argument("--clips", type=int, default=32)
    parser.add_argument(
        "--world", type=Path, default=Path("data/world-test"), help="missing clips are rendered"
    )
    parser.add_argument("--levels", type=int, nargs="+", default=LEVELS, help="timesteps")
    parser.add_argument("--gradients", type=int, default=8, help="clips on which gradients are compared")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="also write every number there")
    given = parser.parse_args(arguments)
    pipe = HandiPipeline.from_pretrained(given.model).to(given.device)
    clips = load_clips(given.world, given.clips, pipe.card.height)
    levels = calibrate(pipe, HandDetector.from_pretrained(), clips, sorted(given.levels), given.gradients)
    text = f"Model {given.model}, {len(clips)} test clips, {given.device}.\n\n{report(levels)}"
    if given.json is not None:
        with replacing(given.json) as temporary:
            temporary.write_text(json.dumps([asdict(level) for level in levels]))
    print(text)
    return text


if __name__ == "__main__":
    main()
