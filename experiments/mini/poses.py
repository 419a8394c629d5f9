"""How well a model's PoseNet knows where the hands will be, on clips of the world with one action each.

    handi world --clips 200 --seed 900000 --pictures png --out data/world/test
    python -m experiments.mini.poses --model runs/mini_poses/model --clips data/world/test

Errors are of the acting hands' joints over all frames but the first, in px of 128. Areas are scored against
the pixels that move, and against the hulls of the true joints (paper §2.1).
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

from experiments.estimates import mean, table
from handi import HandiPipeline
from handi.hands.pose_files import there
from handi.method.area import clean_area, hull_area
from handi.world import WorldClip
from handi.world.clip import either_hand
from handi.world.files import read_clip

SIDES = ("left", "right")


def errors_of(poses: np.ndarray, clip: WorldClip) -> list[float]:
    """Mean distance of each acting hand's joints over frames 1…, px of 128."""
    apart = np.linalg.norm(poses - clip.joints2d, axis=-1).reshape(len(poses), 2, 21) * 128
    return [float(apart[1:, SIDES.index(side)].mean()) for side in clip.hands]


def right_one(poses: np.ndarray, clip: WorldClip) -> bool | None:
    """Whether the hand that acts is the one that moves more; None where that is no question."""
    if len(clip.hands) != 1 or not there(clip.joints2d[0]).all():
        return None
    if either_hand(clip.seed, clip.action, clip.choice):
        return None
    moved = np.linalg.norm(poses - poses[:1], axis=-1).reshape(len(poses), 2, 21).mean(axis=(0, 2))
    return SIDES[int(moved.argmax())] == clip.hands[0]


def iou(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two H×W areas."""
    return float((one & other).sum() / max(1, (one | other).sum()))


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", required=True, help="a model folder with a pose_net/")
    parser.add_argument("--clips", type=Path, required=True, help="a folder of `handi world`")
    parser.add_argument("--limit", type=int, default=200, help="clips, the first ones")
    parser.add_argument("--steps", type=int, default=1, help="denoising steps of the poses")
    arguments = parser.parse_args()
    pipe = HandiPipeline.from_pretrained(arguments.model)
    if pipe.pose_net is None:
        raise SystemExit(f"{arguments.model} has no pose_net/: train one with handi train mini_poses")
    pipe.set_progress_bar_config(disable=True)
    scores: dict[str, list[float]] = defaultdict(list)
    by_action: dict[str, list[float]] = defaultdict(list)
    for path in sorted(arguments.clips.glob("[0-9]*.json"))[: arguments.limit]:
        clip = read_clip(path)
        size, seed = clip.frames.shape[1:3], clip.seed
        context, text = pipe.encode_images(clip.frames[:1]), pipe.encode_text([clip.text])
        poses = pipe.predict_poses(context, text, [seed], len(clip.frames), arguments.steps)[0].cpu().numpy()
        generator = torch.Generator().manual_seed(seed)
        mask = clean_area(pipe.soft_areas(context, [clip.text], size, generator=generator)[0])
        hulls = hull_area(poses, *size)
        errors = errors_of(poses, clip)
        scores["acting hands, px of 128"] += errors
        by_action[clip.action] += errors
        if (right := right_one(poses, clip)) is not None:
            scores["the right hand of two"].append(right)
        for name, area in (("mask", mask), ("poses", hulls)):
            scores[f"mIoU of the area from {name}, pixels that move"].append(iou(area, clip.area_moved))
            scores[f"mIoU of the area from {name}, true hulls"].append(iou(area, clip.area_hull))
    rows = [
        [name, mean(values).text(3), f"{np.median(values):.3f}", len(values)]
        for name, values in scores.items()
    ]
    print(table(["figure", "mean", "median", "of"], rows))
    rows = [
        [name, f"{np.mean(v):.1f}", f"{np.median(v):.1f}", len(v)] for name, v in sorted(by_action.items())
    ]
    print(table(["action", "mean px", "median px", "hands"], rows))


if __name__ == "__main__":
    main()
