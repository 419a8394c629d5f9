"""The world looks as it always has: figures, test seeds and the bundled model depend on its pictures.

`python tests/world/test_world_pictures.py` writes the reference anew, for when they are meant to change.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from handi.core.images import read_image, write_image
from handi.world import render_clip

REFERENCE = Path(__file__).with_name("pictures.png")
SEEDS = (1, 17, 910_003)
SIZE = 32


def pictures():
    """A row for every seed: pictures and id maps of its first, a middle and its last frame."""
    rows = []
    for seed in SEEDS:
        clip = render_clip(seed, size=SIZE, frames=4)
        ids = np.repeat(clip.ids[..., None], 3, axis=-1)
        rows.append(np.concatenate([*clip.frames[[0, 2, 3]], *ids[[0, 2, 3]]], axis=1))
    return np.concatenate(rows)


def test_pictures_are_those_of_before():
    """On another machine the fast maths may differ in the last bit, and so a value here and there by one."""
    found, reference = pictures().astype(int), read_image(REFERENCE).astype(int)
    assert found.shape == reference.shape
    assert (found != reference).mean() < 1e-3


if __name__ == "__main__":
    write_image(REFERENCE, pictures())
