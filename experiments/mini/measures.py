"""What is measured on each clip: pixels in the true area, the state at the end, hands found again."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from experiments.estimates import Estimate, mean, pooled_psnr, ratio
from experiments.mini.clips import Row, Store, column
from experiments.mini.model import Model
from handi.core.errors import InputError
from handi.hands import HandDetector
from handi.hands.matching import enlarge, match_hands
from handi.world import WorldClip, judges
from handi.world.judges import ACTION_FRAMES
from handi.world.truth import OUTSIDE

SIDES = ("left", "right")
BATCH = 8  # clips that are held as frames at a time


@dataclass
class Bench:
    """What every section is given."""

    model: Model
    clips: list[WorldClip]
    groups: list[list[WorldClip]]  # siblings; made only where asked for
    store: Store
    out: Path
    some: int  # clips for what is too dear to do on all

    @cached_property
    def detector(self) -> HandDetector:
        return HandDetector.from_pretrained()

    @property
    def few(self) -> list[WorldClip]:
        return self.clips[: self.some]


def squared_error(frames: np.ndarray, truth: np.ndarray, area: np.ndarray | None = None) -> tuple[float, int]:
    """Summed squared error of F×H×W×3 uint8 in units of the full range, and how many values it sums.

    area H×W: only there.
    """
    difference = (frames.astype(np.float32) - truth) / 255
    if area is not None:
        difference = difference[:, area]
    return float(np.square(difference, dtype=np.float64).sum()), difference.size


def iou(area: np.ndarray, truth: np.ndarray) -> float:
    """Intersection over union of two binary H×W areas; 1 where both are empty."""
    union = int((area | truth).sum())
    return int((area & truth).sum()) / union if union else 1.0


def pack(area: np.ndarray) -> str:
    """A binary H×W area as text for JSON."""
    return base64.b64encode(np.packbits(area)).decode()


def unpack(text: str, size: int) -> np.ndarray:
    """The size×size area that `pack` was given."""
    bits = np.frombuffer(base64.b64decode(text), np.uint8)
    return np.unpackbits(bits, count=size * size).reshape(size, size).astype(bool)


def state_change(frames: np.ndarray, truth: np.ndarray) -> float | None:
    """The judge's share, or None where the true clip ends as it began."""
    try:
        return judges.state_change(frames, truth)
    except InputError:
        return None


def see(detector: HandDetector, videos: np.ndarray, clips: Sequence[WorldClip]) -> list[Row]:
    """Υ on four frames of each video N×F×H×W×3: for each true hand that counts, whether its side acts in
    the clip, and the error of what was found there (share of the hand's box), None where nothing was; and for
    each frame, how many hands Υ finds with their middle in the true area, wherever they should be."""
    frames = np.stack([enlarge(video[f]) for video in videos for f in ACTION_FRAMES])
    read = detector.detect(torch.from_numpy(frames))
    joints, visible = read.joints.view(-1, 2, 21, 2).numpy(), read.visible.numpy()
    rows = []
    for n, clip in enumerate(clips):
        errors, acting, anywhere = [], [], []
        for k, f in enumerate(ACTION_FRAMES):
            at = n * len(ACTION_FRAMES) + k
            inside = (clip.visible[f] != OUTSIDE) & clip.joints2d[f].any(-1)
            seen = joints[at][visible[at]]
            found = match_hands(clip.joints2d[f], inside, list(seen))
            anywhere.append(_inside(seen, clip.area_moved))
            errors += list(found.values())
            acting += [SIDES[side] in clip.hands for side in found]
        rows.append({"hands": errors, "acting": acting, "anywhere": anywhere})
    return rows


def _inside(hands: np.ndarray, area: np.ndarray) -> int:
    """How many of the hands K×21×2 have their middle in the area H×W."""
    size = np.array(area.shape[::-1])
    middle = np.clip((hands.mean(axis=1) * size).astype(int), 0, size - 1)
    return int(area[middle[:, 1], middle[:, 0]].sum())


