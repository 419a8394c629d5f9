"""Shapes and records that every layer shares.

Dimension letters, as in every docstring of the package:

| letter | meaning                                   |
|--------|-------------------------------------------|
| B      | batch                                     |
| F      | frames of a clip (16: context + L = 15)   |
| C      | channels                                  |
| H W    | pixels                                    |
| h w    | latents (H/8, W/8 at full size)           |
| J      | hand joints of a frame (2 hands × 21 = 42)|
| N      | text tokens                               |
| D      | features                                  |

Pictures and clips outside the networks are uint8 RGB numpy arrays, H×W×3 and F×H×W×3. Inside they are
float tensors: B×3×H×W and B×3×F×H×W in [-1, 1]; latents B×C×F×h×w. Masks are floats in [0, 1].
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]  # H×W×3, RGB
Frames = npt.NDArray[np.uint8]  # F×H×W×3, RGB
SoftMask = npt.NDArray[np.float32]  # H×W in [0, 1]
BinaryMask = npt.NDArray[np.bool_]  # H×W
