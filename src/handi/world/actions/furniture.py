"""Opening, closing, turning, pressing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from handi.world.actions.base import Action, Choice
from handi.world.choreography import HandPath, Key, ease, grip_at, shifted, take_hold
from handi.world.geometry import turn
from handi.world.grasps import from_above, pinch
from handi.world.hand import Grip
from handi.world.poses import POSES, close_on, facing
from handi.world.props import Buttons, Chest, Drawer, State, Stove
from handi.world.props.base import number
from handi.world.props.furniture import DIAL_HEIGHT, DIAL_RADIUS

if TYPE_CHECKING:
    from handi.world.scenes import Scene


class MoveDrawer(Action):
    """Pull a drawer out or push it in by its handle."""

    acts_on = Drawer

    def goal(self, drawer: Drawer) -> float:
        """How far out it ends, metres."""
        raise NotImplementedError

    def plan(self) -> None:
        drawer = self.prop()
        assert isinstance(drawer, Drawer)
        self.begin, self.end = drawer.start, self.goal(drawer)
        hand = self.pick_hand(drawer.at[0])
        point = drawer.handle(drawer.initial) + [hand.sign * self.rng.uniform(-0.004, 0.014), 0, 0]
        rotation = facing((-0.26 * hand.sign, 0.95, -0.18), (0.26 * hand.sign, 0.04, 0.96))
        opened, closed = take_hold(
            hand, point, rotation, (-0.004, -0.038, -0.112), drawer.distance(drawer.initial),
            opened="relaxed", closed="fist", away=rotation[:, 1],
        )  # fmt: skip
        keys = self.reach(hand, opened, lambda t: shifted(closed, (0, self.begin - self.opening(t), 0)))
        self.tracks[hand.side] = HandPath(tuple(keys))

    def opening(self, time: float) -> float:
        """How far out it is, metres."""
        return self.begin + (self.end - self.begin) * ease(time, 0.40, 0.96)

    def states(self, time: float) -> dict[str, State]:
        return {self.choice["object"]: {"opening": self.opening(time)}}


class OpenDrawer(MoveDrawer):
    """Pull a half-open drawer all the way out."""

    name = "open drawer"
    weight = 1.3

    def goal(self, drawer: Drawer) -> float:
        return drawer.travel


class CloseDrawer(MoveDrawer):
    """Push a half-open drawer shut."""

    name = "close drawer"
    weight = 1.3

    def goal(self, drawer: Drawer) -> float:
        return 0.0


class MoveLid(Action):
    """Swing a chest's lid by its knob."""

    end: float  # radians
    acts_on = Chest

    def plan(self) -> None:
        chest = self.prop()
        assert isinstance(chest, Chest)
        self.chest = chest
        hand = self.pick_hand(chest.at[0])
        point = chest.knob(chest.initial)
        rotation = facing((-0.30 * hand.sign, 0.94, 0.05), (0.26 * hand.sign, -0.22, 0.94))
        opened, closed = pinch(hand, point, rotation)
        closed = replace(
            opened, angles=close_on(hand, opened, chest.knob_distance(chest.initial), closed.angles)
        )

        def held(time: float) -> Grip:
            """The hand follows the knob and turns a third as far as the lid."""
            turned = turn("x", -0.35 * (self.lid(time) - chest.start))
            knob = chest.knob({"lid": self.lid(time)})
            return Grip(knob + turned @ (closed.position - point), turned @ closed.rotation, closed.angles)

        self.tracks[hand.side] = HandPath(tuple(self.reach(hand, opened, held)))

    def lid(self, time: float) -> float:
        """The lid's angle, radians."""
        return self.chest.start + (self.end - self.chest.start) * ease(time, 0.40, 0.96)

    def states(self, time: float) -> dict[str, State]:
        return {self.chest.name: {"lid": self.lid(time)}}


class OpenLid(MoveLid):
    """Swing a half-open lid all the way up."""

    name = "open lid"
    weight = 0.9
    end = 1.85


