"""Sides of an evaluation: two world clips, and videos that are as good as them, or worse in known ways."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from handi.world import render_clip, write_clip

SEEDS = (900_000, 900_003)
SIZE = 96


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> Path:
    """Two clips of the synthetic world, lossless."""
    folder = tmp_path_factory.mktemp("world")
    for seed in SEEDS:
        write_clip(folder, render_clip(seed, size=SIZE), pictures="png")
    return folder


@pytest.fixture(scope="session")
def predictions(world, tmp_path_factory) -> dict[str, Path]:
    """Folders of arrays: the truth, its first frame held, its frames shuffled, and noise."""
    from handi.world.files import name_of, read_clip

    folders = {}
    rng = np.random.default_rng(0)
    for kind in ("truth", "static", "shuffled", "noise"):
        folders[kind] = tmp_path_factory.mktemp(kind)
        for seed in SEEDS:
            frames = read_clip(world / f"{name_of(seed)}.json").frames
            if kind == "static":
                frames = np.repeat(frames[:1], len(frames), axis=0)
            elif kind == "shuffled":
                frames = frames[[0, *(1 + rng.permutation(len(frames) - 1))]]
            elif kind == "noise":
                noise = rng.integers(0, 256, frames[1:].shape, dtype=np.uint8)
                frames = np.concatenate([frames[:1], noise])
            np.save(folders[kind] / f"{name_of(seed)}.npy", frames)
    return folders
