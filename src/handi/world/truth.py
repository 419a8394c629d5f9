"""Exact ground truth: where every joint is, whether it can be seen, and which pixels move."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from handi.core.types import BinaryMask, Frames
from handi.world.anatomy import LANDMARKS, RADII_MM
from handi.world.geometry import Array
from handi.world.render import Camera, View

ABSENT, VISIBLE, OCCLUDED, OUTSIDE = range(4)
SIDES = ("left", "right")  # the order of the hands among the 42 joints, as in the hand detector's records

# A joint lies inside the flesh. It counts as visible while what is drawn at its pixel belongs to its own
# hand and is nearer by no more than the flesh's thickness there, with a margin for slanted surfaces.
FLESH = np.array([RADII_MM[k] for k in LANDMARKS]) / 1000 * 1.5 + 0.006
# Pixel levels (of 255) by which a pixel must change to have moved, before sensor noise.
MOVED_LEVELS = 2


def project_joints(joints: dict[str, Array], camera: Camera, size: int) -> tuple[Array, Array, Array]:
    """World joints (21×3 a side) -> pixels 42×2, depths 42 in metres, presence 42; zeros where absent."""
    pixels, depths, present = np.zeros((42, 2)), np.zeros(42), np.zeros(42, bool)
    for n, side in enumerate(SIDES):
        if side in joints:
            rows = slice(21 * n, 21 * n + 21)
            pixels[rows], depths[rows] = camera.project(joints[side], size)
            present[rows] = True
    return pixels, depths, present


def normalised(pixels: Array, present: Array, size: int) -> npt.NDArray[np.float32]:
    """Pixels -> [0, 1] as the hand detector counts: pixel i has its centre at i/size. Zeros where absent."""
    return np.where(present[:, None], (pixels - 0.5) / size, 0).astype(np.float32)


def visibility(
    view: View, pixels: Array, depths: Array, present: Array, hand_ids: tuple[int, int], scale: float
) -> npt.NDArray[np.uint8]:
    """ABSENT, VISIBLE, OCCLUDED or OUTSIDE for each of 42 joints; `scale` is the person's size."""
    height, width = view.identity.shape
    found = np.full(42, ABSENT, np.uint8)
    for j in np.flatnonzero(present):
        x, y = np.floor(pixels[j]).astype(int)
        if not (0 <= x < width and 0 <= y < height):
            found[j] = OUTSIDE
            continue
        own = view.identity[y, x] == hand_ids[j // 21]
        near = depths[j] - view.depth[y, x] <= FLESH[j % 21] * scale
        found[j] = VISIBLE if own and near else OCCLUDED
    return found


def moved_area(clean: Frames, ids: npt.NDArray[np.uint8], moving: set[int]) -> BinaryMask:
    """Pixels H×W that change in a clip: colour (shadows and light too), or what moving things ever cover.

    `clean` F×H×W×3 are the frames without sensor noise, from one camera; `ids` F×H×W their id maps.
    """
    change = np.abs(clean.astype(np.int16) - clean[:1]).max((0, 3)) > MOVED_LEVELS
    return change | np.isin(ids, list(moving)).any(0)
