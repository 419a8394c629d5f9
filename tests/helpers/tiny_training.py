"""Clips that need no rendering, a recipe that trains a tiny model on them in seconds, and processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from handi.core.executors import Serial
from handi.data.prepare import ToolsMaker, write_shards
from handi.data.sources.world import read_world, world_settings
from handi.world.clip import WorldClip
from handi.world.files import write_clip

SIZE, FRAMES = 32, 16
TESTS = str(Path(__file__).parents[1])


def tiny_clip(seed: int) -> WorldClip:
    """A square that slides over noise, with a left hand's joints in it."""
    rng = np.random.default_rng(seed)
    background = rng.integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8)
    frames = np.repeat(background[None], FRAMES, axis=0)
    joints = np.zeros((FRAMES, 42, 2), np.float32)
    moved = np.zeros((SIZE, SIZE), bool)
    for number in range(FRAMES):
        left, top = 2 + number, 4 + 3 * seed
        frames[number, top : top + 10, left : left + 10] = rng.integers(0, 255, 3)
        moved[top : top + 10, left : left + 10] = True
        joints[number, :21] = (np.array([left, top]) + rng.uniform(1, 9, (21, 2))) / SIZE
    visible = np.zeros((FRAMES, 42), np.uint8)
    visible[:, :21] = 1
    return WorldClip(
        seed=seed,
        action="push",
        choice={},
        hands=("left",),
        text=f"push the square {seed}",
        paraphrases=(f"move square {seed}",),
        enriched=f"a hand pushes square {seed} to the right",
        frames=frames,
        joints2d=joints,
        joints3d=np.zeros((FRAMES, 42, 3), np.float32),
        visible=visible,
        ids=np.zeros((FRAMES, SIZE, SIZE), np.uint8),
        area_hull=moved,
        area_moved=moved,
        objects=(),
        before={},
        after={},
        cameras=(),
    )


def prepared(world: Path, out: Path | None = None) -> Path:
    """The clips of a world folder as shards, in `out` or beside it."""
    out = out or world.with_name(f"{world.name}-shards")
    write_shards(read_world(world), out, world_settings(world, "auto"), ToolsMaker(detects=False), Serial())
    return out


def tiny_shards(folder: Path, *seeds: int) -> Path:
    """Clips of `tiny_clip` as shards in a folder."""
    for seed in seeds:
        write_clip(folder / "world", tiny_clip(seed), pictures="png")
    return prepared(folder / "world", folder / "shards")


TINY: dict[str, Any] = {
    "stage": "stage2",
    "model": {"preset": "tiny"},
    "data": {"frames": 4, "flip": True, "workers": 1},
    "loss": {"hand": {"weight": 0}},
    "optim": {"lr": 1e-3, "batch": 2, "warmup": 2, "schedule": "cosine", "ema": 0.9, "clip": 1.0},
    "run": {
        "steps": 7, "log_every": 1, "save_every": 2, "validate_every": 3, "gradients_every": 2, "keep": 2,
        "device": "cpu",
    },
}  # fmt: skip


def start(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    """A Python process of its own, in one thread, with its output to be read."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONWARNINGS": "ignore",
        "PYTHONFAULTHANDLER": "1",
        # a test that starts itself finds this module, as pytest does by its `pythonpath`
        "PYTHONPATH": os.pathsep.join([TESTS, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
    }
    command = [sys.executable, *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, **options
    )
