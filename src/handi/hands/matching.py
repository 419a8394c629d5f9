"""Which true hands does a detector find? The protocol of docs/world.md, in one place.

A hand counts when at least 11 of its 21 joints are inside the picture. It is found when a detection lies,
on the mean over its 21 joints, within 0.35 of the longer side of its box. A detection is used once.
Pictures under 256 px are enlarged with bicubic filtering: in small ones the detector misses hands.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

INSIDE = 11
REACH = 0.35
DETECTOR_SIZE = 256


def enlarge(picture: np.ndarray) -> np.ndarray:
    """Enlarge an H×W×3 uint8 picture to at least 256 px of width, as the detector is shown it."""
    if picture.shape[1] >= DETECTOR_SIZE:
        return picture
    height = round(picture.shape[0] * DETECTOR_SIZE / picture.shape[1])
    image = Image.fromarray(picture).resize((DETECTOR_SIZE, height), Image.Resampling.BICUBIC)
    return np.asarray(image)


def match_hands(joints: np.ndarray, inside: np.ndarray, found: list[np.ndarray]) -> dict[int, float | None]:
    """Match a frame's true hands with detections: side (0 left, 1 right) → error, None if missed.

    joints 42×2 in [0, 1], inside 42 bool: the truth of a frame; found: detections, 21×2 each. The error is a
    share of the hand's box; hands that do not count are left out.
    """
    result: dict[int, float | None] = {}
    free = list(found)
    for side in (0, 1):
        rows = slice(21 * side, 21 * side + 21)
        true, within = joints[rows], inside[rows]
        if within.sum() < INSIDE:
            continue
        box = float(np.ptp(true, axis=0).max())
        errors = [float(np.linalg.norm(hand - true, axis=1).mean()) / box for hand in free]
        best = int(np.argmin(errors)) if errors else -1
        result[side] = errors[best] if errors and errors[best] < REACH else None
        if result[side] is not None:
            free.pop(best)
    return result
