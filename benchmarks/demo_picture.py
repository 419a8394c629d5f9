"""The README's picture: python benchmarks/demo_picture.py docs/demo.png

Context image, motion area and four frames of the bundled example through the untrained model, with the true
motion area of the synthetic clip that the example is the first frame of.
"""

from __future__ import annotations

import sys

import numpy as np
import torch

from handi import HandiPipeline
from handi.images import write_image
from handi.world import render_clip

EXAMPLE_SEED = 900_011  # of src/handi/assets/example.png


def main(path: str) -> None:
    truth = render_clip(EXAMPLE_SEED, size=256, action="cut")
    pipe = HandiPipeline.from_pretrained("random")
    out = pipe(
        truth.frames[0], "Cut the carrot.", mask=truth.area_hull, generator=torch.Generator().manual_seed(0)
    )
    area = np.repeat(out.motion_area[0][..., None].astype(np.uint8) * 255, 3, axis=2)
    write_image(path, np.concatenate([out.context[0], area, *out.frames[0][[3, 7, 11, 15]]], axis=1))


if __name__ == "__main__":
    main(sys.argv[1])
