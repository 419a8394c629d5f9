"""Taking things up, putting them down, pushing them, stacking them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from handi.world.actions.base import Action, Choice
from handi.world.choreography import HandPath, Key, carried, ease, shifted, take_hold
from handi.world.geometry import Array
from handi.world.grasps import around_vessel, from_above, on_bar
from handi.world.hand import Grip, Hand
from handi.world.materials import linear
from handi.world.poses import POSES, facing
from handi.world.props import Block, Bowl, Pot, Prop, State, Vessel
from handi.world.props.base import vector
from handi.world.props.kitchen import DRINKS

if TYPE_CHECKING:
    from handi.world.scenes import Scene


def _is_small(prop: Prop) -> bool:
    return isinstance(prop, Block) and prop.noun == "block"


def _grasp(hand: Hand, prop: Prop, state: State) -> tuple[Grip, Grip]:
    """The open and the closed grip on something that can be carried."""
    if isinstance(prop, Vessel):
        return around_vessel(hand, prop, state)
    assert isinstance(prop, Block)
    top = vector(state, "position") + [0, 0, prop.sides[2] * 0.62]
    return from_above(hand, top, prop.distance(state), width=prop.sides[1])


class PickUp(Action):
    """Lift a cup, a can or a block off the table."""

    name = "pick up"
    weight = 0.12

    @classmethod
    def choices(cls, scene: Scene) -> Iterator[Choice]:
        for prop in scene.props:
            carried_up = _is_small(prop) or (isinstance(prop, Vessel) and prop.held is None)
            if carried_up and scene.within_reach(prop):
                yield {"object": prop.name}

    def plan(self) -> None:
        prop = self.prop()
        hand = self.pick_hand(prop.at[0])
        opened, closed = _grasp(hand, prop, prop.initial)
        inward = -0.25 * prop.at[0] + self.rng.uniform(-0.015, 0.015)
        self.way = np.array([inward, self.rng.uniform(-0.05, -0.03), self.rng.uniform(0.085, 0.115)])
        back = (hand.sign * 0.055, -0.045, 0.012) if isinstance(prop, Vessel) else (0, -0.02, 0.05)
        keys = self.reach(hand, opened, lambda t: shifted(closed, self.way * self.lifted(t)), back=back)
        self.tracks[hand.side] = HandPath(tuple(keys))

    def lifted(self, time: float) -> float:
        """How far up it is, 0..1."""
        return ease(time, 0.40, 0.94)

    def states(self, time: float) -> dict[str, State]:
        prop = self.prop()
        place = vector(prop.initial, "position") + self.way * self.lifted(time)
        return {prop.name: {**prop.initial, "position": place.tolist()}}


class PutDown(Action):
    """Put what a hand holds on the table, let go, and draw back."""

    name = "put down"
    weight = 0.6

    @classmethod
    def choices(cls, scene: Scene) -> Iterator[Choice]:
        if scene.held is not None:
            yield {"object": scene.held[1]}

    def plan(self) -> None:
        assert self.scene.held is not None
        prop = self.prop()
        assert isinstance(prop, Vessel)
        hand = self.scene.hands[self.scene.held[0]]
        start = self.start(hand)
        self.way = prop.origin - vector(prop.initial, "position")
        opened, _ = around_vessel(hand, prop, {**prop.initial, "position": prop.origin.tolist()})
        away = np.array([hand.sign * 0.07, -0.07, 0.03])
        self.tracks[hand.side] = HandPath(
            (
                Key(0.0, start),
                Key(0.60, lambda t: shifted(start, self.way * self.lowered(t))),
                Key(0.70, opened),
                Key(0.95, shifted(Grip(opened.position, opened.rotation, POSES["relaxed"]), away)),
            )
        )

    def lowered(self, time: float) -> float:
        """How far down it is, 0..1."""
        return ease(time, 0.06, 0.56)

    def states(self, time: float) -> dict[str, State]:
        prop = self.prop()
        place = vector(prop.initial, "position") + self.way * self.lowered(time)
        return {prop.name: {**prop.initial, "position": place.tolist()}}


class Push(Action):
    """Slide a box across the table, the palm on it or the fingers against its side."""

    sign: int  # +1 to the right

    @classmethod
    def choices(cls, scene: Scene) -> Iterator[Choice]:
        for prop in scene.props:
            if isinstance(prop, Block) and prop.noun == "box" and scene.within_reach(prop):
                yield {"object": prop.name}

    def plan(self) -> None:
        prop = self.prop()
        assert isinstance(prop, Block)
        hand = self.pick_hand(prop.at[0])
        self.distance = self.rng.uniform(0.085, 0.105)
        body = prop.distance(prop.initial)
        if self.sign == -hand.sign and self.rng.random() < 0.6:
            side = prop.origin + [hand.sign * prop.sides[0] / 2, -0.008, min(prop.sides[2] * 0.55, 0.05)]
            rotation = facing((-0.30 * hand.sign, 0.95, -0.12), (0.66 * hand.sign, -0.12, 0.74))
            anchor, away = (0.004, -0.010, -0.130), (hand.sign, -0.1, 0.0)
            opened, closed = take_hold(
                hand, side, rotation, anchor, body, opened="open", closed="relaxed", away=away
            )
            back: tuple[float, ...] = (hand.sign * 0.05, -0.03, 0.02)
        else:
            top = prop.origin + [0, -0.012, prop.sides[2]]
            rotation = facing((-0.24 * hand.sign, 0.95, -0.16), (0.08 * hand.sign, -0.02, 1.0))
            opened, closed = take_hold(
                hand,
                top,
                rotation,
                (0.0, -0.024, -0.100),
                body,
                opened="flat",
                closed="loose fist",
                away=(0, 0, 1),
            )
            back = (0.0, -0.03, 0.045)
        keys = self.reach(hand, opened, lambda t: shifted(closed, self.way(t)), back=back)
        self.tracks[hand.side] = HandPath(tuple(keys))

    def way(self, time: float) -> Array:
        """How far the box has gone."""
        return np.array([self.sign * self.distance * ease(time, 0.40, 0.96), 0.0, 0.0])

    def states(self, time: float) -> dict[str, State]:
        prop = self.prop()
        return {prop.name: {"position": (prop.origin + self.way(time)).tolist()}}


class PushLeft(Push):
    """Slide a box to the left."""

    name = "push left"
    weight = 1.5
    sign = -1


class PushRight(Push):
    """Slide a box to the right."""

    name = "push right"
    weight = 1.5
    sign = 1


class Stack(Action):
    """Set one block on another."""

    name = "stack"
    weight = 0.3

    @classmethod
    def choices(cls, scene: Scene) -> Iterator[Choice]:
        blocks = [prop for prop in scene.props if _is_small(prop) and scene.within_reach(prop)]
        for top in blocks:
            for base in blocks:
                if top is not base:
                    yield {"object": top.name, "base": base.name}

    def plan(self) -> None:
        top, base = self.prop(), self.prop("base")
        assert isinstance(top, Block)
        assert isinstance(base, Block)
        hand = self.pick_hand(top.at[0])
        opened, closed = _grasp(hand, top, top.initial)
        self.goal = base.origin + [0, 0, base.sides[2]] - top.origin
        keys = self.reach(hand, opened, lambda t: shifted(closed, self.way(t)), times=(0.19, 0.25, 0.31))
        final = shifted(opened, self.goal)
        rest = shifted(
            Grip(final.position, final.rotation, POSES["relaxed"]), (hand.sign * 0.07, -0.07, 0.06)
        )
        keys += [Key(0.78, lambda t: shifted(closed, self.way(t))), Key(0.84, final), Key(1.0, rest)]
        self.tracks[hand.side] = HandPath(tuple(keys))

    def way(self, time: float) -> Array:
        """Up, across and down."""
        up = 0.050 * (ease(time, 0.33, 0.50) - ease(time, 0.60, 0.77))
        return self.goal * ease(time, 0.40, 0.72) * [1, 1, 0] + [
            0,
            0,
            self.goal[2] * ease(time, 0.33, 0.5) + up,
        ]

    def states(self, time: float) -> dict[str, State]:
        top = self.prop()
        return {top.name: {"position": (top.origin + self.way(time)).tolist()}}


class LiftPot(Action):
    """Lift a pot by both handles."""

    name = "lift pot"
    weight = 2.0
    acts_on, both_hands = Pot, True

    def plan(self) -> None:
        pot = self.prop()
        assert isinstance(pot, Pot)
        self.way = np.array([0.0, self.rng.uniform(-0.05, -0.02), self.rng.uniform(0.07, 0.10)])
        for side in ("left", "right"):
            hand = self.scene.hands[side]
            point, axis = pot.handle(pot.initial, hand.sign)
            rotation = facing((-0.56 * hand.sign, 0.82, 0.0), (0.34 * hand.sign, -0.22, 0.92))
            opened, closed = on_bar(hand, point, axis, 0.0065, rotation, (0.0, -0.036, -0.108))
            keys = self.reach(
                hand,
                opened,
                lambda t, grip=closed: shifted(grip, self.way * self.lifted(t)),  # type: ignore[misc]
                back=(hand.sign * 0.04, -0.03, 0.03),
            )
            self.tracks[side] = HandPath(tuple(keys))

    def lifted(self, time: float) -> float:
        """How far up it is, 0..1."""
        return ease(time, 0.40, 0.94)

    def states(self, time: float) -> dict[str, State]:
        pot = self.prop()
        return {pot.name: {"position": (pot.origin + self.way * self.lifted(time)).tolist()}}


class Pour(Action):
    """Pour what is in a cup into a bowl: from the table or out of the hand that holds it."""

    name = "pour"
    weight = 2.0

    @classmethod
    def choices(cls, scene: Scene) -> Iterator[Choice]:
        held = scene.held[1] if scene.held else None
        for prop in scene.props:
            if (
                isinstance(prop, Vessel)
                and prop.drink
                and (prop.name == held or (not held and scene.free_hands))
            ):
                side = scene.held[0] if scene.held else None
                for bowl in scene.props:
                    # A held cup is not poured across the body: the forearm would hide everything.
                    across = {"right": -1, "left": 1, None: 0}[side] * bowl.at[0] > 0.03
                    if isinstance(bowl, Bowl) and not across:
                        yield {"object": prop.name, "into": bowl.name}

    def plan(self) -> None:
        cup, bowl = self.prop(), self.prop("into")
        assert isinstance(cup, Vessel)
        assert isinstance(bowl, Bowl)
        self.cup, self.bowl = cup, bowl
        if cup.held is not None:
            assert self.scene.held is not None
            self.hand = self.scene.hands[self.scene.held[0]]
            closed = self.start(self.hand)
            keys, self.begin = [Key(0.0, closed)], 0.04
        else:
            self.hand = self.pick_hand(0.5 * (cup.at[0] + bowl.at[0]))
            opened, closed = around_vessel(self.hand, cup, cup.initial)
            back = (self.hand.sign * 0.055, -0.045, 0.012)
            keys, self.begin = (
                self.reach(self.hand, opened, closed, back=back, times=(0.17, 0.23, 0.29)),
                0.30,
            )
        # Towards the other side and the viewer: the hand then rolls about its fingers and shows its back.
        self.azimuth = -np.pi / 2 - self.hand.sign * np.pi / 4
        before = cup.frame(cup.initial)
        self.goal = bowl.origin + [self.hand.sign * 0.015, -0.012, 0.080]
        keys.append(Key(self.begin + 0.001, lambda t: carried(closed, before, cup.frame(self._cup(t)))))
        self.tracks[self.hand.side] = HandPath(tuple(keys))

    def _cup(self, time: float) -> State:
        """The cup's state: it is carried so that its lip comes to the goal, then tilts about the lip."""
        middle = self.begin + (1 - self.begin) * 0.42
        tilt = 1.15 * ease(time, self.begin + 0.12, middle + 0.22)
        state = {**self.cup.initial, "towards": self.azimuth, "tilt": tilt, "position": [0.0, 0.0, 0.0]}
        over_lip = self.goal - self.cup.lip(state)  # where the foot must be for the lip to be at the goal
        start = vector(self.cup.initial, "position")
        share = ease(time, self.begin, middle)
        arc = 0.05 * np.sin(np.pi * share) * (self.cup.held is None)
        state["position"] = (start + (over_lip - start) * share + [0, 0, arc]).tolist()
        poured = self.poured(time)
        state["fill"] = float(self.cup.initial["fill"]) * (1 - 0.9 * poured)  # type: ignore[arg-type]
        if 0.02 < poured < 0.985:
            state["stream"] = float(self.goal[2] - self.bowl.level(self._bowl(time)))
        return state

    def poured(self, time: float) -> float:
        """Share of the drink that has left the cup."""
        middle = self.begin + (1 - self.begin) * 0.42
        return float(np.clip((time - middle - 0.06) / (0.95 - middle - 0.06), 0, 1))

    def _bowl(self, time: float) -> State:
        poured = self.poured(time)
        assert self.cup.drink is not None
        return {
            **self.bowl.initial,
            "fill": 0.4 + 0.55 * poured,
            "added": 0.65 * poured,
            "added_colour": linear(DRINKS[self.cup.drink]).tolist(),
        }

    def states(self, time: float) -> dict[str, State]:
        return {self.cup.name: self._cup(time), self.bowl.name: self._bowl(time)}
