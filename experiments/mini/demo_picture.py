"""The README's picture: python -m experiments.mini.demo_picture docs/demo.png

The bundled example through the bundled model, seed 0, as `make demo` makes it: context image, stage 1's
motion area, and frames 3, 7, 11 and 15, in two rows, each pixel drawn twice as large.
"""

from __future__ import annotations

import sys
from importlib.resources import files

import numpy as np
import torch

from handi import HandiPipeline
from handi.core.images import write_image


def main(path: str, model: str = "mini") -> None:
    pipe = HandiPipeline.from_pretrained(model)
    example = str(files("handi.assets") / "example.png")
    out = pipe(example, "Cut the carrot.", generator=torch.Generator().manual_seed(0))
    area = np.repeat(out.motion_area[0][..., None].astype(np.uint8) * 255, 3, axis=2)
    panels = [out.context[0], area, *out.frames[0][[3, 7, 11, 15]]]
    rows = [np.concatenate(panels[first : first + 3], axis=1) for first in (0, 3)]
    write_image(path, np.concatenate(rows).repeat(2, axis=0).repeat(2, axis=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
