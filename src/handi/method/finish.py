"""From decoded frames to what a call gives: the background put back, in the type that was asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from handi.method.area import feather


def restore(frames: np.ndarray, pictures: np.ndarray, area: np.ndarray) -> np.ndarray:
    """Put the context back outside the motion area, feathered inside its edge, and as frame 0.

    frames B×F×H×W×3, pictures B×H×W×3 uint8, area B×H×W bool → B×F×H×W×3 uint8 (paper §2, Inference).
    """
    edge = 0.02 * min(frames.shape[2:4])
    weight = np.stack([feather(one, edge) for one in area])[:, None, :, :, None]
    context = pictures[:, None].astype(np.float32)
    blended = np.rint(context + weight * (frames - context)).astype(np.uint8)
    blended[:, 0] = pictures
    return blended


def to_uint8(video: Tensor) -> np.ndarray:
    """B×3×F×H×W in [0, 1] → B×F×H×W×3 uint8."""
    return (video * 255).round().to(torch.uint8).permute(0, 2, 3, 4, 1).cpu().numpy()


def convert(frames: np.ndarray, output_type: str) -> Any:
    """B×F×H×W×3 uint8 as lists of PIL images ("pil"), B×3×F×H×W in [0, 1] ("pt"), or as they are ("np")."""
    if output_type == "pil":
        return [[Image.fromarray(frame) for frame in clip] for clip in frames]
    if output_type == "pt":
        return torch.from_numpy(frames).permute(0, 4, 1, 2, 3).float() / 255
    return frames
