"""Wiping, stirring, cutting."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from handi.world.actions.base import Action
from handi.world.choreography import HandPath, ease, shifted, take_hold
from handi.world.geometry import Array, between, to_box, to_cylinder
from handi.world.grasps import pinch
from handi.world.hand import Grip
from handi.world.poses import close_on, facing
from handi.world.props import Board, Bowl, Sponge, State
from handi.world.props.base import number, vector
from handi.world.props.solids import BOARD_TOP, SPONGE


class Wipe(Action):
    """Wipe spilt spots off the table with a sponge."""

    name = "wipe"
    weight = 1.5
    acts_on = Sponge

    def plan(self) -> None:
        sponge = self.prop()
        assert isinstance(sponge, Sponge)
        self.sponge = sponge
        self.strokes = self.rng.uniform(2.2, 2.8)
        hand = self.pick_hand(sponge.at[0])
        rotation = facing((-0.24 * hand.sign, 0.95, -0.10), (0.10 * hand.sign, 0.08, 1.0))
        place = vector(sponge.initial, "position")
        opened, closed = take_hold(
            hand, place + [0, -0.012, SPONGE[2]], rotation, (0, -0.018, -0.098),
            sponge.distance(sponge.initial), opened="flat", closed="loose fist", away=(0, 0, 1),
        )  # fmt: skip
        keys = self.reach(
            hand, opened, lambda t: shifted(closed, self.where(t) - place), times=(0.20, 0.25, 0.30)
        )
        self.tracks[hand.side] = HandPath(tuple(keys))

    def where(self, time: float) -> Array:
        """The sponge's place: to and fro over the spots."""
        sponge = self.sponge
        start = vector(sponge.initial, "position")
        share = float(np.clip((time - 0.31) / 0.69, 0, 1))
        far = sponge.origin - [np.sign(sponge.rest[0]) * 0.085, 0, 0]
        sway = 0.042 * np.sin(2 * np.pi * self.strokes * share) * min(1.0, share * 6)
        return (
            start
            + (far - start) * [ease(share, -0.15, 1.15), ease(share, 0, 0.3), 1] * (share > 0)
            + [0, sway, 0]
        )

    def states(self, time: float) -> dict[str, State]:
        sponge = self.sponge
        times = np.linspace(0.31, 1.0, 60)
        path = np.stack([self.where(float(t)) for t in times])[:, :2]
        dirt = []
        for x, y, _ in sponge.spots:
            met = np.linalg.norm(path - (np.array(sponge.at) + [x, y]), axis=1) < 0.047
            passed = times[int(np.argmax(met))] if met.any() else 0.97
            dirt.append(1 - float(np.clip((time - passed) / 0.05, 0, 1)))
        return {sponge.name: {"position": self.where(time).tolist(), "dirt": list(dirt)}}


class Stir(Action):
    """Stir what is in a bowl until it is of one colour."""

    name = "stir"
    weight = 1.0
    acts_on = Bowl

    def plan(self) -> None:
        bowl = self.prop()
        assert isinstance(bowl, Bowl)
        self.bowl = bowl
        self.turns = self.rng.uniform(1.5, 1.9) * (1 if self.rng.random() < 0.5 else -1)
        leaning = "right" if bowl.lean > 0 else "left"
        side = leaning if leaning in self.scene.free_hands else self.scene.free_hands[0]
        hand = self.scene.hands[side]
        rotation = facing((-0.46 * hand.sign, 0.88, 0.02), (0.44 * hand.sign, -0.24, 0.87))
        point = self._hold(bowl.initial)
        opened, _ = pinch(hand, point, rotation)
        tip, top = bowl.spoon(bowl.initial)
        shaft = to_cylinder(point, top - tip, 0.0055, 0.09)
        shut = close_on(hand, opened, shaft, pinch(hand, point, rotation)[1].angles, touch=0.0085)
        closed = replace(opened, angles=shut)

        def held(time: float) -> Grip:
            return shifted(closed, self._hold(self.states(time)[bowl.name]) - point)

        self.tracks[side] = HandPath(
            tuple(
                self.reach(hand, opened, held, back=(hand.sign * 0.03, -0.04, 0.03), times=(0.20, 0.26, 0.31))
            )
        )

    def _hold(self, state: State) -> Array:
        """Where the hand holds the spoon."""
        tip, top = self.bowl.spoon(state)
        return tip + 0.86 * (top - tip)

    def states(self, time: float) -> dict[str, State]:
        share = float(np.clip((time - 0.32) / 0.68, 0, 1))
        steady = share * share * (3 - 2 * share) * 0.35 + share * 0.65  # sets in and out, even between
        return {
            self.bowl.name: {
                **self.bowl.initial,
                "turned": 2 * np.pi * self.turns * steady,
                "mixed": ease(share, 0.05, 0.95),
            }
        }


