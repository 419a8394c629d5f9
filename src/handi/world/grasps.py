"""Which way a hand takes hold of which thing."""

from __future__ import annotations

import numpy as np

from handi.world.choreography import grip_at, settle, take_hold
from handi.world.geometry import Array, Distance, to_cylinder
from handi.world.hand import Grip, Hand
from handi.world.poses import POSES, close_on, facing, mixed
from handi.world.props.base import State
from handi.world.props.kitchen import Vessel


def around_vessel(hand: Hand, vessel: Vessel, state: State) -> tuple[Grip, Grip]:
    """Around a standing cup or can from the hand's own side: open and closed."""
    sign = hand.sign
    rotation = facing((-0.62 * sign, 0.77, 0.05), (0.58 * sign, -0.38, 0.72))
    _, place = vessel.frame(state)
    point = place + [0, 0, vessel.height * (0.52 if vessel.noun == "cup" else 0.5)]
    anchor = (0.006, -(vessel.radius + 0.017) / hand.person.size, -0.080)
    return take_hold(
        hand, point, rotation, anchor, vessel.distance(state),
        opened="opposed", closed="wrapped", away=rotation[:, 1],
    )  # fmt: skip


def from_above(
    hand: Hand, point: Array, body: Distance, *, width: float, yaw: float = 0.0
) -> tuple[Grip, Grip]:
    """Thumb and fingers on either side of something small (`width` across, metres), the palm above it."""
    sign = hand.sign
    c, s = np.cos(yaw), np.sin(yaw)
    turned = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    rotation = turned @ facing((-0.34 * sign, 0.93, 0.02), (0.26 * sign, -0.20, 0.94))
    opened = mixed(POSES["opposed"], POSES["pinch"], float(np.clip(0.75 - 9 * width, 0.15, 0.6)))
    closed = POSES["fist"]
    probe = grip_at(hand, point, rotation, (0, 0, 0), mixed(opened, POSES["pinch"], 0.6))
    skeleton = hand.skeleton(probe)
    middle = 0.5 * skeleton[4] + 0.3 * skeleton[9] + 0.2 * skeleton[14]
    grip = Grip(probe.position + point - middle, rotation, opened)
    grip = settle(hand, grip, body, (0, -0.25, 0.97))
    return grip, Grip(grip.position, rotation, close_on(hand, grip, body, closed))


def on_bar(
    hand: Hand, point: Array, axis: Array, radius: float, rotation: Array, anchor: tuple[float, ...]
) -> tuple[Grip, Grip]:
    """Fingers hooked around a bar."""
    body = to_cylinder(point, axis, radius, 0.08)
    return take_hold(
        hand, point, rotation, anchor, body, opened="relaxed", closed="fist", away=rotation[:, 1]
    )


def pinch(hand: Hand, point: Array, rotation: Array) -> tuple[Grip, Grip]:
    """Thumb under and fingers over a thin edge at `point`: nearly shut, and shut on it."""
    shut = mixed(POSES["pinch"], POSES["loose fist"], 0.18)
    probe = grip_at(hand, point, rotation, (0, 0, 0), shut)
    skeleton = hand.skeleton(probe)
    middle = 0.5 * skeleton[4] + 0.3 * skeleton[9] + 0.2 * skeleton[14]
    grip = Grip(probe.position + point - middle, rotation, mixed(POSES["opposed"], shut, 0.6))
    return grip, Grip(grip.position, rotation, shut)
