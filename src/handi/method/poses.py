"""Hand poses P as pictures, in which a noise predictor is given them.

P is F×42×2, the joints of every frame in [0, 1], left hand first, zeros for a hand that is not there (the
paper's P_l; `types.Hands`, `joints.json`). A pose map shows each hand in six channels: palm, thumb, and the
four fingers.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

PALM = (0, 1, 5, 9, 13, 17)
FINGERS = ((0, 1, 2, 3, 4), (5, 6, 7, 8), (9, 10, 11, 12), (13, 14, 15, 16), (17, 18, 19, 20))
MAPS = 2 * (1 + len(FINGERS))  # channels of a pose map
HALF_WIDTH = 0.5  # of a finger's line, in the map's pixels
DETAIL = 4  # pixels of a map along the side of a cell that a network sees it in
SEEN = MAPS * DETAIL**2  # values of a map in one cell


def present(joints: Tensor) -> Tensor:
    """…×2 bool: which hands are there, of joints …×42×2."""
    return joints.unflatten(-2, (2, 21)).ne(0).any(-1).any(-1)


def pose_maps(joints: Tensor, size: tuple[int, int]) -> Tensor:
    """Joints …×42×2 → maps …×12×h×w float32 in [0, 1], edges softened; empty where a hand is not there."""
    height, width = size
    lead = joints.shape[:-2]
    hands = joints.float().reshape(-1, 2, 21, 2)  #                                      N×2×21×2
    points = hands * hands.new_tensor([width, height])
    down = torch.arange(height, device=hands.device)[:, None] + 0.5
    across = torch.arange(width, device=hands.device) + 0.5
    x, y = points[..., 0, None, None], points[..., 1, None, None]  #                     N×2×21×1×1

    def distance(start: int, end: int) -> Tensor:
        """Squared, of every pixel to a bone: N×2×h×w."""
        along_x, along_y = x[:, :, end] - x[:, :, start], y[:, :, end] - y[:, :, start]
        from_x, from_y = across - x[:, :, start], down - y[:, :, start]
        share = (from_x * along_x + from_y * along_y) / (along_x**2 + along_y**2).clamp(min=1e-6)
        share = share.clamp(0, 1)
        return (from_x - share * along_x).square() + (from_y - share * along_y).square()

    def nearest(line: tuple[int, ...]) -> Tensor:
        least = distance(line[0], line[1])
        for start, end in pairwise(line[1:]):
            least = torch.minimum(least, distance(start, end))
        return least.sqrt()

    # A pixel is inside the palm if a ray from it crosses the outline an odd number of times.
    inside = torch.zeros(len(points), 2, height, width, dtype=torch.bool, device=hands.device)
    for start, end in zip(PALM, (*PALM[1:], PALM[0]), strict=True):
        (x0, y0), (x1, y1) = (x[:, :, start], y[:, :, start]), (x[:, :, end], y[:, :, end])
        rise = torch.where(y1 == y0, 1e-6, y1 - y0)
        inside ^= ((y0 > down) != (y1 > down)) & (across < x0 + (down - y0) * (x1 - x0) / rise)
    outline = nearest((*PALM, PALM[0]))
    palm = 0.5 + torch.where(inside, outline, -outline)
    fingers = [0.5 + HALF_WIDTH - nearest(finger) for finger in FINGERS]
    maps = torch.stack([palm, *fingers], 2).clamp(0, 1)  #                               N×2×6×h×w
    maps = maps * present(hands.flatten(1, 2))[..., None, None, None]
    return maps.reshape(*lead, MAPS, height, width)


def pose_cells(joints: Tensor, cells: tuple[int, int]) -> Tensor:
    """The pose maps of joints …×42×2 by a network's cells h×w: …×192×h×w, each with 4×4 pixels of a map."""
    return F.pixel_unshuffle(pose_maps(joints, (DETAIL * cells[0], DETAIL * cells[1])), DETAIL)
