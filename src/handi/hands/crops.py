"""Cut rotated squares out of frames, to the bit as MediaPipe does with OpenCV 3's warpPerspective.

Sampling is bilinear between pixel centres at integers, without antialiasing; source coordinates are rounded
to 1/32 px and the result to 8 bits (OpenCV 5's own warp is finer, and so is not the same). `crop` is torch:
any device, differentiable. `crop_uint8` is OpenCV: fast on a CPU. Both give the same bytes for 8-bit frames.
Squares are (centre x, centre y, side, rotation) in px and radians, float32.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from handi.core.types import Picture

Border = Literal["zero", "edge"]
STEPS = 32  # OpenCV's sub-pixel positions (INTER_TAB_SIZE)
LEVEL = np.float32(1 / 255)  # MediaPipe multiplies levels by this; a division rounds otherwise


def crop(frames: Tensor, rows: Tensor, squares: np.ndarray, side: int, border: Border) -> Tensor:
    """N squares (N×4) from frames B×3×H×W, uint8 or float in [0, 1] → N×3×side×side in [0, 1].

    `rows` (N) says which frame each square is cut from. Values are rounded to 8 bits on the way forward
    only, so gradients reach float frames as if they were not.
    """
    x, y = _source(squares, side, frames.device)
    if not frames.is_floating_point():
        return _gather(frames, rows, x, y, border).add(0.5).floor().mul(float(LEVEL)).permute(0, 3, 1, 2)
    height, width = frames.shape[-2:]
    # float64, as float32 grid coordinates are off by more than a 32nd of a level; it costs no time.
    exact = _exact(frames.device)
    across, down = 2 / max(width - 1, 1) / STEPS, 2 / max(height - 1, 1) / STEPS
    grid = torch.stack([x.to(exact) * across - 1, y.to(exact) * down - 1], dim=-1)
    padding = "zeros" if border == "zero" else "border"
    source = frames[rows].to(exact)
    levels = F.grid_sample(source, grid, mode="bilinear", padding_mode=padding, align_corners=True) * 255
    # Ties go up as in OpenCV, also where n/255 × 255 fell short of n; the next value below is 2^-10 away.
    rounded = (levels + (0.5 + 1e-4)).floor()
    return (levels + (rounded - levels).detach()).float() * float(LEVEL)


def _gather(frames: Tensor, rows: Tensor, x: Tensor, y: Tensor, border: Border) -> Tensor:
    """Bilinear samples of uint8 frames, N×side×side×3 in 0..255, without a float copy of the frames."""
    height, width = frames.shape[-2:]
    left, top = x.div(STEPS, rounding_mode="floor"), y.div(STEPS, rounding_mode="floor")
    u, v = (x - left * STEPS).float() / STEPS, (y - top * STEPS).float() / STEPS
    table = frames.permute(0, 2, 3, 1).reshape(-1, 3)  # (B·H·W)×3: a pixel is a row
    total = torch.zeros(*x.shape, 3, device=x.device)
    for dx, weight_x in ((0, 1 - u), (1, u)):
        for dy, weight_y in ((0, 1 - v), (1, v)):
            column, line = left + dx, top + dy
            weight = weight_x * weight_y
            if border == "zero":
                weight = weight * ((column >= 0) & (column < width) & (line >= 0) & (line < height))
            place = line.clamp(0, height - 1) * width + column.clamp(0, width - 1)
            total += table[place + rows.view(-1, 1, 1) * (height * width)].float() * weight[..., None]
    return total


def _exact(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64  # Apple GPUs have no float64


def _source(squares: np.ndarray, side: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Where each pixel of N squares comes from: x and y, N×side×side int64 in 1/32 px of the frame."""
    exact = _exact(device)
    matrices = torch.from_numpy(np.stack([sampling_matrix(square, side) for square in squares]))
    m = matrices.to(device, exact)[..., None, None]  # N×3×3×1×1
    i = torch.arange(side, device=device, dtype=exact).view(1, 1, -1)
    j = i.view(1, -1, 1)
    x, y, w = (m[:, row, 0] * i + (m[:, row, 1] * j + m[:, row, 2]) for row in range(3))
    return (x * (STEPS / w)).round().long(), (y * (STEPS / w)).round().long()


def crop_uint8(frame: Picture, square: np.ndarray, side: int, border: Border) -> Picture:
    """The same for one square of one H×W×3 uint8 frame on the CPU: side×side×3 uint8."""
    m = sampling_matrix(square, side)
    i = np.arange(side, dtype=np.float64)
    j = i[:, None]
    x, y, w = (m[row, 0] * i + (m[row, 1] * j + m[row, 2]) for row in range(3))
    w = STEPS / w
    # OpenCV's fixed-point maps: whole pixels as int16 pairs (far outside is outside), and a table index.
    far = 32767 * STEPS
    u, v = (np.rint(part * w).clip(-far, far).astype(np.int32) for part in (x, y))
    whole = np.stack([u >> 5, v >> 5], axis=-1).astype(np.int16)
    part = (((v & 31) << 5) | (u & 31)).astype(np.uint16)
    mode = cv2.BORDER_CONSTANT if border == "zero" else cv2.BORDER_REPLICATE
    return cv2.remap(frame, whole, part, cv2.INTER_LINEAR, borderMode=mode)


def sampling_matrix(square: np.ndarray, side: int) -> np.ndarray:
    """3×3 float64: (column, row, 1) of a picture of `side` px → homogeneous px of the frame.

    Corners in float32 as cv::RotatedRect::points gives them, then the perspective through them: rounded
    corners are no exact square, so the matrix has a perspective of 1e-10 that an affine one would lack.
    """
    centre_x, centre_y, size, rotation = np.asarray(square, np.float32)
    degrees = np.float32(float(rotation * np.float32(180)) / np.pi)
    radians = float(degrees) * np.pi / 180
    half = np.float32(0.5)
    a, b = np.float32(np.sin(radians)) * half * size, np.float32(np.cos(radians)) * half * size
    centre = np.array([centre_x, centre_y], np.float32)
    bottom_left = np.array([centre_x - a - b, centre_y + b - a], np.float32)
    top_left = np.array([centre_x + a - b, centre_y - b - a], np.float32)
    two = np.float32(2)
    corners = np.stack([bottom_left, top_left, two * centre - bottom_left, two * centre - top_left])
    target = np.array([[0, side], [0, 0], [side, 0], [side, side]], np.float32)
    return cv2.invert(cv2.getPerspectiveTransform(corners, target))[1]
