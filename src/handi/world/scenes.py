"""A scene: a table with several things to act on, and hands that could do any of it.

A scene is drawn from its seed alone. Which action follows is drawn from another stream of numbers, among
those that the scene affords: the first frame cannot give it away.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from handi.world.actions import ACTIONS, Choice
from handi.world.anatomy import Person, random_person
from handi.world.geometry import Array
from handi.world.grasps import around_vessel
from handi.world.hand import Grip, Hand
from handi.world.materials import CHECK, COLOURS, FABRIC, PLAIN, STRIPE, colour
from handi.world.poses import POSES, facing, mixed
from handi.world.props import (
    Block,
    Board,
    Bowl,
    Buttons,
    Chest,
    Cloth,
    Drawer,
    Paper,
    Pot,
    Prop,
    Sponge,
    Stove,
    Vessel,
)
from handi.world.props.kitchen import DRINKS, LIQUIDS
from handi.world.props.solids import VEGETABLES
from handi.world.render import Camera, Light, Part
from handi.world.seeds import check_seed, stream
from handi.world.setting import (
    FIRST_PROP,
    Rectangle,
    overlaps,
    random_camera,
    random_clutter,
    random_light,
    random_room,
    random_table,
)

ELBOW = np.array([0.22, -0.37, 0.15])  # of a right arm, where it leaves the picture
FOLLOW = np.array([0.4, 0.4, 0.5])  # share of the hand's way that the elbow goes


@dataclass(frozen=True)
class Scene:
    """Everything that the first frame shows."""

    seed: int
    person: Person
    props: tuple[Prop, ...]
    backdrop: tuple[Part, ...]  # table, wall, clutter
    start: dict[str, Grip]  # of the hands in view, by side
    elbows: dict[str, Array]
    held: tuple[str, str] | None  # the side of the hand that holds something, and the prop's name
    light: Light
    camera: Camera
    brightness: float  # mean of the developed first frame, 0..1

    @cached_property
    def hands(self) -> dict[str, Hand]:
        """The hands in view, by side."""
        return {side: Hand(self.person, side) for side in self.start}

    def elbow(self, grip: Grip, side: str) -> Array:
        """A point on the forearm's line behind a hand: it goes part of the way with the hand."""
        return self.elbows[side] + FOLLOW * (grip.position - self.start[side].position)

    @property
    def free_hands(self) -> list[str]:
        """Sides of the hands in view that hold nothing, left first."""
        return [
            side
            for side in ("left", "right")
            if side in self.start and (not self.held or side != self.held[0])
        ]

    def within_reach(self, prop: Prop) -> bool:
        """Whether a free hand gets there; past the other hand when that one holds something, it does not."""
        if not self.free_hands:
            return False
        return self.held is None or self.hands[self.free_hands[0]].sign * prop.at[0] > -0.03

    def prop(self, name: str) -> Prop:
        """The prop with this name."""
        return next(prop for prop in self.props if prop.name == name)


# ------------------------------------------------------------------------------------------ props


