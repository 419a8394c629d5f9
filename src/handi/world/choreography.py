"""How hands move through a clip: key poses in time, smooth ways between them, and taking hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from handi.world.anatomy import FINGERS, RADII_MM, THUMB
from handi.world.geometry import Array, Distance, between, unit
from handi.world.hand import Grip, Hand
from handi.world.poses import POSES, close_on, mixed

Moving = Callable[[float], Grip]  # where a hand is at a time in [0, 1]


def ease(time: float, start: float, end: float) -> float:
    """0 before `start`, 1 after `end`, and the minimum-jerk way between: how an arm accelerates."""
    x = min(1.0, max(0.0, (time - start) / (end - start)))
    return x * x * x * (10 - 15 * x + 6 * x * x)


def blend(a: Grip, b: Grip, share: float) -> Grip:
    """A hand between two grips."""
    if share <= 0.0:
        return a
    return Grip(
        a.position + (b.position - a.position) * share,
        between(a.rotation, b.rotation, share),
        mixed(a.angles, b.angles, share),
    )


@dataclass(frozen=True)
class Key:
    """At `time` the hand is where `grip` says; on the way to it, it rises by up to `lift` metres."""

    time: float
    grip: Grip | Moving
    lift: float = 0.0

    def at(self, time: float) -> Grip:
        """The grip that this key stands for, at any time: a hand that holds something moves with it."""
        return self.grip(time) if callable(self.grip) else self.grip


@dataclass(frozen=True)
class HandPath:
    """A hand's way through a clip: keys in the order of their times, the first at 0."""

    keys: tuple[Key, ...]

    def at(self, time: float) -> Grip:
        """The hand at a time in [0, 1]."""
        for before, after in zip(self.keys[:-1], self.keys[1:], strict=True):
            if time < after.time:
                share = ease(time, before.time, after.time)
                grip = blend(before.at(time), after.at(time), share)
                arc = after.lift * float(np.sin(np.pi * share))
                return replace(grip, position=grip.position + [0, 0, arc]) if arc else grip
        return self.keys[-1].at(time)


# -------------------------------------------------------------------------------------- grasping


def grip_at(hand: Hand, point: Array, rotation: Array, anchor: Sequence[float], angles: Array) -> Grip:
    """The grip that brings `anchor` (right hand's frame, mean hand, metres) to a point in the world."""
    local = np.asarray(anchor, float) * hand.person.size * hand.mirror
    return Grip(point - rotation @ local, rotation, angles)


SHARES = np.array([0.25, 0.6, 1.0])  # of a bone's length, where its flesh is measured
BONES = [k for base in (THUMB, *FINGERS) for k in range(base, base + (3 if base == THUMB else 4))]
PALM = np.isin(BONES, (THUMB, *FINGERS))
THICK = np.array([[RADII_MM[k] + (RADII_MM[k + 1] - RADII_MM[k]) * share for share in SHARES] for k in BONES])


def _flesh(hand: Hand, grip: Grip) -> tuple[Array, Array]:
    """Points along the bones and the flesh's thickness there: P×3, P, metres."""
    skeleton = hand.skeleton(grip)
    near, far = skeleton[BONES], skeleton[[k + 1 for k in BONES]]
    points = near[:, None] + (far - near)[:, None] * SHARES[:, None]
    radii = THICK / 1000 * hand.person.size * np.where(PALM, 1, hand.person.girth)[:, None]
    return points.reshape(-1, 3), radii.ravel()


def clearance(hand: Hand, grip: Grip, body: Distance) -> float:
    """Least distance between the hand's flesh and a body, metres; negative where they overlap."""
    points, radii = _flesh(hand, grip)
    return float((body(points) - radii).min())


def settle(
    hand: Hand, grip: Grip, body: Distance, away: Sequence[float] | Array, *, overlap: float = 0.001
) -> Grip:
    """Move a hand along `away` just far enough that no more than `overlap` of its flesh is in the body."""
    direction = unit(away)
    for step in np.arange(0, 0.08, 0.0015):
        moved = replace(grip, position=grip.position + direction * step)
        if clearance(hand, moved, body) > -overlap:
            return moved
    return moved


def take_hold(
    hand: Hand,
    point: Array,
    rotation: Array,
    anchor: Sequence[float],
    body: Distance,
    *,
    opened: str | Array,
    closed: str | Array,
    away: Sequence[float] | Array | None = None,
) -> tuple[Grip, Grip]:
    """The open hand around a body, and the same hand closed on it by contact.

    The body at `point` comes to lie at `anchor` of the hand; with `away` the hand first backs off along it
    until the open fingers and the palm are clear of the body.
    """
    start = POSES[opened] if isinstance(opened, str) else opened
    end = POSES[closed] if isinstance(closed, str) else closed
    grip = grip_at(hand, point, rotation, anchor, start)
    if away is not None:
        grip = settle(hand, grip, body, away)
    return grip, replace(grip, angles=close_on(hand, grip, body, end))


def shifted(grip: Grip, offset: Sequence[float] | Array) -> Grip:
    """The same grip elsewhere."""
    return replace(grip, position=grip.position + np.asarray(offset))


def carried(grip: Grip, before: tuple[Array, Array], after: tuple[Array, Array]) -> Grip:
    """The grip on a body that has moved from one frame (rotation, place) to another."""
    rotation = after[0] @ before[0].T
    return replace(
        grip,
        position=after[1] + rotation @ (grip.position - before[1]),
        rotation=rotation @ grip.rotation,
    )
