"""Folding, unfolding, tearing: thin things between two hands."""

from __future__ import annotations

from typing import cast

import numpy as np

from handi.world.actions.base import Action
from handi.world.choreography import HandPath, carried, ease
from handi.world.geometry import turn
from handi.world.grasps import pinch
from handi.world.hand import Grip
from handi.world.poses import facing
from handi.world.props import Cloth, Paper, State


class MoveStrip(Action):
    """Take an outer strip of a cloth by its corners and swing it over."""

    strip: str  # "near" or "far"
    end: float  # 1 folded, 0 flat
    acts_on, both_hands = Cloth, True

    def plan(self) -> None:
        self.cloth = cast(Cloth, self.prop())
        for side in ("left", "right"):
            self.tracks[side] = self._track(side)

    def _track(self, side: str) -> HandPath:
        cloth, hand = self.cloth, self.scene.hands[side]
        point = cloth.edge(cloth.initial, self.strip, hand.sign)
        rotation = facing((-0.24 * hand.sign, 0.94, -0.22), (0.22 * hand.sign, 0.02, 0.96))
        opened, closed = pinch(hand, point + [0, 0, 0.010], rotation)

        def held(time: float) -> Grip:
            """The hands go with the corners and tip over a little."""
            now = cloth.edge(self.states(time)[cloth.name], self.strip, hand.sign)
            swing = np.sin(np.pi * self.folded(time))
            turned = turn("x", 0.30 * swing)
            return Grip(now + turned @ (closed.position - point), turned @ closed.rotation, closed.angles)

        return HandPath(tuple(self.reach(hand, opened, held, back=(0.0, -0.035, 0.03))))

    def folded(self, time: float) -> float:
        """How far the strip is folded over, 0..1."""
        begin = cast(float, self.cloth.initial[self.strip])
        return begin + (self.end - begin) * ease(time, 0.40, 0.95)

    def states(self, time: float) -> dict[str, State]:
        return {self.cloth.name: {**self.cloth.initial, self.strip: self.folded(time)}}


class Fold(MoveStrip):
    """Fold the near strip over the others."""

    name = "fold"
    weight = 1.5
    strip, end = "near", 1.0


class Unfold(MoveStrip):
    """Lay the folded strip out flat."""

    name = "unfold"
    weight = 1.5
    strip, end = "far", 0.0


class Tear(Action):
    """Tear a sheet of paper in two."""

    name = "tear"
    weight = 3.0
    acts_on, both_hands = Paper, True

    def plan(self) -> None:
        self.paper = cast(Paper, self.prop())
        for side in ("left", "right"):
            self.tracks[side] = self._track(side)

    def _track(self, side: str) -> HandPath:
        paper, hand = self.paper, self.scene.hands[side]
        point = paper.edge(paper.initial, hand.sign)
        rotation = facing((-0.50 * hand.sign, 0.84, -0.22), (0.30 * hand.sign, 0.02, 0.94))
        opened, closed = pinch(hand, point + [0, 0, 0.010], rotation)
        before = paper.half_frame(paper.initial, hand.sign)

        def held(time: float) -> Grip:
            return carried(closed, before, paper.half_frame(self.states(time)[paper.name], hand.sign))

        keys = self.reach(hand, opened, held, back=(hand.sign * 0.03, -0.03, 0.03), times=(0.22, 0.29, 0.35))
        return HandPath(tuple(keys))

    def states(self, time: float) -> dict[str, State]:
        return {
            self.paper.name: {
                "lift": 0.045 * ease(time, 0.36, 0.58),
                "torn": ease(time, 0.50, 0.82),
                "apart": 0.045 * ease(time, 0.74, 0.98),
            }
        }