class CloseLid(MoveLid):
    """Swing a half-open lid down."""

    name = "close lid"
    weight = 0.9
    end = 0.0


class TurnDial(Action):
    """Turn a stove's dial; the plate glows brighter or goes dark."""

    sign: int  # +1 anticlockwise, seen from above
    heat: float  # in the end
    acts_on = Stove

    def plan(self) -> None:
        stove = self.prop()
        assert isinstance(stove, Stove)
        self.stove, self.angle = stove, self.rng.uniform(1.0, 1.3)
        hand = self.pick_hand(stove.at[0])
        centre = stove.dial()
        # The hand starts turned against the way it will go, so that the wrist stays in its range.
        opened, closed = from_above(
            hand, centre + [0, 0, DIAL_HEIGHT * 0.75], stove.dial_distance(), width=2 * DIAL_RADIUS,
            yaw=-0.25 * self.sign,
        )  # fmt: skip

        def held(time: float) -> Grip:
            turned = turn("z", 0.6 * self.turned(time))
            return Grip(centre + turned @ (closed.position - centre), turned @ closed.rotation, closed.angles)

        self.tracks[hand.side] = HandPath(tuple(self.reach(hand, opened, held)))

    def turned(self, time: float) -> float:
        """The dial's angle, radians."""
        return self.sign * self.angle * ease(time, 0.40, 0.92)

    def states(self, time: float) -> dict[str, State]:
        share = ease(time, 0.42, 0.96)
        begin = number(self.stove.initial, "heat")
        return {self.stove.name: {"angle": self.turned(time), "heat": begin + (self.heat - begin) * share}}


class TurnClockwise(TurnDial):
    """Turn the dial clockwise: hotter."""

    name = "turn clockwise"
    sign, heat = -1, 1.0


class TurnAnticlockwise(TurnDial):
    """Turn the dial anticlockwise: off."""

    name = "turn anticlockwise"
    sign, heat = 1, 0.0


class PressButton(Action):
    """Press one of two buttons; the lamp behind it lights up."""

    name = "press button"
    weight = 0.5

    @classmethod
    def choices(cls, scene: Scene) -> Iterator[Choice]:
        for prop in scene.props:
            if isinstance(prop, Buttons) and scene.within_reach(prop):
                for which in ("0", "1"):
                    yield {"object": prop.name, "which": which}

    def plan(self) -> None:
        console = self.prop()
        assert isinstance(console, Buttons)
        self.console, self.which = console, int(self.choice["which"])
        top = console.button(self.which)
        hand = self.pick_hand(float(top[0]))
        rotation = facing((-0.28 * hand.sign, 0.93, -0.24), (0.40 * hand.sign, 0.02, 0.90))
        probe = grip_at(hand, top, rotation, (0, 0, 0), POSES["point"])
        skeleton = hand.skeleton(probe)
        pad = skeleton[9] + 0.3 * (skeleton[9] - skeleton[8]) - [0, 0, 0.006]  # under the fingertip
        touch = shifted(probe, top - pad)

        def held(time: float) -> Grip:
            return shifted(touch, (0, 0, -0.008 * self.pressed(time)))

        away = shifted(touch, (hand.sign * 0.06, -0.065, 0.06))
        self.tracks[hand.side] = HandPath(
            (
                Key(0.0, self.start(hand)),
                Key(0.30 + self.jitter(), shifted(touch, (0.01 * hand.sign, -0.015, 0.035)), 0.03),
                Key(0.42, held),
                Key(0.66, held),
                Key(0.97, away),
            )
        )

    def pressed(self, time: float) -> float:
        """How far the button is down, 0..1."""
        return ease(time, 0.42, 0.52) - ease(time, 0.57, 0.65)

    def states(self, time: float) -> dict[str, State]:
        lit, pressed = [0.0, 0.0], [0.0, 0.0]
        lit[self.which], pressed[self.which] = ease(time, 0.48, 0.54), self.pressed(time)
        return {self.console.name: {"lit": lit, "pressed": pressed}}
