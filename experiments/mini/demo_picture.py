"""The README's picture: python -m experiments.mini.demo_picture docs/demo.png

Context image, stage 1's motion area and four frames of the bundled example through the bundled model.
"""

from __future__ import annotations

import sys
from importlib.resources import files

import numpy as np
import torch

from handi import HandiPipeline
from handi.core.images import write_image


def main(path: str) -> None:
    pipe = HandiPipeline.from_pretrained("mini")
    example = str(files("handi.assets") / "example.png")
    out = pipe(example, "Cut the carrot.", generator=torch.Generator().manual_seed(0))
    area = np.repeat(out.motion_area[0][..., None].astype(np.uint8) * 255, 3, axis=2)
    write_image(path, np.concatenate([out.context[0], area, *out.frames[0][[3, 7, 11, 15]]], axis=1))


if __name__ == "__main__":
    main(sys.argv[1])
