"""Which true hands of a world clip does a hand detector find? The protocol of docs/world.md, in one place.

A hand counts when at least 11 of its 21 joints are inside the picture. It is found when a detection lies,
on the mean over its 21 joints, within 0.35 of the longer side of its box. A detection is used once.
Frames 2, 6, 9 and 13 of a clip are looked at; pictures under 256 px are enlarged with bicubic filtering.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

INSIDE = 11
REACH = 0.35
ACTION_FRAMES = (2, 6, 9, 13)
DETECTOR_SIZE = 256


def enlarge(picture: np.ndarray) -> np.ndarray:
    """An H×W×3 uint8 picture as the detector is shown it: at least 256 px wide, bicubic."""
    if picture.shape[1] >= DETECTOR_SIZE:
        return picture
    height = round(picture.shape[0] * DETECTOR_SIZE / picture.shape[1])
    image = Image.fromarray(picture).resize((DETECTOR_SIZE, height), Image.Resampling.BICUBIC)
    return np.asarray(image)


def match_hands(joints: np.ndarray, inside: np.ndarray, found: list[np.ndarray]) -> dict[int, float | None]:
    """Side (0 left, 1 right) of each hand that counts -> its error as a share of its box, None if missed.

    joints 42×2 in [0, 1], inside 42 bool: the truth of a frame; found: detections, 21×2 each.
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
