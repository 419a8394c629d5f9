"""Does the hand loss move hands, when all that can change is a smooth warp of the picture?

    python -m experiments.hand_loss.warp --clips 16 --world FOLDER

Frame 9 of each test clip is bent by a random smooth flow and softened a little. Then a flow of 5×5 vectors is
fitted by 30 steps of Adam to bring it back, driven by one loss alone, and every hand is looked for anew with
the whole detector. That is the best case for the loss: nothing but geometry is free, as in a network that
moves pixels. What free pixels do with it is in docs/hands.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from experiments.estimates import table
from experiments.mini.clips import load_clips
from handi.data.known_hands import rois_of
from handi.hands import HandDetector
from handi.hands.matching import INSIDE, enlarge
from handi.method.losses import hand_refinement, jitter_rois, read_hands
from handi.world import WorldClip
from handi.world.truth import OUTSIDE

FRAME, SIZE = 9, 128
BEND = 6.0  # px, sd of the random flow's 3×3 vectors
GRID, STEPS, RATE = 5, 30, 0.4  # of the fit; px per step
FAR = 20.0  # px: a hand that is farther off, or not found, counts as missed

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]  # picture, true picture, regions → loss


def warp(picture: Tensor, flow: Tensor) -> Tensor:
    """1×3×H×W bent by 1×2×n×n vectors in px, smooth between them."""
    size = picture.shape[-2:]
    identity = F.affine_grid(torch.eye(2, 3)[None], [1, 3, *size], align_corners=False)
    smooth = F.interpolate(flow, size, mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
    place = identity + 2 * smooth / torch.tensor([size[1], size[0]])
    return F.grid_sample(picture, place, padding_mode="border", align_corners=False)


def fit(start: Tensor, true: Tensor, rois: Tensor, loss: Loss) -> Tensor:
    """The start, bent back as the loss wants it."""
    flow = torch.zeros(1, 2, GRID, GRID, requires_grad=True)
    optimiser = torch.optim.Adam([flow], lr=RATE)
    for _ in range(STEPS):
        value = loss(warp(start, flow), true, rois)
        if value.requires_grad:  # a literal loss may find nothing
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
    return warp(start, flow).detach()


def arms(detector: HandDetector) -> dict[str, Loss]:
    """The losses that are compared."""
    generator = torch.Generator().manual_seed(1)

    def literal(picture: Tensor, true: Tensor, rois: Tensor) -> Tensor:
        return hand_refinement(*read_hands(detector, picture, true, rois, form="literal"), "literal")["hand"]

    def roi(jitter: bool, features: float, joints: float = 1.0, **options: float) -> Loss:
        def loss(picture: Tensor, true: Tensor, rois: Tensor) -> Tensor:
            rois = jitter_rois(rois, generator) if jitter else rois
            read = read_hands(detector, picture, true, rois, features=features > 0)
            terms = hand_refinement(*read, features=features > 0, **options)
            return joints * terms["hand"] + features * terms.get("hand_features", torch.zeros(()))

        return loss

    return {
        "literal": literal,
        "roi": roi(True, 0),
        "roi, regions not jittered": roi(False, 0),
        "roi, squared error": roi(True, 0, huber=10),
        "roi + features": roi(True, 1),
        "features alone": roi(True, 1, joints=0),
        "squared error of pixels": lambda picture, true, rois: F.mse_loss(picture, true),
    }


def errors(detector: HandDetector, picture: Tensor, joints: Tensor, known: Sequence[bool]) -> list[float]:
    """Mean joint distance in px of each known hand (joints 2×21×2 in [0, 1]) to the nearest found anew."""
    levels = ((picture[0] / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0)
    found = detector.detect(enlarge(levels.numpy())[None])
    hands = found.joints[0].view(2, 21, 2)[found.visible[0]]
    distances = ((hands[None] - joints[:, None]) * SIZE).norm(dim=-1).mean(-1)  # 2×found
    nearest = distances.min(1).values if len(hands) else torch.full((2,), FAR)
    return [min(float(nearest[side]), FAR) for side in (0, 1) if known[side]]


def measure(clips: Sequence[WorldClip], say: Callable[[str], None] = print) -> dict[str, list[float]]:
    """Errors of all hands before ("start") and after each arm."""
    reader, finder = HandDetector.from_pretrained(backend="torch"), HandDetector.from_pretrained()
    generator = torch.Generator().manual_seed(0)
    losses = arms(reader)
    result: dict[str, list[float]] = {"start": [], **{name: [] for name in losses}}
    for number, clip in enumerate(clips):
        seen = ((clip.visible != OUTSIDE) & clip.joints2d.any(-1)).reshape(-1, 2, 21).sum(2) >= INSIDE
        rois = torch.from_numpy(rois_of(clip.joints2d, seen, SIZE, SIZE)[FRAME : FRAME + 1])
        true = torch.from_numpy(clip.frames[FRAME : FRAME + 1].copy()).permute(0, 3, 1, 2) / 127.5 - 1
        bent = warp(true, BEND * torch.randn(1, 2, 3, 3, generator=generator))
        start = F.avg_pool2d(F.pad(bent, [1] * 4, mode="replicate"), 3, 1)
        truth = reader.landmarks(true / 2 + 0.5, rois)
        joints, known = truth.joints[0].view(2, 21, 2), truth.visible[0].tolist()
        result["start"] += errors(finder, start, joints, known)
        for name, loss in losses.items():
            result[name] += errors(finder, fit(start, true, rois, loss), joints, known)
        say(f"{number + 1} of {len(clips)} clips")
    return result


def report(result: dict[str, list[float]]) -> str:
    """A line an arm."""
    lines = []
    for name, values in result.items():
        array = np.array(values)
        lines.append(
            [name, len(array), f"{np.median(array):.2f}", f"{100 * np.mean(array < 2):.0f} %",
             f"{100 * np.mean(array >= FAR):.0f} %"]
        )  # fmt: skip
    return table(["driven by", "hands", "error found anew, median px", "under 2 px", "missed"], lines)


def main(arguments: Sequence[str] | None = None) -> str:
    """The command line; prints and returns the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument(
        "--world", type=Path, default=Path("data/world-test"), help="missing clips are rendered"
    )
    given = parser.parse_args(arguments)
    text = report(measure(load_clips(given.world, given.clips, SIZE)))
    print(text)
    return text


if __name__ == "__main__":
    main()
