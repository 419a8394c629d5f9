"""Things with a moving part: a drawer, a chest with a lid, a stove with a dial, buttons with lamps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from handi.world.geometry import EYE, Array, Distance, box, cylinder, joined, lathe, rod, to_cylinder, turn
from handi.world.materials import STEEL, WOOD, Material, colour, linear
from handi.world.props.base import Body, Prop, State, number, vector


def _painted_wood(name: str | None, seed: int, tone: float = 1.0) -> Material:
    base = colour(name) * 0.35 + linear((120, 90, 60)) * 0.5 if name else linear((168, 122, 78))
    return Material(base * tone, WOOD, np.minimum(1, base * tone * 1.45), specular=0.08, scale=6, seed=seed)


@dataclass(frozen=True, kw_only=True)
class Drawer(Prop):
    """A small cabinet with one drawer, `opening` metres out. `at` is the middle of its closed front."""

    kind = "drawer"
    room = (0.175, 0.175, 0.20)
    travel = 0.13
    start: float = 0.06
    items: tuple[str, str] = ("red", "blue")

    @property
    def initial(self) -> State:
        return {"opening": self.start}

    def handle(self, state: State) -> Array:
        """Middle of the handle bar, which lies along x."""
        return self.origin + [0, -0.040 - number(state, "opening"), 0.088]

    def distance(self, state: State) -> Distance:
        """Distance to the handle bar."""
        return to_cylinder(self.handle(state), (1, 0, 0), 0.006, 0.055)

    def bodies(self, state: State) -> list[Body]:
        frame, front = _painted_wood(self.colour, self.seed), _painted_wood(self.colour, self.seed + 7, 1.1)
        dark = Material(frame.rgb * 0.5, specular=0.05)
        found: list[Body] = []
        for sides, centre in (
            ((0.34, 0.20, 0.014), (0, 0.10, 0.155)),
            ((0.014, 0.20, 0.15), (-0.163, 0.10, 0.080)),
            ((0.014, 0.20, 0.15), (0.163, 0.10, 0.080)),
            ((0.34, 0.012, 0.15), (0, 0.195, 0.080)),
            ((0.34, 0.20, 0.012), (0, 0.10, 0.006)),
        ):
            found.append((box(*sides).moved(EYE, self.origin + centre), frame))
        slid = self.origin - [0, number(state, "opening"), 0]
        for sides, centre, material in (
            ((0.31, 0.014, 0.125), (0, -0.005, 0.080), front),
            ((0.29, 0.18, 0.006), (0, 0.085, 0.030), dark),
            ((0.008, 0.18, 0.080), (-0.142, 0.085, 0.070), frame),
            ((0.008, 0.18, 0.080), (0.142, 0.085, 0.070), frame),
        ):
            found.append((box(*sides).moved(EYE, slid + centre), material))
        first, second = (Material(colour(name), gloss=40, specular=0.2) for name in self.items)
        found.append((box(0.06, 0.08, 0.045, bevel=0.004).moved(EYE, slid + [-0.075, 0.06, 0.056]), first))
        found.append((cylinder(0.028, 0.06).moved(EYE, slid + [0.07, 0.055, 0.034]), second))
        handle = self.handle(state)
        posts = [rod(handle + [q, 0, 0], handle + [q, 0.032, 0], 0.004, 10) for q in (-0.045, 0.045)]
        found.append((joined([rod(handle - [0.055, 0, 0], handle + [0.055, 0, 0], 0.006), *posts]), STEEL))
        return found


@dataclass(frozen=True, kw_only=True)
class Chest(Prop):
    """A box with a lid hinged at its back. `lid` is its angle, radians, 0 closed. `at` is its middle."""

    kind = "chest"
    room = (0.085, 0.085, 0.09)
    sides = (0.150, 0.105, 0.075)
    start: float = 0.85
    items: tuple[str, str] = ("yellow", "red")

    @property
    def initial(self) -> State:
        return {"lid": self.start}

    def hinge(self) -> Array:
        """The middle of the hinge."""
        return self.origin + [0, self.sides[1] / 2, self.sides[2]]

    def lid_frame(self, state: State) -> tuple[Array, Array]:
        """Rotation and place of the lid, whose own frame starts at the hinge and runs to -y."""
        return turn("x", -number(state, "lid")), self.hinge()

    def knob(self, state: State) -> Array:
        """Centre of the lid's knob, at its free edge."""
        rotation, hinge = self.lid_frame(state)
        return hinge + rotation @ [0, -self.sides[1] - 0.016, 0.006]

    def bodies(self, state: State) -> list[Body]:
        w, d, h = self.sides
        paint = Material(colour(self.colour or "blue"), gloss=40, specular=0.2, seed=self.seed)
        inner = Material(colour(self.colour or "blue") * 0.35 + 0.03, specular=0.03)
        found: list[Body] = []
        for sides, centre in (
            ((w, 0.006, h), (0, -d / 2 + 0.003, h / 2)),
            ((w, 0.006, h), (0, d / 2 - 0.003, h / 2)),
            ((0.006, d, h), (-w / 2 + 0.003, 0, h / 2)),
            ((0.006, d, h), (w / 2 - 0.003, 0, h / 2)),
        ):
            found.append((box(*sides).moved(EYE, self.origin + centre), paint))
        found.append((box(w - 0.01, d - 0.01, 0.006).moved(EYE, self.origin + [0, 0, 0.004]), inner))
        for name, x in zip(self.items, (-0.032, 0.030), strict=True):
            ball = lathe(
                [(0.024 * np.sin(q), -0.024 * np.cos(q)) for q in np.linspace(0, np.pi, 10)], segments=18
            )
            found.append(
                (ball.moved(EYE, self.origin + [x, -0.004, 0.045]), Material(colour(name), specular=0.3))
            )
        rotation, hinge = self.lid_frame(state)
        top = (
            box(w + 0.006, d + 0.006, 0.010, bevel=0.003)
            .moved(EYE, (0, -d / 2, 0.006))
            .moved(rotation, hinge)
        )
        rim = box(w - 0.014, d - 0.014, 0.006).moved(EYE, (0, -d / 2, -0.001)).moved(rotation, hinge)
        knob = rod((0, 0, 0), (0, -0.022, 0), 0.0085, 14).moved(EYE, (0, -d, 0.006)).moved(rotation, hinge)
        return [*found, (top, paint), (rim, inner), (knob, STEEL)]

    def knob_distance(self, state: State) -> Distance:
        """Distance to the lid's knob."""
        rotation, _ = self.lid_frame(state)
        return to_cylinder(self.knob(state), rotation @ [0, 1.0, 0], 0.0085, 0.012)


