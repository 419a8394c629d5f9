"""Which seeds are for what, and how a seed becomes random numbers."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from zlib import crc32

import numpy as np

from handi.core.errors import InputError

TRAIN = range(800_000)
VALIDATION = range(800_000, 900_000)
TEST = range(900_000, 2**31)


def check_seed(seed: int) -> int:
    """The seed as an int. Raises: InputError for one that no split holds."""
    try:
        number = operator.index(seed)
    except TypeError:
        raise InputError(f"a seed must be a whole number, not {seed!r}", where="seed") from None
    if not 0 <= number < TEST.stop:
        raise InputError(f"{number} is not a seed", where="seed", hint=f"use 0 to {TEST.stop - 1}")
    return number


def split_of(seed: int) -> str:
    """Name of the split that a seed belongs to: train, validation or test. Raises: InputError."""
    number = check_seed(seed)
    return "train" if number in TRAIN else "validation" if number in VALIDATION else "test"


def require_training(seeds: Iterable[int]) -> None:
    """Let training seeds pass. Raises: InputError for a validation or test seed, naming the first."""
    for seed in seeds:
        if (split := split_of(seed)) != "train":
            raise InputError(
                f"seed {seed} is kept for {split}; training on it would spoil every score",
                where="seed",
                hint=f"train on seeds 0 to {TRAIN.stop - 1}",
            )


def stream(seed: int, purpose: str, index: int = 0) -> np.random.Generator:
    """Random numbers that depend on the seed, a purpose and an index only.

    What one purpose draws never shifts the numbers of another: that is how the scene, and with it the
    first frame, stays the same whatever action follows.
    """
    return np.random.default_rng([seed, crc32(purpose.encode()), index])