class _Maker:
    """Makes props, each colour once in a scene, so that "the red cup" is one cup."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        names = list(COLOURS)
        self.colours = [names[i] for i in rng.permutation(len(names))]

    def colour(self) -> str:
        """A colour that nothing else in the scene is named by."""
        return self.colours.pop()

    def make(self, kind: str) -> Prop:
        """A prop of a kind, at the origin, with its looks drawn."""
        rng = self.rng
        common: dict[str, Any] = {"name": "", "at": (0.0, 0.0), "identity": 0, "seed": int(rng.integers(99))}
        sign = 1 if rng.random() < 0.5 else -1
        if kind == "cup":
            drink = None if rng.random() < 0.25 else list(DRINKS)[rng.integers(len(DRINKS))]
            return Vessel(**common, colour=self.colour(), noun="cup", drink=drink)
        if kind == "can":
            return Vessel(**common, colour=self.colour(), noun="can")
        if kind == "block":
            side = rng.uniform(0.042, 0.050)
            return Block(**common, colour=self.colour(), noun="block", sides=(side, side, side))
        if kind == "box":
            sides = tuple(rng.uniform((0.085, 0.075, 0.055), (0.115, 0.105, 0.085)).tolist())
            pattern = (PLAIN, PLAIN, STRIPE, CHECK)[rng.integers(4)]
            return _Wide(**common, colour=self.colour(), noun="box", sides=sides, pattern=pattern)
        if kind == "drawer":
            painted = self.colour() if rng.random() < 0.5 else None
            items = tuple(list(COLOURS)[i] for i in rng.permutation(len(COLOURS))[:2])
            return Drawer(**common, colour=painted, start=float(rng.uniform(0.05, 0.075)), items=items)
        if kind == "chest":
            items = tuple(list(COLOURS)[i] for i in rng.permutation(len(COLOURS))[:2])
            return Chest(**common, colour=self.colour(), start=float(rng.uniform(0.75, 1.0)), items=items)
        if kind == "stove":
            return Stove(**common)
        if kind == "buttons":
            return Buttons(**common, colours=(self.colour(), self.colour()))
        if kind == "sponge":
            spots = [
                (
                    sign * float(rng.uniform(-0.075, 0.03)),
                    float(rng.uniform(-0.038, 0.038)),
                    float(rng.uniform(0.011, 0.021)),
                )
                for _ in range(int(rng.integers(4, 8)))
            ]
            stain = ((120, 40, 20), (96, 62, 30), (70, 84, 40), (150, 90, 30))[rng.integers(4)]
            rest = (sign * 0.092, float(rng.uniform(-0.015, 0.015)))
            return Sponge(**common, colour=self.colour(), spots=tuple(spots), rest=rest, stain=stain)
        if kind == "bowl":
            content = list(LIQUIDS)[rng.integers(len(LIQUIDS))]
            return Bowl(
                **common, colour=self.colour(), content=content, lean=sign, start=float(rng.uniform(0, 6.28))
            )
        if kind == "board":
            return Board(**common, vegetable=list(VEGETABLES)[rng.integers(len(VEGETABLES))], hand=sign)
        if kind == "cloth":
            pattern = (CHECK, STRIPE, FABRIC)[rng.integers(3)]
            return Cloth(
                **common, colour=self.colour(), half_width=float(rng.uniform(0.07, 0.095)), pattern=pattern
            )
        if kind == "paper":
            return Paper(**common, colour=self.colour(), pattern=STRIPE if rng.random() < 0.5 else PLAIN)
        assert kind == "pot", kind
        return Pot(**common, colour=self.colour() if rng.random() < 0.5 else None)


@dataclass(frozen=True, kw_only=True)
class _Wide(Block):
    """A box with room to be pushed to either side."""

    room = (0.150, 0.055, 0.055)


# Kind -> what else comes with it, how likely it is, and the depths at which it may stand.
KINDS: dict[str, tuple[tuple[str, ...], float, tuple[float, float]]] = {
    "drawer": ((), 1.0, (0.29, 0.34)),
    "board": ((), 1.1, (0.17, 0.22)),
    "stove": ((), 1.0, (0.12, 0.20)),
    "cloth": ((), 1.1, (0.17, 0.22)),
    "box": ((), 1.0, (0.13, 0.24)),
    "paper": ((), 1.1, (0.15, 0.25)),
    "pot": ((), 0.9, (0.17, 0.26)),
    "sponge": ((), 1.0, (0.175, 0.26)),
    "bowl": ((), 1.2, (0.17, 0.27)),
    "chest": ((), 0.9, (0.16, 0.25)),
    "buttons": ((), 0.9, (0.14, 0.30)),
    "block": (("block",), 0.9, (0.12, 0.32)),
    "cup": (("cup",), 0.8, (0.13, 0.33)),
    "can": (("cup",), 0.6, (0.13, 0.33)),
}
SMALL = ("buttons", "block", "cup", "can")  # find room beside others, and are drawn for it more often
FRONT = 0.07  # nothing stands nearer to the viewer, where the hands wait
PROPS = (2, 4)  # at least and at most
ACTIONS_AT_LEAST = 3


def _half_view(y: float) -> float:
    """How far to the side something at depth y may reach and be seen, metres."""
    return 0.228 + 0.30 * max(0.0, y - 0.10)


def _ground(prop: Prop) -> Rectangle:
    half, before, behind = prop.room
    x, y = prop.at
    return (x - half, x + half, y - before, y + behind)


def _place(
    rng: np.random.Generator, prop: Prop, depths: tuple[float, float], taken: list[Rectangle]
) -> Prop | None:
    """The prop at a free place, or None."""
    half, before, behind = prop.room
    margin = 0.035 if isinstance(prop, (Vessel, Bowl)) or half < 0.05 else 0.0  # hands come from outside
    for across, depth in rng.random((30, 2)):
        y = max(depths[0] + (depths[1] - depths[0]) * depth, FRONT + before)
        x = (2 * across - 1) * max(0.0, _half_view(y) - half - margin)
        ground = (x - half, x + half, y - before, y + behind)
        if not any(overlaps(ground, other) for other in taken):
            return replace(prop, at=(float(x), float(y)))
    return None


def _furnish(rng: np.random.Generator, main: str) -> tuple[list[Prop], list[Rectangle]]:
    """Two to four props on the table and the ground that they need.

    The main kind finds room first, the others in a random order where there is some left.
    """
    maker = _Maker(rng)
    weights = np.array([weight for _, weight, _ in KINDS.values()])
    weights *= [3.0 if kind in SMALL else 1.0 for kind in KINDS]
    order = rng.choice(list(KINDS), size=len(KINDS), replace=False, p=weights / weights.sum())
    props: list[Prop] = []
    taken: list[Rectangle] = []
    kinds = [main, *(str(kind) for kind in order if kind != main)]
    for kind in (more for first in kinds for more in (first, *KINDS[first][0])):
        if len(props) == PROPS[1] or len(maker.colours) < 2:
            break
        placed = _place(rng, maker.make(kind), KINDS[kind][2], taken)
        if placed is not None:
            taken.append(_ground(placed))
            name = f"{kind} {1 + sum(prop.name.startswith(kind) for prop in props)}"
            props.append(replace(placed, name=name, identity=FIRST_PROP + len(props)))
    return props, taken


# ------------------------------------------------------------------------------------------ hands


def _waiting(rng: np.random.Generator, sign: int) -> Grip:
    """A hand that waits above the front of the table, ready for anything."""
    position = np.array(
        [sign * rng.uniform(0.095, 0.155), rng.uniform(-0.10, -0.055), rng.uniform(0.065, 0.11)]
    )
    roll = rng.uniform(-0.1, 0.75)
    rotation = facing(
        (-sign * rng.uniform(0.0, 0.35), 0.86, rng.uniform(-0.34, -0.10)),
        (sign * np.sin(roll), -0.05, np.cos(roll)),
    )
    names = ("relaxed", "open", "loose fist", "opposed")
    a, b = (POSES[names[rng.integers(n)]] for n in (2, 4))
    angles = mixed(a, b, rng.uniform(0, 0.6))
    return Grip(position, rotation, angles + np.deg2rad(rng.normal(0, 3, angles.shape)) * (angles != 0))


def _take_up(rng: np.random.Generator, hand: Hand, vessel: Vessel) -> tuple[Vessel, Grip]:
    """The vessel in a hand above the front of the table."""
    place = (hand.sign * rng.uniform(0.035, 0.075), rng.uniform(0.01, 0.05), rng.uniform(0.075, 0.115))
    held = replace(vessel, held=(float(place[0]), float(place[1]), float(place[2])))
    _, closed = around_vessel(hand, held, held.initial)
    return held, closed


@lru_cache(1, typed=True)  # what can be done in a scene is asked before it is done
def build_scene(seed: int) -> Scene:
    """The scene of a seed; it affords at least three actions. Raises: InputError for what is not a seed."""
    seed = check_seed(seed)
    # The main prop is drawn once: drawn anew with each attempt, large things, which leave little room for
    # others, would be rare.
    weights = np.array([weight for _, weight, _ in KINDS.values()])
    main = str(stream(seed, "main prop").choice(list(KINDS), p=weights / weights.sum()))
    for attempt in range(1000):
        scene = _draw(seed, stream(seed, "scene", attempt), main)
        if scene is not None and len({name for name, _ in affordances(scene)}) >= ACTIONS_AT_LEAST:
            return scene
    raise AssertionError(f"seed {seed} finds no scene")


def affordances(scene: Scene) -> list[tuple[str, Choice]]:
    """All that can be done in a scene: action names with the parts that props play."""
    return [(name, choice) for name, action in ACTIONS.items() for choice in action.choices(scene)]


def _draw(seed: int, rng: np.random.Generator, main: str) -> Scene | None:
    """A scene from random numbers, None where too little fits on the table."""
    props, taken = _furnish(rng, main)
    if len(props) < PROPS[0]:
        return None
    sleeve = colour(list(COLOURS)[rng.integers(len(COLOURS))]) * rng.uniform(0.35, 1)
    person = random_person(rng, sleeve)
    sides = ["left", "right"] if rng.random() < 0.75 else [("left", "right")[rng.integers(2)]]
    start = {side: _waiting(rng, 1 if side == "right" else -1) for side in sides}
    elbows = {}
    for side in sides:
        spread = np.array([rng.uniform(-0.03, 0.06), rng.uniform(-0.03, 0.02), rng.uniform(-0.04, 0.07)])
        elbows[side] = (ELBOW + spread) * [1 if side == "right" else -1, 1, 1]
    held = None
    vessels = [n for n, prop in enumerate(props) if isinstance(prop, Vessel)]
    if vessels and rng.random() < 0.35:
        n = vessels[rng.integers(len(vessels))]
        side = sides[0] if len(sides) == 1 else "right" if props[n].at[0] > 0 else "left"
        vessel = props[n]
        assert isinstance(vessel, Vessel)
        props[n], start[side] = _take_up(rng, Hand(person, side), vessel)
        held = (side, vessel.name)
    front = (-0.30, 0.30, -0.30, FRONT)
    backdrop = [*random_table(rng), *random_room(rng), *random_clutter(rng, [*taken, front])]
    return Scene(
        seed, person, tuple(props), tuple(backdrop), start, elbows, held,
        random_light(rng), random_camera(rng), float(rng.uniform(0.40, 0.52)),
    )  # fmt: skip