class Cut(Action):
    """Cut a vegetable twice: one hand takes the knife, the other holds the vegetable."""

    name = "cut"
    weight = 3.0
    acts_on, both_hands = Board, True

    def plan(self) -> None:
        board = self.prop()
        assert isinstance(board, Board)
        self.board = board
        self._plan_knife()
        self._plan_other()

    def _plan_knife(self) -> None:
        board = self.board
        hand = self.scene.hands["right" if board.hand > 0 else "left"]
        sign = hand.sign
        point, axis = board.handle(board.initial)
        flat = facing((-0.50 * sign, 0.85, -0.18), (0.25 * sign, 0.02, 0.95))
        upright = facing((-0.52 * sign, 0.82, -0.22), (0.54 * sign, 0.0, 0.83))
        body = to_box(point, (0.011, 0.055, 0.008))
        opened, _ = take_hold(
            hand,
            point,
            flat,
            (0.0, -0.028, -0.090),
            body,
            opened="relaxed",
            closed="fist",
            away=(0, -0.1, 1.0),
        )
        wrap = to_cylinder(point, axis, 0.0105, 0.06)
        closed = replace(opened, angles=close_on(hand, opened, wrap, take_hold(
            hand, point, flat, (0.0, -0.028, -0.090), wrap, opened="relaxed", closed="fist"
        )[1].angles))  # fmt: skip

        def held(time: float) -> Grip:
            """The hand goes with the handle; the blade stands up faster than the hand rolls."""
            state = self.states(time)[board.name]
            rolled = 1 - abs(number(state, "roll")) / (np.pi / 2)
            rotation = between(flat, upright, rolled)
            now, _ = board.handle(state)
            return Grip(now + rotation @ flat.T @ (closed.position - point), rotation, closed.angles)

        keys = self.reach(hand, opened, held, times=(0.20, 0.27, 0.33), back=(sign * 0.02, -0.03, 0.05))
        self.tracks[hand.side] = HandPath(tuple(keys))

    def _plan_other(self) -> None:
        board = self.board
        hand = self.scene.hands["left" if board.hand > 0 else "right"]
        sign = hand.sign
        middle, axis, radius, half = board.vegetable_body()
        point = middle + [sign * 0.050, 0, radius * 0.4]
        rotation = facing((-0.45 * sign, 0.87, -0.22), (0.26 * sign, 0.05, 0.95))
        body = to_cylinder(middle, axis, radius, half)
        opened, closed = take_hold(
            hand, point, rotation, (0.0, -0.040, -0.112), body, opened="relaxed", closed="fist",
            away=rotation[:, 1],
        )  # fmt: skip
        self.tracks[hand.side] = HandPath(
            tuple(self.reach(hand, opened, lambda t: closed, times=(0.22, 0.29, 0.36)))
        )

    def states(self, time: float) -> dict[str, State]:
        board = self.board
        lying = vector(board.initial, "knife")
        over = [board.origin + [cut, -0.048, 0.0] for cut in board.cuts]
        high, low = BOARD_TOP + 0.062, BOARD_TOP + 0.003
        up = ease(time, 0.36, 0.52)
        place = lying + (np.array([*over[0][:2], high]) - lying) * up
        down = ease(time, 0.52, 0.63) - ease(time, 0.66, 0.75) + ease(time, 0.82, 0.93)
        place = place + (over[1] - over[0]) * ease(time, 0.70, 0.82)
        place = place + [0, 0.022 * down, (low - high) * down]
        parted = [ease(time, 0.57, 0.68), ease(time, 0.87, 0.99)]
        roll = number(board.initial, "roll") * (1 - ease(time, 0.37, 0.50))
        return {board.name: {"knife": place.tolist(), "roll": roll, "parted": parted}}
