"""Round things: cups and cans, a bowl with a spoon in it, a pot."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from handi.world.geometry import (
    EYE,
    Array,
    Distance,
    Mesh,
    disc,
    joined,
    lathe,
    rod,
    to_cylinder,
    turn,
    upright,
)
from handi.world.materials import LIQUID, STEEL, WALNUT, Material, colour, linear
from handi.world.props.base import Body, Prop, State, number, vector

LIQUIDS = {  # name -> its colour and that of the cream or oil on it
    "soup": ((196, 116, 40), (246, 236, 214)),
    "sauce": ((168, 40, 24), (244, 226, 200)),
    "coffee": ((70, 42, 24), (240, 226, 204)),
    "batter": ((228, 200, 136), (112, 62, 34)),
}
DRINKS = {"milk": (242, 238, 226), "juice": (238, 148, 30), "tea": (140, 72, 26)}


@dataclass(frozen=True, kw_only=True)
class Vessel(Prop):
    """A cup (open, with a drink in it or empty) or a can (closed).

    `position` is the foot's middle; it is tilted by `tilt` towards the azimuth `towards`. `fill` 0..1;
    `stream` is the length of what runs out over the lip, metres.
    """

    kind = "vessel"
    room = (0.055, 0.045, 0.045)
    noun: str = "cup"
    drink: str | None = None
    held: tuple[float, float, float] | None = None  # where it is in the first frame when a hand holds it

    @property
    def initial(self) -> State:
        place = [*self.at, 0.0] if self.held is None else list(self.held)
        return {
            "position": place,
            "tilt": 0.0,
            "towards": 0.0,
            "fill": 0.8 if self.drink else 0.0,
            "stream": 0.0,
        }

    @property
    def radius(self) -> float:
        """Where the hand holds it, metres."""
        return 0.038 if self.noun == "cup" else 0.034

    @property
    def height(self) -> float:
        """Rim above foot, metres."""
        return 0.092 if self.noun == "cup" else 0.118

    def frame(self, state: State) -> tuple[Array, Array]:
        """Rotation and place of the foot. It tilts about a horizontal axis, towards an azimuth."""
        azimuth = number(state, "towards")
        axis = np.array([-np.sin(azimuth), np.cos(azimuth), 0.0])
        return turn(axis, number(state, "tilt")), vector(state, "position")

    def distance(self, state: State) -> Distance:
        """Distance to its body."""
        rotation, place = self.frame(state)
        half = self.height / 2
        return to_cylinder(place + rotation @ [0, 0, half], rotation @ [0, 0, 1.0], self.radius, half)

    def bodies(self, state: State) -> list[Body]:
        rotation, place = self.frame(state)
        glaze = Material(colour(self.colour or "white"), gloss=60, specular=0.4, seed=self.seed)
        if self.noun == "can":
            shell = lathe([(0, 0), (0.031, 0), (0.034, 0.004)], [(0.034, 0.004), (0.034, 0.113)])
            band = lathe([(0.0343, 0.035), (0.0343, 0.085)])
            lid = lathe(
                [(0.034, 0.113), (0.032, 0.118), (0.030, 0.118)], [(0.030, 0.118), (0.029, 0.115), (0, 0.115)]
            )
            label = Material(
                np.minimum(1, colour(self.colour or "white") * 0.5 + 0.3), gloss=40, specular=0.2
            )
            return [
                (shell.moved(rotation, place), glaze),
                (band.moved(rotation, place), label),
                (lid.moved(rotation, place), STEEL),
            ]
        shell = lathe(
            [
                (0, 0),
                (0.027, 0),
                (0.032, 0.003),
                (0.037, 0.040),
                (0.040, 0.090),
                (0.0392, 0.092),
                (0.038, 0.090),
            ],
            [(0.038, 0.090), (0.035, 0.040), (0.029, 0.007), (0, 0.006)],
        )
        found: list[Body] = [(shell.moved(rotation, place), glaze)]
        fill = number(state, "fill")
        if self.drink and fill > 0.02:
            level = 0.01 + 0.07 * fill
            surface = disc(0.0285 + 0.0085 * level / 0.09 + 0.0005).moved(EYE, (0, 0, level))
            drink = Material(linear(DRINKS[self.drink]), gloss=80, specular=0.5)
            found.append((surface.moved(rotation, place), drink))
            if (stream := number(state, "stream")) > 0:
                lip = self.lip(state)
                found.append((rod(lip - [0, 0, stream], lip, 0.0042, 10), drink))
        return found

    def lip(self, state: State) -> Array:
        """The point of the rim over which it pours."""
        rotation, place = self.frame(state)
        azimuth = number(state, "towards")
        return place + rotation @ [self.radius * np.cos(azimuth), self.radius * np.sin(azimuth), self.height]


BOWL_PROFILE = ((0.040, 0.004), (0.072, 0.025), (0.088, 0.056))  # radius and height of the inside


@dataclass(frozen=True, kw_only=True)
class Bowl(Prop):
    """A bowl of something with a spoon in it.

    `mixed` 0: the cream lies on it in blobs; 1: one colour. `turned`: the spoon's way, radians. `added`: the
    share of `added_colour` (linear) on the surface after something has been poured in.
    """

    kind = "bowl"
    room = (0.095, 0.095, 0.095)
    content: str = "soup"
    lean: float = 1.0  # the side that the spoon leans to: +1 right, -1 left
    start: float = 0.0  # where the spoon's tip is, radians around the bowl

    @property
    def initial(self) -> State:
        return {"fill": 0.4, "mixed": 0.0, "turned": 0.0, "added": 0.0, "added_colour": [0.0, 0.0, 0.0]}

    def level(self, state: State) -> float:
        """Height of the surface above the table, metres."""
        return 0.022 + 0.03 * number(state, "fill")

    def spoon(self, state: State) -> tuple[Array, Array]:
        """Tip and top of the spoon."""
        angle = self.start + number(state, "turned")
        around = np.array([np.cos(angle), np.sin(angle), 0.0])
        tip = self.origin + around * 0.040 + [0, 0, 0.020]
        top = self.origin + around * 0.018 + [self.lean * 0.040, -0.055, 0.150]
        return tip, top

    def bodies(self, state: State) -> list[Body]:
        rim = (0.090, 0.060)
        shell = lathe(
            [(0, 0), (0.038, 0), (0.044, 0.003), (0.076, 0.024), (0.0925, 0.058), rim],
            [rim, *reversed(BOWL_PROFILE), (0, 0.004)],
        )
        glaze = Material(np.minimum(1, colour(self.colour or "white") * 0.6 + 0.2), gloss=60, specular=0.35)
        level = self.level(state)
        radius = float(np.interp(level, [z for _, z in BOWL_PROFILE], [r for r, _ in BOWL_PROFILE]))
        added, tint = number(state, "added"), vector(state, "added_colour")
        base, cream = (linear(c) + (tint - linear(c)) * added for c in LIQUIDS[self.content])
        surface = Material(
            base, LIQUID, cream, gloss=80, specular=0.35, seed=self.seed,
            extra=number(state, "mixed"), extra2=number(state, "turned") * 0.8,
        )  # fmt: skip
        tip, top = self.spoon(state)
        return [
            (shell.moved(EYE, self.origin), glaze),
            (disc(radius + 0.001, 40).moved(EYE, self.origin + [0, 0, level]), surface),
            (spoon_between(tip, top), WALNUT),
        ]


def spoon_between(tip: Array, top: Array) -> Mesh:
    """A wooden spoon whose bowl is at `tip`."""
    direction = (top - tip) / np.linalg.norm(top - tip)
    scoop = lathe([(0, -0.018), (0.012, -0.014), (0.017, 0), (0.012, 0.014), (0, 0.018)], segments=16)
    flat = Mesh(scoop.vertices * [1, 0.4, 1.2], scoop.faces, scoop.texture)
    return joined([rod(tip, top + direction * 0.02, 0.0055, 10), flat.moved(upright(direction), tip)])


@dataclass(frozen=True, kw_only=True)
class Pot(Prop):
    """A pot with a handle on either side."""

    kind = "pot"
    room = (0.130, 0.085, 0.085)
    radius = 0.075
    handle_height = 0.070

    @property
    def initial(self) -> State:
        return {"position": [*self.at, 0.0]}

    def handle(self, state: State, sign: int) -> tuple[Array, Array]:
        """Middle and axis of the bar of one handle."""
        return vector(state, "position") + [sign * 0.105, 0.0, self.handle_height], np.array([0.0, 1.0, 0.0])

    def bodies(self, state: State) -> list[Body]:
        place = vector(state, "position")
        r = self.radius
        shell = lathe(
            [(0, 0), (r - 0.004, 0), (r, 0.005), (r, 0.088), (r + 0.003, 0.092), (r - 0.002, 0.092)],
            [(r - 0.002, 0.092), (r - 0.003, 0.008), (0, 0.006)],
            segments=36,
        )
        paint = STEEL if self.colour is None else Material(colour(self.colour), gloss=70, specular=0.45)
        found: list[Body] = [(shell.moved(EYE, place), paint)]
        grip = Material(linear((38, 36, 36)), gloss=30, specular=0.15)
        for sign in (-1, 1):
            middle, axis = self.handle(state, sign)
            arms = [
                rod(middle + axis * q - [sign * 0.034, 0, 0], middle + axis * q, 0.0045, 10)
                for q in (-0.032, 0.032)
            ]
            bar = rod(middle - axis * 0.037, middle + axis * 0.037, 0.0065, 12)
            found.append((joined([*arms, bar]), grip))
        return found
