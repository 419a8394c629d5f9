"""Up to which noise level can the hand detector Υ read what stage 2 makes of a noised clip?

    python -m experiments.hand_loss.calibration --model mini --clips 32 --world FOLDER

For each timestep t: the true latents of test clips are noised to t, x0 is predicted in one step with the true
motion area, the true poses (if the model reads them; `--no-poses`: without) and the clip's text, and decoded:
just what the Hand Refinement Loss sees in training. Logged on frames 2, 6, 9 and 13, for the hands that Υ
reads in the true frame's regions:

- presence that Υ gives the decoded frame in those regions, and the joint error there (sides of the region);
- whether the whole detector finds the hand anew, palms first (docs/world.md's protocol, frames enlarged to
  256 px): of all, and of those that it finds in the plain reconstruction; the error (share of a hand's box);
- on the first clips, gradients with respect to the noise predictor's weights, of the hand loss and of its
  features: the norm (of the bare term) over the bare noise loss's, and the cosine between the two.

As a yardstick the table begins with the true frames, blurred or noisy, and the plain reconstruction. The
limit that it recommends is sigma/alpha of the largest t up to which, from the lowest on, the median presence
stays above 0.9 and more than half of the reconstruction's hands are found anew.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from experiments.estimates import table
from experiments.mini.clips import load_clips
from handi import HandiPipeline
from handi.core.files import replacing
from handi.data.known_hands import rois_of
from handi.hands import HandDetector
from handi.hands.matching import INSIDE, enlarge, match_hands
from handi.method import diffusion, losses
from handi.models.backbone import Given, Layout
from handi.world import WorldClip
from handi.world.judges import ACTION_FRAMES
from handi.world.truth import OUTSIDE

LEVELS = (20, 100, 200, 300, 400, 500, 600, 700, 800, 900, 999)
BLURS, SPECKLES = (0.5, 1.0, 1.5, 2.0, 3.0), (0.05, 0.1)  # sd in px; sd of noise, of the range
TERMS = ("hand", "hand_features")
PRESENCE, AGAIN = 0.9, 0.5  # what the recommended level must keep


@dataclass
class Level:
    """What was seen in one kind of picture, a number a hand or a clip."""

    name: str  # heading of its row
    t: int | None = None  # timestep, of predictions
    gain: float = 0.0  # sigma / alpha
    true: bool = False  # frames that no network made
    presence: list[float] = field(default_factory=list)
    error: list[float] = field(default_factory=list)  # in the true region, of its side
    again: list[float | None] = field(default_factory=list)  # error of the hand found anew, of its box
    # Of each term of the hand loss: its gradient's norm over the noise loss's, and the cosine of the two.
    ratio: dict[str, list[float]] = field(default_factory=lambda: {term: [] for term in TERMS})
    cosine: dict[str, list[float]] = field(default_factory=lambda: {term: [] for term in TERMS})


@dataclass(frozen=True)
class Scene:
    """A clip, ready to be noised."""

    clip: WorldClip
    layout: Layout
    text: Tensor  # 1×N×D
    true: Tensor  # f×3×H×W in [-1, 1], the frames that are looked at
    rois: Tensor  # f×2×4


def scene_of(pipe: HandiPipeline, clip: WorldClip, shown: bool) -> Scene:
    """Latents, area and text of a clip as a training step has them; shown: and its poses."""
    frames = list(ACTION_FRAMES)
    z = pipe.encode_images(clip.frames).transpose(0, 2).contiguous()  # F×C×1×h×w → 1×C×F×h×w
    motion = torch.tensor([pipe.card.stage2.motion], device=z.device)
    poses = torch.from_numpy(clip.joints2d).to(z)[None]
    given = Given(z, torch.arange(z.shape[2])[None], motion=motion, poses=poses if shown else None)
    seen = ((clip.visible != OUTSIDE) & clip.joints2d.any(-1)).reshape(-1, 2, 21).sum(2) >= INSIDE
    size = clip.frames.shape[1:3]
    return Scene(
        clip=clip,
        layout=pipe.backbone.clip(pipe.unet, given, torch.from_numpy(clip.area_moved)[None]),
        text=pipe.encode_text([clip.text]),
        true=torch.from_numpy(clip.frames[frames]).permute(0, 3, 1, 2).float().to(z) / 127.5 - 1,
        rois=torch.from_numpy(rois_of(clip.joints2d, seen, *size)[frames]).to(z),
    )


def predict(pipe: HandiPipeline, scene: Scene, t: int) -> tuple[Tensor, Tensor]:
    """(L_noise, ẑ0 1×C×F×h×w) at a timestep; the noise is the clip's own, the same at every t."""
    layout, process = scene.layout, pipe.backbone.process
    steps = torch.tensor([t], device=layout.z.device)
    alpha, sigma = process.levels(steps)
    noise = diffusion.clip_noise(layout.z.shape[1:], [scene.clip.seed], stream=2).to(layout.z)
    x_t = alpha * layout.z + sigma * noise
    prediction = pipe.backbone.predict(pipe.unet, x_t, steps, scene.text, layout)
    target = losses.target_of(layout.z, noise, alpha, sigma, process.kind)
    loss = losses.noise_loss(prediction, target, mask=layout.free)["noise"]
    return loss, losses.predict_x0(prediction, x_t, alpha, sigma, process.kind)


def decode(pipe: HandiPipeline, x0: Tensor) -> Tensor:
    """The frames of ẑ0 that are looked at, f×3×H×W in [-1, 1]."""
    return 2 * pipe.decode(x0[:, :, list(ACTION_FRAMES)])[0].transpose(0, 1) - 1