DIAL_RADIUS, DIAL_HEIGHT = 0.021, 0.030


@dataclass(frozen=True, kw_only=True)
class Stove(Prop):
    """A hot plate with a dial in front of it. `angle` of the dial (radians, anticlockwise), `heat` 0..1."""

    kind = "stove"
    room = (0.108, 0.045, 0.222)

    @property
    def initial(self) -> State:
        return {"angle": 0.0, "heat": 0.4}

    def dial(self) -> Array:
        """The foot of the dial."""
        return self.origin + [0, 0, 0.022]

    def dial_distance(self) -> Distance:
        """Distance to the dial."""
        return to_cylinder(self.dial() + [0, 0, DIAL_HEIGHT / 2], (0, 0, 1), DIAL_RADIUS, DIAL_HEIGHT / 2)

    def bodies(self, state: State) -> list[Body]:
        heat = number(state, "heat")
        panel = Material(linear((36, 36, 40)), gloss=70, specular=0.3)
        plate = box(0.21, 0.26, 0.022, bevel=0.004).moved(EYE, self.origin + [0, 0.09, 0.011])
        glowing = linear((66, 62, 62)) * (1 - heat) + np.array([1.0, 0.16, 0.03]) * heat
        coil = Material(glowing, specular=0.05, glow=1.9 * heat**1.5)
        rings = joined(
            [lathe([(r - 0.006, 0), (r, 0.0035), (r + 0.006, 0)], segments=36) for r in (0.024, 0.043, 0.062)]
        ).moved(EYE, self.origin + [0, 0.125, 0.0222])
        r, h = DIAL_RADIUS, DIAL_HEIGHT
        knob = lathe(
            [(r + 0.006, 0), (r + 0.004, 0.006)],
            [(r + 0.004, 0.006), (r, 0.008), (r - 0.0015, h)],
            [(r - 0.0015, h), (0, h)],
        )
        pointer = box(0.005, r, 0.003, bevel=0.001).moved(EYE, (0, r / 2, h + 0.001))
        rotation = turn("z", number(state, "angle"))
        red = Material(linear((220, 40, 30)), specular=0.1)
        white = Material(linear((216, 214, 208)), gloss=60, specular=0.35)
        marks = joined(
            [
                box(0.003, 0.009, 0.001, 0.0002).moved(
                    turn("z", q), self.dial() + [-np.sin(q) * 0.035, np.cos(q) * 0.035, 0.0005]
                )
                for q in np.linspace(-1.4, 1.4, 7)
            ]
        )
        return [
            (plate, panel),
            (rings, coil),
            (knob.moved(rotation, self.dial()), white if self.seed % 2 else STEEL),
            (pointer.moved(rotation, self.dial()), red),
            (marks, Material(linear((200, 200, 196)))),
        ]


