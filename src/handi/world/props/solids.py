"""Blocks, a sponge beside stains, and a board with a vegetable and a knife."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from handi.world.geometry import EYE, Array, Distance, Mesh, box, lathe, mesh, to_box, turn
from handi.world.materials import (
    BEECH,
    CHECK,
    FABRIC,
    FLESH,
    PLAIN,
    STEEL,
    STRIPE,
    WALNUT,
    Material,
    colour,
    linear,
)
from handi.world.props.base import Body, Prop, State, number, vector


@dataclass(frozen=True, kw_only=True)
class Block(Prop):
    """A box to push about, or a small block to stack. `sides` in metres."""

    kind = "block"
    room = (0.040, 0.036, 0.040)
    noun: str = "box"
    sides: tuple[float, float, float] = (0.09, 0.09, 0.08)
    pattern: int = PLAIN

    @property
    def initial(self) -> State:
        return {"position": [*self.at, 0.0]}

    def distance(self, state: State) -> Distance:
        """Distance to its body."""
        return to_box(vector(state, "position") + [0, 0, self.sides[2] / 2], np.array(self.sides) / 2)

    def bodies(self, state: State) -> list[Body]:
        paint = colour(self.colour or "white")
        if self.pattern == STRIPE:
            surface = Material(paint, STRIPE, np.minimum(1, paint * 0.3 + 0.45), scale=26, seed=self.seed)
        elif self.pattern == CHECK:
            surface = Material(paint, CHECK, paint * 0.35, scale=24, seed=self.seed)
        else:
            surface = Material(paint, gloss=30, specular=0.12, seed=self.seed)
        place = vector(state, "position") + [0, 0, self.sides[2] / 2]
        return [(box(*self.sides, bevel=0.003).moved(EYE, place), surface)]


SPONGE = np.array([0.070, 0.100, 0.030])  # sides, metres


@dataclass(frozen=True, kw_only=True)
class Sponge(Prop):
    """A sponge, and spilt spots beside it. `spots`: x, y, radius of each, relative to `at`, metres."""

    kind = "sponge"
    room = (0.135, 0.06, 0.065)
    spots: tuple[tuple[float, float, float], ...] = ()
    rest: tuple[float, float] = (0.0, 0.0)  # the sponge's place in the first frame, relative to `at`
    stain: tuple[int, int, int] = (120, 40, 20)

    @property
    def initial(self) -> State:
        place = [self.at[0] + self.rest[0], self.at[1] + self.rest[1], 0.0]
        return {"position": place, "dirt": [1.0] * len(self.spots)}

    def distance(self, state: State) -> Distance:
        """Distance to the sponge."""
        return to_box(vector(state, "position") + [0, 0, SPONGE[2] / 2], SPONGE / 2)

    def bodies(self, state: State) -> list[Body]:
        spill = Material(linear(self.stain), gloss=60, specular=0.3, seed=self.seed)
        found: list[Body] = []
        for n, ((x, y, radius), dirt) in enumerate(zip(self.spots, vector(state, "dirt"), strict=True)):
            if dirt > 0.02:
                spot = _blot(radius * float(dirt) ** 0.5, self.seed + n)
                found.append((spot.moved(EYE, self.origin + [x, y, 0.0012 + 0.0002 * n]), spill))
        paint = colour(self.colour or "yellow")
        foam = Material(paint, FABRIC, paint * 0.55, specular=0.02, scale=300, extra=1.0, seed=self.seed)
        scourer = Material(paint * 0.25 + [0.01, 0.05, 0.02], FABRIC, specular=0.02, seed=self.seed)
        place = vector(state, "position")
        foam_body = box(SPONGE[0], SPONGE[1], 0.022, bevel=0.004).moved(EYE, place + [0, 0, 0.018])
        base = box(SPONGE[0], SPONGE[1], 0.008, bevel=0.002).moved(EYE, place + [0, 0, 0.0045])
        return [*found, (foam_body, foam), (base, scourer)]


def _blot(radius: float, seed: int) -> Mesh:
    """A spilt spot with an uneven rim."""
    angle = np.linspace(0, 2 * np.pi, 26, endpoint=False)
    rim = radius * (1 + 0.18 * np.sin(3 * angle + seed) + 0.09 * np.sin(5 * angle + 2 * seed))
    ring = np.stack([rim * np.cos(angle), rim * np.sin(angle), 0 * angle], 1)
    i = np.arange(26)
    return mesh(np.concatenate([[[0, 0, 0]], ring]), np.stack([0 * i, 1 + i, 1 + (i + 1) % 26], 1))


VEGETABLES = {  # outside, inside, radius, taper, length
    "carrot": ((232, 116, 30), (246, 150, 62), 0.0165, 0.45, 0.19),
    "cucumber": ((66, 116, 50), (206, 222, 162), 0.0175, 0.06, 0.19),
    "sausage": ((166, 74, 54), (216, 150, 126), 0.0160, 0.0, 0.17),
    "zucchini": ((44, 84, 44), (226, 226, 180), 0.0190, 0.10, 0.18),
}
BOARD_TOP = 0.016


@dataclass(frozen=True, kw_only=True)
class Board(Prop):
    """A chopping board with a vegetable across it and a knife at one end.

    The vegetable lies along x; the knife lies beyond its end on the side `hand` (+1 right, -1 left),
    its point away from the viewer. `parted` tells how far each of the two cuts has opened, 0..1.
    """

    kind = "board"
    room = (0.155, 0.094, 0.094)
    vegetable: str = "carrot"
    hand: int = 1

    @property
    def radius(self) -> float:
        """Of the vegetable's thick end."""
        return VEGETABLES[self.vegetable][2]

    @property
    def cuts(self) -> tuple[float, float]:
        """Where it is cut, x from the board's middle, the first cut nearest the knife."""
        return 0.045 * self.hand, 0.012 * self.hand

    @property
    def initial(self) -> State:
        return {
            "knife": [self.at[0] + 0.118 * self.hand, self.at[1] - 0.005, BOARD_TOP + 0.008],
            "roll": np.pi / 2 * self.hand,  # the blade lies flat
            "parted": [0.0, 0.0],
        }

    def knife_frame(self, state: State) -> tuple[Array, Array]:
        """Rotation (columns: side, towards the point, up from the edge) and place of the blade's heel."""
        pitch = turn("x", -0.10 * (1 - abs(number(state, "roll")) / (np.pi / 2)))  # point slightly down
        return pitch @ turn("y", number(state, "roll")), vector(state, "knife")

    def handle(self, state: State) -> tuple[Array, Array]:
        """Middle and direction of the knife's handle."""
        rotation, heel = self.knife_frame(state)
        return heel + rotation @ [0, -0.062, 0.014], rotation @ [0, 1.0, 0]

    def vegetable_body(self) -> tuple[Array, Array, float, float]:
        """Middle, axis, radius and half length."""
        middle = self.origin + [-0.028 * self.hand, 0.0, BOARD_TOP + self.radius]
        return middle, np.array([1.0, 0, 0]), self.radius, VEGETABLES[self.vegetable][4] / 2

    def bodies(self, state: State) -> list[Body]:
        slab = box(0.30, 0.185, BOARD_TOP, bevel=0.003).moved(EYE, self.origin + [0, 0, BOARD_TOP / 2])
        found: list[Body] = [(slab, WALNUT if self.seed % 3 == 0 else BEECH)]
        found += self._pieces(vector(state, "parted"))
        rotation, heel = self.knife_frame(state)
        found.append((_BLADE.moved(rotation, heel), STEEL))
        grip = Material(linear((36, 32, 32)), gloss=30, specular=0.2)
        found.append(
            (
                box(0.015, 0.105, 0.022, bevel=0.005).moved(rotation, heel + rotation @ [0, -0.066, 0.016]),
                grip,
            )
        )
        return found

    def _pieces(self, parted: Array) -> list[Body]:
        outside, inside, radius, taper, length = VEGETABLES[self.vegetable]
        middle, _, _, half = self.vegetable_body()
        skin = Material(linear(outside), FLESH, gloss=30, specular=0.15, seed=self.seed)
        flesh = Material(linear(inside), seed=self.seed)
        # Along the vegetable from the far end (0) to the end beside the knife (length).
        ends = [0.0, *(self.hand * (cut + 0.028 * self.hand) + half for cut in reversed(self.cuts)), length]
        gaps = [0.0, float(parted[1]), float(parted[0])]
        found: list[Body] = []
        slide = 0.0
        for n, (a, b) in enumerate(pairwise(ends)):
            slide += 0.016 * gaps[n]
            ra, rb = (radius * (1 - taper * (1 - q / length)) for q in (a, b))
            cap_a, cap_b = (0.0, a) if n else (0.0, a - 0.004), (0.0, b) if n < 2 else (0.0, b + 0.003)
            body = lathe([(ra * 0.8, a), (ra, a + 0.0015), (rb, b - 0.0015), (rb * 0.8, b)], segments=24)
            ends_body = [
                lathe([cap_a, (ra * 0.8, a)], segments=24),
                lathe([(rb * 0.8, b), cap_b], segments=24),
            ]
            tilt = turn("z", 0.35 * gaps[n] * self.hand * (1 if n == 1 else -0.6))
            rotation = tilt @ turn("y", np.pi / 2 * self.hand)
            base = middle - np.array([self.hand * half, 0, 0]) + [self.hand * slide, 0.004 * gaps[n], 0]
            found.append((body.moved(rotation, base), skin))
            found.append((ends_body[0].moved(rotation, base), flesh if n else skin))
            found.append((ends_body[1].moved(rotation, base), flesh if n < 2 else skin))
        return found


def _blade() -> Mesh:
    """A kitchen knife's blade: edge along z = 0, heel at y = 0, point towards +y."""
    outline = np.array(
        [[0, 0.0, 0], [0, 0.085, 0.0], [0, 0.125, 0.014], [0, 0.085, 0.030], [0, -0.018, 0.030]]
    )
    side = np.array([0.0009, 0, 0])
    vertices = np.concatenate([outline + side, outline - side])
    faces = [[0, 1, 2], [0, 2, 3], [0, 3, 4], [5, 7, 6], [5, 8, 7], [5, 9, 8]]
    for i in range(5):
        j = (i + 1) % 5
        faces += [[i, i + 5, j], [j, i + 5, j + 5]]
    return mesh(vertices, np.array(faces))


_BLADE = _blade()