def look(detector: HandDetector, scene: Scene, pictures: Tensor, level: Level) -> dict[str, Tensor]:
    """Note what Υ makes of the chosen frames of a clip, f×3×H×W in [-1, 1]; gives the hand loss's terms."""
    read, truth = losses.read_hands(detector, pictures, scene.true, scene.rois, features=True)
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
    terms = losses.hand_refinement(read, truth, features=True)
    return {term: terms[term] for term in TERMS}


def compare_gradients(pipe: HandiPipeline, noise: Tensor, terms: dict[str, Tensor], level: Level) -> None:
    """Note how each term and the noise loss pull on the noise predictor's weights; no note of no pull."""
    weights = [weight for weight in pipe.unet.parameters() if weight.requires_grad]

    def pull(loss: Tensor) -> Tensor:
        parts = torch.autograd.grad(
            loss, weights, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return torch.cat([part.flatten() for part in parts])

    base = pull(noise)
    for term, loss in terms.items():
        if loss.requires_grad and (norm := float((own := pull(loss)).norm())) > 0:
            level.ratio[term].append(norm / float(base.norm()))
            level.cosine[term].append(float(own @ base) / (norm * float(base.norm())))


def calibrate(
    pipe: HandiPipeline,
    detector: HandDetector,
    clips: Sequence[WorldClip],
    levels: Sequence[int],
    gradients: int,
    shown: bool = True,
) -> list[Level]:
    """Spoilt true frames, the plain reconstruction, and every level."""
    bar = pipe.scheduler.alphas_cumprod
    spoilt = [(Level(name, true=True), spoil) for name, spoil in spoilt_frames().items()]
    plain = Level("reconstruction")
    predicted = [Level(f"t = {t}", t, float(((1 - bar[t]) / bar[t]).sqrt())) for t in levels]
    for number, clip in enumerate(clips):
        with torch.no_grad():
            scene = scene_of(pipe, clip, shown)
            for level, spoil in spoilt:
                look(detector, scene, spoil(scene.true), level)
            look(detector, scene, decode(pipe, scene.layout.z), plain)
        for level in predicted:
            with torch.set_grad_enabled(number < gradients):
                noise, x0 = predict(pipe, scene, int(level.t or 0))
                terms = look(detector, scene, decode(pipe, x0), level)
                if number < gradients:
                    compare_gradients(pipe, noise, terms, level)
    return [*(level for level, _ in spoilt), plain, *predicted]


def spoilt_frames() -> dict[str, Callable[[Tensor], Tensor]]:
    """Ways to make true frames f×3×H×W in [-1, 1] worse, by the names of their rows."""
    ways: dict[str, Callable[[Tensor], Tensor]] = {"true frames": lambda pictures: pictures}
    ways |= {f"blurred, sd {sd:g} px": partial(gaussian_blur, sd=sd) for sd in BLURS}
    return ways | {f"noise, sd {sd:g}": partial(speckle, sd=sd) for sd in SPECKLES}


def speckle(pictures: Tensor, sd: float) -> Tensor:
    """f×3×H×W with white noise, `sd` a share of the range from black to white; always the same noise."""
    noise = torch.randn(pictures.shape, generator=torch.Generator().manual_seed(0)).to(pictures)
    return (pictures + 2 * sd * noise).clamp(-1, 1)


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
    return next(level for level in levels if level.t is None and not level.true)


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


def _pull(ratios: Sequence[float], cosines: Sequence[float]) -> str:
    return f"{np.median(ratios):.3g}, {np.median(cosines):.2f} ({len(ratios)})" if ratios else "–"


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
                _percent(len(found) / len(level.again) if level.again else np.nan),
                _percent(again_share(level, base)),
                f"{np.mean(found):.3f}" if found else "–",
                *(_pull(level.ratio[term], level.cosine[term]) for term in TERMS),
            ]
        )
    header = [
        "pictures", "sigma/alpha", "presence, median (25 %)", "above 0.5", "joint error in region",
        "found anew", "of the reconstruction's", "error of those found",
        "hand/noise gradient, cosine (clips)", "features/noise gradient, cosine (clips)",
    ]  # fmt: skip
    best = recommended(levels)
    verdict = (
        f"Recommended noise_limit: {best.gain:.2f} (t = {best.t})."
        if best is not None
        else "No level can be read well enough: train without a hand loss, or use the features alone."
    )
    return (
        f"{len(base.presence)} hands that Υ reads in the true frames.\n\n"
        + table(header, rows)
        + f"\nRule: the largest t up to which the median presence stays above {PRESENCE} and more than "
        f"{100 * AGAIN:.0f} % of the reconstruction's hands are found anew. {verdict}\n"
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
    parser.add_argument("--no-poses", dest="poses", action="store_false", help="do not show the true poses")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="also write every number there")
    given = parser.parse_args(arguments)
    pipe = HandiPipeline.from_pretrained(given.model).to(given.device)
    clips = load_clips(given.world, given.clips, pipe.card.height)
    levels = calibrate(
        pipe, HandDetector.from_pretrained(), clips, sorted(given.levels), given.gradients, given.poses
    )
    text = f"Model {given.model}, {len(clips)} test clips, {given.device}.\n\n{report(levels)}"
    if given.json is not None:
        with replacing(given.json) as temporary:
            temporary.write_text(json.dumps([asdict(level) for level in levels]))
    print(text)
    return text


if __name__ == "__main__":
    main()