@dataclass(frozen=True, kw_only=True)
class Buttons(Prop):
    """A console with two buttons, each with a lamp behind it. `lit` and `pressed`: 0..1 of each."""

    kind = "buttons"
    room = (0.080, 0.058, 0.058)
    colours: tuple[str, str] = ("red", "blue")

    @property
    def initial(self) -> State:
        return {"lit": [0.0, 0.0], "pressed": [0.0, 0.0]}

    def button(self, which: int) -> Array:
        """Centre of a button's top when it is not pressed."""
        return self.origin + [(-0.036, 0.036)[which], -0.018, 0.045]

    def bodies(self, state: State) -> list[Body]:
        shell = Material(linear((206, 206, 200) if self.seed % 2 else (64, 66, 72)), gloss=40, specular=0.2)
        found: list[Body] = [
            (box(0.15, 0.105, 0.030, bevel=0.006).moved(EYE, self.origin + [0, 0, 0.015]), shell)
        ]
        dome = lathe(
            [(0.0175 * np.cos(q), 0.014 * np.sin(q)) for q in np.linspace(0, np.pi / 2, 7)], segments=20
        )
        collar = lathe([(0.027, 0), (0.026, 0.004)], [(0.026, 0.004), (0.0225, 0.004)], segments=24)
        cap = lathe([(0.021, 0), (0.021, 0.011)], [(0.021, 0.011), (0.018, 0.0145), (0, 0.015)], segments=24)
        steel = Material(linear((150, 150, 152)), gloss=50, specular=0.4)
        for n, name in enumerate(self.colours):
            lit, pressed = vector(state, "lit")[n], vector(state, "pressed")[n]
            foot = self.button(n) - [0, 0, 0.015]
            found.append((collar.moved(EYE, foot), steel))
            found.append(
                (
                    cap.moved(EYE, foot - [0, 0, 0.008 * pressed]),
                    Material(colour(name), gloss=50, specular=0.3),
                )
            )
            unlit, bright = np.array([0.05, 0.055, 0.05]), np.minimum(1, colour(name) * 1.1 + 0.12)
            lamp = Material(unlit + (bright - unlit) * lit, gloss=70, specular=0.4, glow=2.4 * lit)
            found.append((dome.moved(EYE, foot + [0, 0.048, 0]), lamp))
        return found
