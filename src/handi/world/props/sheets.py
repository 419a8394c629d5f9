"""Thin things: a cloth in three strips, and a sheet of paper that tears."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from handi.world.geometry import EYE, Array, mesh, sheet, turn
from handi.world.materials import CHECK, FABRIC, PLAIN, STRIPE, Material, colour
from handi.world.props.base import Body, Prop, State, number, vector

STRIP = 0.072  # depth of a strip of the cloth, metres
BEND = 0.018  # length over which a fold bends


@dataclass(frozen=True, kw_only=True)
class Cloth(Prop):
    """A tea towel of three strips across the table: near, middle and far.

    `near` and `far` tell how far the outer strips are folded over the middle one: 0 flat, 1 folded. In the
    first frame the far strip is folded over and the near one lies flat, so that it can be folded and
    unfolded alike. `at` is the front edge of the middle strip.
    """

    kind = "cloth"
    room = (0.105, STRIP + 0.02, 2 * STRIP + 0.01)
    half_width: float = 0.085
    pattern: int = CHECK

    @property
    def initial(self) -> State:
        return {"near": 0.0, "far": 1.0}

    def profile(self, folded: float, height: float, count: int = 15) -> Array:
        """A strip from its fold outwards as points (away from the fold, up), count×2."""
        turned = np.pi * folded
        arc = np.linspace(0, STRIP, count)
        bent = np.clip(arc / BEND, 0, 1)
        angle = turned * bent * bent * (3 - 2 * bent)
        lag = 0.5 * np.sin(np.pi * folded) * (arc / STRIP) ** 2  # the free end trails behind
        steps = np.diff(arc)
        middle = (angle - lag)[1:]
        away = np.concatenate([[0], np.cumsum(steps * np.cos(middle))])
        up = np.concatenate([[0], np.cumsum(steps * np.sin(middle))])
        return np.stack([away, np.maximum(up, 0) + 0.0022 + height * np.minimum(1, arc / BEND) * folded], 1)

    def edge(self, state: State, which: str, side: int) -> Array:
        """The point near the corner of an outer strip where a hand takes hold; side +1 right, -1 left."""
        away, up = self.profile(number(state, which), self._layer(state, which))[-2]
        y = self.at[1] - away if which == "near" else self.at[1] + STRIP + away
        return np.array([self.at[0] + side * (self.half_width - 0.016), y, up])

    def _layer(self, state: State, which: str) -> float:
        """How high above the table a strip comes to lie when folded."""
        return 0.0062 if which == "near" and number(state, "far") > 0.5 else 0.0032

    def bodies(self, state: State) -> list[Body]:
        x = np.linspace(-self.half_width, self.half_width, 13)
        near = self.profile(number(state, "near"), self._layer(state, "near"))
        far = self.profile(number(state, "far"), self._layer(state, "far"))
        middle = np.stack([np.linspace(0, STRIP, 8), np.full(8, 0.0022)], 1)
        y = np.concatenate([-near[::-1, 0], middle[1:-1, 0], STRIP + far[:, 0]])
        z = np.concatenate([near[::-1, 1], middle[1:-1, 1], far[:, 1]])
        rows = np.concatenate(
            [-np.linspace(STRIP, 0, len(near)), middle[1:-1, 0], STRIP + np.linspace(0, STRIP, len(far))]
        )
        ripple = 0.0008 * np.sin(x[:, None] * 60 + rows[None] * 45 + self.seed)
        points = np.stack(np.broadcast_arrays(x[:, None], y[None], z[None] + ripple), -1)
        texture = np.stack(np.broadcast_arrays(x[:, None], rows[None], 0.0), -1)
        paint = colour(self.colour or "blue")
        pale = np.minimum(1, paint * 0.25 + 0.55)
        kinds = {CHECK: (paint, pale, 32.0), STRIPE: (paint, pale, 24.0), FABRIC: (paint, pale, 120.0)}
        base, second, scale = kinds[self.pattern]
        weave = Material(base, self.pattern, second, specular=0.02, scale=scale, seed=self.seed)
        return [(sheet(points, texture).moved(EYE, self.origin), weave)]


@dataclass(frozen=True, kw_only=True)
class Paper(Prop):
    """A sheet of paper that tears in two across its middle, from the far edge on.

    `torn` 0..1 opens the tear like scissors; `apart` (metres) draws the halves asunder, `lift` up.
    """

    kind = "paper"
    room = (0.13, 0.07, 0.07)
    half_width: float = 0.080
    half_depth: float = 0.058
    pattern: int = PLAIN

    @property
    def initial(self) -> State:
        return {"torn": 0.0, "apart": 0.0, "lift": 0.0}

    def half_frame(self, state: State, side: int) -> tuple[Array, Array]:
        """Rotation and place of one half (+1 right): it turns about the near end of the tear."""
        pivot = self.origin + [0, -self.half_depth, 0.0018 + number(state, "lift")]
        angle = -side * 0.42 * number(state, "torn")
        drop = turn("y", side * 0.25 * min(1.0, number(state, "lift") / 0.03))
        return turn("z", angle) @ drop, pivot + [side * number(state, "apart"), 0, 0]

    def edge(self, state: State, side: int) -> Array:
        """Where a hand holds its half: the outer edge."""
        rotation, pivot = self.half_frame(state, side)
        return pivot + rotation @ [side * (self.half_width - 0.012), self.half_depth * 0.95, 0]

    def bodies(self, state: State) -> list[Body]:
        paint = np.minimum(1, colour(self.colour or "white") * 0.7 + 0.2)
        ink = np.array([0.10, 0.12, 0.2]) if self.pattern == STRIPE else paint
        surface = Material(
            paint, self.pattern, paint + (ink - paint) * 0.7, specular=0.03, scale=70, seed=self.seed
        )
        found: list[Body] = []
        y = np.linspace(0, 2 * self.half_depth, 25)
        jag = np.random.default_rng(self.seed).normal(0, 0.0022, 25).cumsum()
        jag -= np.linspace(jag[0], jag[-1], 25)
        for side in (-1, 1):
            rotation, pivot = self.half_frame(state, side)
            share = np.linspace(0, 1, 9)[:, None]
            x = jag[None] + (side * self.half_width - jag[None]) * share
            curl = 0.10 * vector(state, "lift") * (share**2) * np.ones_like(y)[None]
            points = np.stack(np.broadcast_arrays(x, y[None], curl), -1)
            texture = np.stack(np.broadcast_arrays(y[None], x, 0.0), -1)  # the lines run across
            body = sheet(points, texture)
            found.append((mesh(body.vertices, body.faces, body.texture).moved(rotation, pivot), surface))
        return found
