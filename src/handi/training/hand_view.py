"""A square around a hand, for a hand loss that decodes no more of a frame than it looks at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from handi.core.errors import InputError


@dataclass(frozen=True)
class View:
    """One square window for each of N drawn frames; frames that are decoded together share theirs."""

    clips: Tensor  # N int64: the batch's row of each frame
    rows: Tensor  # N int64: which of the `latents` each frame is in, the first one of its chunk
    top: Tensor  # N int64, in latent cells
    left: Tensor
    side: int  # latent cells
    cell: int  # px of a latent cell

    @classmethod
    def around_hands(
        cls,
        rois: Tensor,
        clips: Tensor,
        frames: Tensor,
        chunk: int,
        crop: int,
        size: Sequence[int],
        like: Tensor,
    ) -> View:
        """Windows of `crop` px, centred on the larger hand of the first drawn frame of each chunk.

        rois N×2×4 px; size: H, W px of a frame; like: latents B×C×f×h×w. Raises: InputError for a crop that
        is no multiple of a cell.
        """
        cell = size[0] // like.shape[-2]
        if crop % cell:
            hint = f"use a multiple of {cell}"
            raise InputError(f"loss.hand.crop is {crop}, a latent cell has {cell} px", hint=hint)
        side = min(crop // cell, *like.shape[-2:])
        chunks = (frames + chunk - 1) // chunk
        together = (clips[:, None] == clips) & (chunks[:, None] == chunks)  # N×N
        first = together.int().argmax(1)  # of each frame's chunk
        hand = rois[..., 2].argmax(1)
        centre = rois[torch.arange(len(rois), device=rois.device), hand, :2][first]  # N×2, x y
        corner = (centre / cell - side / 2).round().long()
        left, top = (corner[:, axis].clamp(0, like.shape[-1 - axis] - side) for axis in (0, 1))
        return cls(clips, first, top, left, side, cell)

    def latents(self, z: Tensor) -> Tensor:
        """The windows in B×C×f×h×w: N×C×f×side×side."""
        return self._cut(z[self.clips], self.top, self.left, self.side)

    def pixels(self, pictures: Tensor) -> Tensor:
        """The windows in frames N×3×H×W: N×3×s×s."""
        cell = self.cell
        return self._cut(pictures[:, :, None], self.top * cell, self.left * cell, self.side * cell)[:, :, 0]

    def rois(self, rois: Tensor) -> Tensor:
        """Regions N×2×4 in px of the window; those whose centre lies outside are empty: side 0."""
        corner = torch.stack([self.left, self.top], -1)[:, None] * self.cell
        centre = rois[..., :2] - corner
        inside = ((centre >= 0) & (centre < self.side * self.cell)).all(-1)
        return torch.cat([centre, rois[..., 2:]], -1) * inside[..., None]

    def _cut(self, x: Tensor, top: Tensor, left: Tensor, side: int) -> Tensor:
        steps = torch.arange(side, device=x.device)
        rows, columns = ((edge[:, None] + steps).view(len(x), 1, 1, -1) for edge in (top, left))
        n, channels, frames, _, width = x.shape
        x = x.gather(3, rows[..., None].expand(n, channels, frames, side, width))
        return x.gather(4, columns[..., None, :].expand(n, channels, frames, side, side))
