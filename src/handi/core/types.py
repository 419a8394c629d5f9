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

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor  # only for its name: `handi --help` must not wait for torch

Picture = npt.NDArray[np.uint8]  # H×W×3, RGB
Frames = npt.NDArray[np.uint8]  # F×H×W×3, RGB
SoftMask = npt.NDArray[np.float32]  # H×W in [0, 1]
BinaryMask = npt.NDArray[np.bool_]  # H×W


@dataclass(frozen=True)
class Hands:
    """What the hand detector Υ reads in B frames: two slots per frame, left hand first.

    A slot without a hand has zeros everywhere and the lowest presence. Coordinates: MediaPipe's pixels have
    their centres at integers, so a joint at pixel column i is at x = i/W.
    """

    joints: Tensor  # B×42×2, (x, y) in [0, 1] of the frame (beyond where a hand leaves it)
    presence_logits: Tensor  # B×2, how sure the network is that the region holds a hand
    handedness: Tensor  # B×2 in [0, 1], 1 = surely a right hand
    rois: Tensor  # B×2×4, the square that was read: centre x, centre y, side (px), rotation (rad, clockwise)
    visible: Tensor  # B×2 bool, presence above the detector's threshold
    size: tuple[int, int]  # H, W of the frames
    backend: str  # what ran the networks: torch or litert, device, complexity
    features: tuple[Tensor, ...] = field(default=(), repr=False)  # landmark net's, one row per valid region

    @property
    def presence(self) -> Tensor:
        """B×2 in [0, 1]."""
        return self.presence_logits.sigmoid()

    @property
    def counts(self) -> Tensor:
        """B: visible hands of each frame."""
        return self.visible.sum(dim=-1)

    def __len__(self) -> int:
        return len(self.joints)
