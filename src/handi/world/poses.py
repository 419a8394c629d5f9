"""Named finger poses, and grasps: fingers that close until they touch."""

from __future__ import annotations

import numpy as np

from handi.world.anatomy import FINGERS, THUMB
from handi.world.geometry import Array, Distance, unit
from handi.world.hand import Grip, Hand

Bend = tuple[float, float, float, float]


def fingers(thumb: Bend, index: Bend, middle: Bend, ring: Bend, little: Bend) -> Array:
    """Angles 2×25 from degrees a finger: flexion of its three joints and the spread of the first."""
    angles = np.zeros((2, 25))
    for base, bend in zip(
        (THUMB, *(b + 1 for b in FINGERS)), (thumb, index, middle, ring, little), strict=True
    ):
        angles[0, base : base + 3] = bend[:3]
        angles[1, base] = bend[3]
    return np.deg2rad(angles)


POSES = {
    "open": fingers((0, 0, 5, 0), (5, 8, 5, 4), (3, 8, 5, 0), (5, 8, 5, -3), (6, 8, 5, -6)),
    "relaxed": fingers((5, 10, 12, 0), (22, 28, 15, 2), (25, 32, 18, 0), (28, 34, 18, -4), (30, 34, 18, -8)),
    "loose fist": fingers(
        (12, 18, 22, 5), (48, 50, 28, 0), (50, 54, 30, 0), (52, 54, 30, -4), (54, 52, 28, -8)
    ),
    "fist": fingers((22, 35, 40, 8), (78, 88, 50, 0), (80, 92, 52, 0), (80, 92, 52, -3), (80, 88, 50, -5)),
    "pinch": fingers((14, 16, 24, 8), (52, 42, 22, 2), (50, 44, 24, 0), (44, 40, 22, -4), (40, 36, 20, -8)),
    "point": fingers((18, 30, 30, 8), (8, 8, 5, 0), (72, 85, 48, 0), (76, 86, 48, -3), (76, 84, 46, -5)),
    "opposed": fingers((-8, 0, 2, 42), (4, 8, 5, 0), (3, 8, 5, 0), (4, 8, 5, 0), (5, 8, 5, 0)),
    "wrapped": fingers(
        (35, 32, 38, 42), (78, 88, 50, 0), (80, 92, 52, 0), (80, 92, 52, -3), (80, 88, 50, -5)
    ),
    "flat": fingers((8, 5, 5, -8), (4, 4, 3, -2), (3, 4, 3, 0), (4, 4, 3, 6), (5, 5, 3, 12)),
}


def mixed(a: Array, b: Array, share: float) -> Array:
    """Between two poses."""
    return a + (b - a) * share


def facing(forward: tuple[float, ...] | Array, back: tuple[float, ...] | Array) -> Array:
    """Rotation of a hand whose fingers point `forward` and whose back faces `back`."""
    f, b = unit(forward), np.asarray(back, float)
    y = unit(b - f * (b @ f))
    return np.stack([np.cross(y, -f), y, -f], 1)


CHAINS = {THUMB: (1, 2, 3), **{base: (base + 1, base + 2, base + 3) for base in FINGERS}}
SEGMENTS = np.array(list(CHAINS.values()))  # the joints at which the fingers' segments begin


def close_on(
    hand: Hand, grip: Grip, body: Distance, closed: Array, *, touch: float = 0.0078, steps: int = 26
) -> Array:
    """Close the fingers from `grip.angles` towards `closed` until each touches the body.

    A finger segment that comes within `touch` metres (half its thickness) of the body stops, and so does
    every joint nearer the palm; the joints beyond it go on, so that the finger wraps. Returns angles 2×25.
    """
    start, angles = grip.angles, grip.angles.copy()
    reach = touch * hand.person.size * hand.person.girth
    free = {base: [True] * 3 for base in CHAINS}
    for share in np.linspace(0, 1, steps):
        trial = angles.copy()
        for base, joints in CHAINS.items():
            for q, k in enumerate(joints):
                if free[base][q]:
                    trial[:, k] = start[:, k] + (closed[:, k] - start[:, k]) * share
        skeleton = hand.skeleton(Grip(grip.position, grip.rotation, trial))
        near, far = skeleton[SEGMENTS], skeleton[SEGMENTS + 1]  # finger×segment×3
        points = np.stack([0.5 * near + 0.5 * far, 0.2 * near + 0.8 * far, far], 2)
        distances = body(points.reshape(-1, 3)).reshape(-1, 3, 3).min(2)
        for (base, joints), distance in zip(CHAINS.items(), distances, strict=True):
            if not any(free[base]):
                continue
            touching = [q for q in range(3) if distance[q] < reach]
            last = max(touching, default=-1)
            for q, k in enumerate(joints):
                if q <= last:
                    free[base][q] = False
                if free[base][q]:
                    angles[:, k] = trial[:, k]
    return angles
