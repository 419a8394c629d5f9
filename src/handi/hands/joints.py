"""The 42 joints of a frame: names, bones, who gets the left slot, and drawing."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from handi.core.types import Picture

JOINT_NAMES = (
    "wrist",
    *(f"thumb_{part}" for part in ("cmc", "mcp", "ip", "tip")),
    *(f"{finger}_{part}" for finger in ("index", "middle", "ring", "pinky")
      for part in ("mcp", "pip", "dip", "tip")),
)  # fmt: skip
SIDES = ("left", "right")
JOINTS_A_HAND = len(JOINT_NAMES)
BONES = (
    *((0, 1), (1, 2), (2, 3), (3, 4)),
    *((0, 5), (5, 6), (6, 7), (7, 8)),
    *((5, 9), (9, 10), (10, 11), (11, 12)),
    *((9, 13), (13, 14), (14, 15), (15, 16)),
    *((13, 17), (0, 17), (17, 18), (18, 19), (19, 20)),
)
COLOURS = {"left": (64, 144, 255), "right": (255, 128, 32)}  # RGB


def assign_slots(presence: Sequence[float], right: Sequence[float]) -> list[tuple[int, int]]:
    """Give the hands of a frame a slot each: [(hand, slot)], slot 0 left and 1 right; two hands at most.

    `presence` and `right` (probability of a right hand) are in [0, 1]. The network labels a quarter of all
    pairs alike; then the hand that it is surer of keeps its label and the other takes the free slot, so that
    no hand is lost. Of more than two hands (which tracking can bring) the two most present stay.
    """
    hands = sorted(range(len(presence)), key=lambda hand: -presence[hand])[:2]
    hands.sort(key=lambda hand: -abs(right[hand] - 0.5))
    slots: list[tuple[int, int]] = []
    for hand in hands:
        slot = int(right[hand] >= 0.5)
        taken = {other for _, other in slots}
        slots.append((hand, 1 - slot if slot in taken else slot))
    return slots


def draw_hands(picture: Picture, joints: np.ndarray) -> Picture:
    """A copy of an H×W×3 uint8 picture with the skeletons of its 42×2 joints; left is blue, right orange."""
    canvas = np.ascontiguousarray(picture).copy()
    height, width = canvas.shape[:2]
    thick = max(1, round(min(height, width) / 180))
    for side, hand in zip(SIDES, joints.reshape(2, JOINTS_A_HAND, 2), strict=True):
        if not hand.any():
            continue
        far = 10 * max(height, width)
        # Four more bits of place than whole pixels, so that a small picture's skeleton does not jitter.
        points = np.rint((hand * (width, height)).clip(-far, far) * 16).astype(int).tolist()
        for start, end in BONES:
            cv2.line(canvas, points[start], points[end], COLOURS[side], thick, cv2.LINE_AA, shift=4)
        for point in points:
            cv2.circle(canvas, point, 24 * thick, (255, 255, 255), cv2.FILLED, cv2.LINE_AA, shift=4)
            cv2.circle(canvas, point, 16 * thick, COLOURS[side], cv2.FILLED, cv2.LINE_AA, shift=4)
    return canvas
