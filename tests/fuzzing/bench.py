"""Runs cases of every surface in one process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fuzzing.harness import Outcome, Surface, run_case
from fuzzing.materials import Materials, stand_ins
from fuzzing.surfaces import Surfaces

# Cases that every run of the tests tries; a case of images is six damaged inputs, one of masks four.
SURFACES = {
    "images": 50,
    "masks": 20,
    "prompts": 50,
    "batches": 50,
    "models": 20,
    "loras": 10,
    "videos": 95,
    "footage": 10,
    "joints": 12,
    "epic": 60,
    "ego4d": 60,
    "lego": 60,
    "lists": 40,
    "prepared": 6,
    "shards": 14,
    "areas": 8,
    "recipes": 36,
    "worlds": 10,
    "runs": 4,
    "manifests": 40,
    "arrays": 15,
    "results": 40,
    "methods": 12,
}


def share_of(cases: int, names: Sequence[str]) -> dict[str, int]:
    """How many of so many cases each surface gets, one at least."""
    whole = sum(SURFACES[name] for name in names)
    return {name: max(1, round(cases * SURFACES[name] / whole)) for name in names}


class Bench:
    """Runs cases in this process; a context in which networks that are not the subject are stand-ins."""

    def __init__(self, home: Path, materials: Path) -> None:
        """Cases below `home`; several processes may share the folder of `materials`."""
        self.home = home.resolve()
        self.surfaces = Surfaces(Materials(materials.resolve()))

    def __enter__(self) -> Bench:
        self._stand_ins = stand_ins()
        self._stand_ins.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._stand_ins.__exit__(None, None, None)

    def run(self, name: str, number: int) -> Outcome:
        """Case `number` of a surface."""
        surface: Surface = getattr(self.surfaces, name)
        return run_case(surface, name, number, self.home)
