"""The hand's proportions: bone lengths, where the bones start, how thick the flesh is, how people vary.

Bone lengths are the means of Buryanov & Kotiuk, "Proportions of Hand Segments", Int. J. Morphol.
28(3):755-758, 2010, table I (radiographs of 66 adults; distal phalanx and the soft tissue beyond it
given apart). Hand length and its spread are those of the 1988 survey of US Army personnel (Greiner,
"Hand Anthropometry of U.S. Army Personnel", Natick TR-92/011, 1991): women 180.5 ± 9.7 mm, men
193.9 ± 9.8 mm. Directions of the metacarpals and radii of the flesh are ours, set by eye so that the
breadth over the knuckles is 0.45 of the length, the ratio of that survey.

The hand's frame: origin at the wrist crease, metres, right hand; x towards the little finger, y out of
the back of the hand, z towards the elbow. A left hand is its mirror image in x.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from handi.world.geometry import Array, unit
from handi.world.materials import SKIN_TONES, linear

# 25 joints: wrist; thumb CMC, MCP, IP, tip; then for index, middle, ring, little finger the metacarpal's
# base, MCP, PIP, DIP, tip. The tip is the end of the bone, `PULP` short of the skin.
THUMB, INDEX, MIDDLE, RING, LITTLE = 1, 5, 10, 15, 20
FINGERS = (INDEX, MIDDLE, RING, LITTLE)
TIPS = (4, 9, 14, 19, 24)
PARENT = np.array([-1, 0, 1, 2, 3] + [p for b in FINGERS for p in (0, b, b + 1, b + 2, b + 3)])
LANDMARKS = np.array([k for k in range(25) if k not in FINGERS])  # the detector's 21, in its order

BONES_MM = {  # metacarpal, proximal, (middle,) distal
    THUMB: (46.22, 31.57, 21.67),
    INDEX: (68.12, 39.78, 22.38, 15.82),
    MIDDLE: (64.60, 44.63, 26.33, 17.40),
    RING: (58.00, 41.37, 25.65, 17.30),
    LITTLE: (53.69, 32.74, 18.11, 15.96),
}
PULP_MM = {THUMB: 5.67, INDEX: 3.84, MIDDLE: 3.95, RING: 3.95, LITTLE: 3.73}
BASES_MM = {  # where the metacarpals start
    THUMB: (-21, -13, -19),
    INDEX: (-10, -5, -23),
    MIDDLE: (-2, -4, -25),
    RING: (8, -5, -24),
    LITTLE: (17, -8, -24),
}
METACARPALS = {  # their directions
    THUMB: (-0.56, -0.40, -0.73),
    INDEX: (-0.215, 0.00, -0.976),
    MIDDLE: (0.005, 0.03, -1.0),
    RING: (0.185, -0.005, -0.98),
    LITTLE: (0.335, -0.085, -0.94),
}
SPREAD_DEGREES = {INDEX: -1.0, MIDDLE: 4.5, RING: 10.5, LITTLE: 15.5}  # yaw of the straight finger
SLOPES = {INDEX: (-5, -9, -13), MIDDLE: (-5, -9, -13), RING: (-7, -11, -15), LITTLE: (-8, -12, -15)}
RADII_MM = {  # of the flesh at every joint
    0: 16,
    1: 15, 2: 11.6, 3: 10.0, 4: 8.0,
    5: 13, 6: 10.6, 7: 9.0, 8: 7.9, 9: 6.4,
    10: 13, 11: 10.8, 12: 9.2, 13: 8.1, 14: 6.6,
    15: 13, 16: 10.2, 17: 8.7, 18: 7.7, 19: 6.3,
    20: 13, 21: 9.4, 22: 7.7, 23: 6.9, 24: 5.7,
}  # fmt: skip
HAND_LENGTH_MM = (
    25 + sum(BONES_MM[MIDDLE]) + PULP_MM[MIDDLE]
)  # of the rest skeleton, wrist crease to fingertip
LENGTH_MM = {"woman": (180.5, 9.7), "man": (193.9, 9.8)}


def rest_joints() -> Array:
    """The 25 joints of the open hand, 25×3 in metres."""
    joints = np.zeros((25, 3))
    for base, metacarpal in METACARPALS.items():
        lengths = BONES_MM[base]
        directions = [unit(metacarpal)]
        if base == THUMB:
            directions += [unit((-0.60, -0.29, -0.745)), unit((-0.55, -0.30, -0.78))]
        else:
            yaw = np.deg2rad(SPREAD_DEGREES[base])
            for slope in np.deg2rad(SLOPES[base]):
                directions.append(
                    np.array([np.sin(yaw) * np.cos(slope), np.sin(slope), -np.cos(yaw) * np.cos(slope)])
                )
        joints[base] = BASES_MM[base]
        for k, (length, direction) in enumerate(zip(lengths, directions, strict=True)):
            joints[base + k + 1] = joints[base + k] + length * direction
    return joints / 1000


@dataclass(frozen=True)
class Person:
    """Whose hands these are: size and proportions (1 = the mean skeleton), skin, sleeves."""

    size: float = 1.0  # of everything
    fingers: float = 1.0  # length of the fingers, beyond `size`
    girth: float = 1.0  # thickness of the fingers, beyond `size`
    arm: float = 1.0  # thickness of the forearm
    tone: tuple[float, float, float] = (0.6, 0.35, 0.24)  # linear reflectance
    creases: float = 0.55
    seed: int = 0  # of the skin's blotches
    sleeve: tuple[float, tuple[float, float, float], int] | None = None  # start in m, colour, pattern

    @property
    def colour(self) -> Array:
        """The skin's linear reflectance as an array."""
        return np.array(self.tone)


def random_person(rng: np.random.Generator, sleeve_colour: Array) -> Person:
    """Somebody. Sizes follow the survey's spread for men and women, half of each."""
    mean, deviation = LENGTH_MM["woman" if rng.random() < 0.5 else "man"]
    length = mean + deviation * float(np.clip(rng.normal(), -2, 2))
    tone = linear(SKIN_TONES[rng.integers(len(SKIN_TONES))]) * rng.uniform(0.9, 1.1) * rng.normal(1, 0.02, 3)
    sleeve = None
    if rng.random() < 0.55:
        sleeve = (float(rng.uniform(0.09, 0.2)), tuple(sleeve_colour.tolist()), int(rng.integers(3)))
    return Person(
        size=length / HAND_LENGTH_MM,
        fingers=float(np.clip(rng.normal(1, 0.035), 0.93, 1.07)),
        girth=float(np.clip(rng.normal(1, 0.05), 0.9, 1.12)),
        arm=float(np.clip(rng.normal(1, 0.07), 0.86, 1.16)),
        tone=tuple(tone.tolist()),
        creases=float(rng.uniform(0.35, 0.75)),
        seed=int(rng.integers(50)),
        sleeve=sleeve,
    )