def score_videos(
    bench: Bench, clips: Sequence[WorldClip], make: Callable[[list[WorldClip], slice], np.ndarray],
    *, hands: bool = True,
) -> list[Row]:  # fmt: skip
    """A row per clip for the videos that `make` gives, some clips at a time (and their place among all)."""
    rows = []
    for first in range(0, len(clips), BATCH):
        place = slice(first, first + BATCH)
        part = list(clips[place])
        videos = make(part, place)
        seen = see(bench.detector, videos, part) if hands else [{}] * len(part)
        for clip, video, found in zip(part, videos, seen, strict=True):
            error, count = squared_error(video[1:], clip.frames[1:], clip.area_moved)
            row = {"seed": clip.seed, "action": clip.action, "error": error, "count": count}
            row |= {"state": state_change(video, clip.frames), **found}
            rows.append(row)
    return rows


# -------------------------------------------------------------------------------------- summaries


def psnr_in_area(rows: Sequence[Row]) -> Estimate:
    """Pooled PSNR inside the true area, frames after the first."""
    return pooled_psnr(column(rows, "error"), column(rows, "count"))


def mean_state(rows: Sequence[Row]) -> Estimate:
    """Mean of `judges.state_change`."""
    return mean(column(rows, "state"))


def _hands(row: Row, acting: bool) -> np.ndarray:
    """Errors of the hands of a row, NaN for those missed; only of acting sides, or all."""
    errors = np.array([np.nan if error is None else error for error in row["hands"]], np.float64)
    return errors[np.array(row["acting"], bool)] if acting else errors


def found(rows: Sequence[Row], *, acting: bool) -> Estimate:
    """Share of the true hands that count that Υ finds."""
    hands = [_hands(row, acting) for row in rows]
    return ratio([np.isfinite(h).sum() for h in hands], [len(h) for h in hands])


def found_again(rows: Sequence[Row], reference: Sequence[Row], *, acting: bool) -> Estimate:
    """Share of the hands that Υ finds in the reference that it also finds in the rows' videos."""
    return ratio(_again(rows, reference, acting), _again(reference, reference, acting))


def found_anywhere(rows: Sequence[Row], reference: Sequence[Row]) -> Estimate:
    """Hands that Υ finds anywhere in the true area, of as many as it finds in the same frame of the
    reference."""
    ours, theirs = (np.array([row["anywhere"] for row in some]) for some in (rows, reference))
    return ratio(np.minimum(ours, theirs).sum(axis=1), theirs.sum(axis=1))


def found_again_difference(
    rows: Sequence[Row], others: Sequence[Row], reference: Sequence[Row], *, acting: bool
) -> Estimate:
    """That share of the rows minus that of the others, on the same clips (paired)."""
    first, second = (np.array(_again(some, reference, acting)) for some in (rows, others))
    return ratio(first - second, _again(reference, reference, acting))


def _again(rows: Sequence[Row], reference: Sequence[Row], acting: bool) -> list[int]:
    """Of each clip, the hands that Υ finds in both."""
    both = []
    for row, other in zip(rows, reference, strict=True):
        ours, theirs = np.isfinite(_hands(row, acting)), np.isfinite(_hands(other, acting))
        both.append(int((ours & theirs).sum()))
    return both


def joint_error(rows: Sequence[Row], *, acting: bool) -> Estimate:
    """Mean error of the hands found, as a share of the hand's box."""
    hands = [_hands(row, acting) for row in rows]
    return ratio([np.nansum(h) for h in hands], [np.isfinite(h).sum() for h in hands])


def hand_count(rows: Sequence[Row], *, acting: bool, found: bool = False) -> int:
    """How many true hands count; `found`: how many of them Υ finds."""
    hands = np.concatenate([_hands(row, acting) for row in rows])
    return int(np.isfinite(hands).sum()) if found else len(hands)
