"""Single pictures of hands in any pose above a cluttered table: a test of how the hands look."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from handi.core.types import Picture
from handi.world.anatomy import random_person
from handi.world.film import Film, digitise, exposure_for
from handi.world.geometry import Array, unit
from handi.world.hand import Grip, Hand, rest_hand
from handi.world.materials import COLOURS, colour
from handi.world.poses import POSES, facing, mixed
from handi.world.render import Part, Renderer
from handi.world.seeds import check_seed, stream
from handi.world.setting import (
    HAND_IDS,
    SLEEVE_IDS,
    random_camera,
    random_clutter,
    random_light,
    random_room,
    random_table,
)
from handi.world.truth import normalised, project_joints, visibility

APART = 0.03  # metres between the joints of two hands, so that they do not pierce each other


@dataclass(frozen=True)
class Still:
    """A picture H×W×3 with the joints of its hands, as in `WorldClip`: 42×2 and 42."""

    picture: Picture
    joints2d: npt.NDArray[np.float32]
    visible: npt.NDArray[np.uint8]


def _anywhere(rng: np.random.Generator, sign: int) -> tuple[Grip, np.ndarray]:
    """A hand somewhere above the table, palm down to palm up, between two poses, and its elbow."""
    wrist = np.array([sign * rng.uniform(0.04, 0.15), rng.uniform(-0.05, 0.07), rng.uniform(0.06, 0.13)])
    elbow = np.array(
        [sign * rng.uniform(0.14, 0.30), -0.36 + rng.uniform(-0.05, 0.05), rng.uniform(0.08, 0.2)]
    )
    bend = np.array([-sign * rng.uniform(-0.2, 0.5), rng.uniform(-0.1, 0.3), rng.uniform(-0.45, 0.25)])
    roll = rng.uniform(-0.5, 1.6) if rng.random() < 0.8 else rng.uniform(1.6, 3.0)
    rotation = facing(unit(wrist - elbow) + bend, (sign * np.sin(roll), 0.0, np.cos(roll)))
    a, b = (list(POSES.values())[i] for i in rng.integers(len(POSES), size=2))
    angles = mixed(a, b, rng.uniform(0, 0.6))
    angles = angles + np.deg2rad(rng.normal(0, 1, angles.shape) * [[5.0], [2.5]]) * (angles != 0)
    return Grip(wrist, rotation, angles), elbow


def _nearest(a: Array, b: Array) -> float:
    """Least distance between the joints of two hands, metres."""
    return float(np.linalg.norm(a[:, None] - b[None], axis=-1).min())


def render_still(seed: int, *, size: int = 256) -> Still:
    """A still with one or two hands. Raises: InputError for what is not a seed."""
    rng = stream(check_seed(seed), "still")
    table, room = random_table(rng), random_room(rng)
    sides = ("left", "right") if rng.random() < 0.5 else (("left", "right")[rng.integers(2)],)
    sleeve = colour(list(COLOURS)[rng.integers(len(COLOURS))]) * rng.uniform(0.35, 1)
    person = random_person(rng, sleeve)
    parts: list[Part] = []
    joints: dict[str, Array] = {}
    taken = []
    for side in sides:
        hand = Hand(person, side)
        grip, elbow = _anywhere(rng, hand.sign)
        while any(_nearest(hand.landmarks(grip), other) < APART for other in joints.values()):
            grip, elbow = _anywhere(rng, hand.sign)
        parts += hand.parts(grip, elbow, HAND_IDS[side], SLEEVE_IDS[side])
        joints[side] = hand.landmarks(grip)
        x, y = grip.position[0] - 0.02 * hand.sign, grip.position[1] + 0.08
        taken.append((x - 0.1, x + 0.1, y - 0.1, y + 0.1))
    backdrop = [*table, *room, *random_clutter(rng, taken)]
    camera = random_camera(rng)
    view = Renderer(backdrop, random_light(rng), rest_hand().skin, size).frame(camera, parts)
    gain = exposure_for(view.picture, rng.uniform(0.40, 0.52))
    pixels, depths, present = project_joints(joints, camera, size)
    ids = (HAND_IDS["left"], HAND_IDS["right"])
    return Still(
        digitise(Film(gain).develop(view.picture), stream(seed, "still noise")),
        normalised(pixels, present, size),
        visibility(view, pixels, depths, present, ids, person.size),
    )
