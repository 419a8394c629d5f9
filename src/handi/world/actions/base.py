"""What all actions share: who acts on what, and what the world looks like at each moment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from handi.world.choreography import HandPath, Key, Moving, shifted
from handi.world.hand import Grip, Hand
from handi.world.props.base import Prop, State

if TYPE_CHECKING:
    from handi.world.scenes import Scene

# What an action is said of: names of props by their part in it, and words by their place in the text.
Choice = dict[str, str]


class Action:
    """One thing that hands can do in a scene.

    A subclass says what it `acts_on` (or lists its `choices`) and, made for one of them, gives the states of
    what changes and the tracks of the hands that act. Everything else in the scene stays as it is. At time 0
    nothing has changed: the first frame of a clip must not tell which action follows.
    """

    name: ClassVar[str]
    # How likely it is among those that a scene affords: less where many scenes do, so that all are common.
    weight: ClassVar[float] = 1.0
    acts_on: ClassVar[type[Prop]]
    both_hands: ClassVar[bool] = False  # it takes two, both of them free

    def __init__(self, scene: Scene, choice: Choice, rng: np.random.Generator) -> None:
        self.scene, self.choice, self.rng = scene, choice, rng
        self.tracks: dict[str, HandPath] = {}
        self.either_hand = False  # chance chose: nothing in the scene or the words tells which hand it is
        self.plan()

    @classmethod
    def choices(cls, scene: Scene) -> Iterator[Choice]:
        """The ways in which a scene affords this action: on every prop of its kind that can be reached."""
        for prop in scene.props:
            able = len(scene.free_hands) == 2 if cls.both_hands else scene.within_reach(prop)
            if able and isinstance(prop, cls.acts_on):
                yield {"object": prop.name}

    def plan(self) -> None:
        """Lay down the tracks."""
        raise NotImplementedError

    def states(self, time: float) -> dict[str, State]:
        """Prop name -> its state at a time in [0, 1], for the props that change."""
        raise NotImplementedError

    # ---------------------------------------------------------------------------------- for plans

    def prop(self, role: str = "object") -> Prop:
        """The prop that plays a part."""
        return self.scene.prop(self.choice[role])

    def pick_hand(self, x: float) -> Hand:
        """A free hand for something at `x`: the only one, the nearer one, or either in the middle."""
        free = self.scene.free_hands
        if len(free) == 1:
            return self.scene.hands[free[0]]
        if abs(x) < 0.04:
            self.either_hand = True
            return self.scene.hands[free[int(self.rng.integers(2))]]
        return self.scene.hands["right" if x > 0 else "left"]

    def start(self, hand: Hand) -> Grip:
        """Where a hand is in the first frame."""
        return self.scene.start[hand.side]

    def jitter(self, spread: float = 0.03) -> float:
        """A small shift in time, so that no two clips have the same rhythm."""
        return float(self.rng.uniform(-spread, spread))

    def reach(
        self,
        hand: Hand,
        opened: Grip,
        held: Grip | Moving,
        *,
        back: Sequence[float] = (0.0, -0.03, 0.05),
        times: tuple[float, float, float] = (0.27, 0.34, 0.40),
        lift: float = 0.03,
    ) -> list[Key]:
        """Keys that take hold: to the open grip backed off by `back` metres, into it, and closed.

        `times` are those of the three; the first two vary a little from clip to clip.
        """
        near, there, shut = times
        shift = self.jitter()
        return [
            Key(0.0, self.start(hand)),
            Key(near + shift, shifted(opened, back), lift),
            Key(there + shift, opened),
            Key(shut, held),
        ]
