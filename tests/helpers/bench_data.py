"""A small data set and videos of it for the tests of `handi.evaluation`: squares that slide over noise."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from handi.core.images import write_image

SIZE, FRAMES = 64, 16


def clip(seed: int, *, speed: int = 1) -> np.ndarray:
    """16 frames of a square that moves `speed` px per frame over a still background; the context is the same
    for every speed."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)
    background = small.repeat(SIZE // 16, axis=0).repeat(SIZE // 16, axis=1)
    square = rng.integers(0, 255, (5, 5, 3), dtype=np.uint8).repeat(4, axis=0).repeat(4, axis=1)
    frames = np.repeat(background[None], FRAMES, axis=0)
    for number in range(FRAMES):
        left = 4 + speed * number
        frames[number, 20:40, left : left + 20] = square
    return frames


def area() -> np.ndarray:
    """Where the square of any clip goes."""
    mask = np.zeros((SIZE, SIZE), bool)
    mask[18:42, 2:44] = True
    return mask


def write_data(folder: Path, ids: list[str]) -> Path:
    """The true side of a data set: videos, areas, contexts, texts."""
    lines = []
    for number, id in enumerate(ids):
        frames = clip(number)
        write_frames(folder / id, frames)
        write_image(folder / "motion_area" / f"{id}.png", area())
        write_image(folder / "context" / f"{id}.png", frames[0])
        lines.append({"id": id, "action": f"Push square {number}.", "enriched": f"A hand pushes {number}."})
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    (folder / "prompts.jsonl").write_text(text)
    return folder


def write_method(folder: Path, ids: list[str], *, speed: int = 1) -> Path:
    """A method's videos of the same data set."""
    for number, id in enumerate(ids):
        write_frames(folder / id, clip(number, speed=speed))
    return folder


def write_frames(folder: Path, frames: np.ndarray) -> None:
    for number, frame in enumerate(frames):
        write_image(folder / "frames" / f"{number:04d}.png", frame)
