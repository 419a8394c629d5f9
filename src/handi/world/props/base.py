"""What all props share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from handi.world.geometry import Array, Mesh
from handi.world.materials import Material
from handi.world.render import Part

# What can change about a prop, in numbers and lists of numbers: it goes into the clip's JSON as it is.
State = dict[str, float | list[float]]
Body = tuple[Mesh, Material]


@dataclass(frozen=True, kw_only=True)
class Prop:
    """An actionable object. `at` is its place on the table (x, y), metres; `identity` its id in the map."""

    name: str  # unique in its scene
    at: tuple[float, float]
    identity: int
    colour: str | None = None
    seed: int = 0

    kind: ClassVar[str]
    # Half width, and depth before and behind `at`, that it needs with all its actions, metres.
    room: ClassVar[tuple[float, float, float]]

    @property
    def initial(self) -> State:
        """Its state in the first frame."""
        raise NotImplementedError

    def bodies(self, state: State) -> list[Body]:
        """The bodies it consists of in a state, in the world."""
        raise NotImplementedError

    def parts(self, state: State) -> list[Part]:
        """The bodies with the prop's id."""
        return [Part(mesh, material, self.identity) for mesh, material in self.bodies(state)]

    @property
    def origin(self) -> Array:
        """`at` on the table top."""
        return np.array([*self.at, 0.0])


def vector(state: State, key: str) -> Array:
    """A list of numbers of the state as an array."""
    return np.asarray(state[key], float)


def number(state: State, key: str) -> float:
    """A number of the state."""
    value = state[key]
    assert isinstance(value, (int, float))
    return float(value)
