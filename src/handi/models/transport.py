"""Transport: the context image moved, instead of a clip invented.

Both hands are cut out of the context image, moved by their bones (models/skeleton.py) and laid over a clean
plate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from handi.models.autoencoder import PatchBasis, zero_
from handi.models.skeleton import JointReader, Skeletons, carry, nearness

FLOW_CELLS = 2  # flow vectors along one side of a latent cell
SURE = 3.0  # logit of a hand's cut-out on its bones
SURROUNDINGS = 11  # cells of half a patch: how far around a hole the plate looks, twice


@dataclass(frozen=True)
class Transport:
    """How the context image was moved; what the losses on it need."""

    latents: Tensor  # B×C×F×h×w, the moved picture before the residual
    flow: Tensor  # B×F×2×2×h'×w' px: hand k at a place p of the frame shows the context at p + flow
    cutout: Tensor  # B×2×H×W in [0, 1]: what of the context image belongs to hand k
    skeletons: Skeletons


class Transporter(nn.Module):
    """Features → the context image moved: the hands cut out of it, over a clean plate."""

    def __init__(self, channels: int, patch: int, width: int, inner: int) -> None:
        super().__init__()
        self.basis = PatchBasis(channels, patch)
        self.joints = JointReader(width, inner)
        self.plate = zero_(nn.Linear(width, channels))

    def forward(self, places: Tensor, scene: Tensor, context: Tensor) -> tuple[Transport, Tensor]:
        """places B×F×h/2×w/2×inner, scene B×1×h×w×width, context B×C×1×h×w.

        → the transport, and how much of each latent cell hands cover, B×1×F×h×w.
        """
        batch, frames = places.shape[:2]
        height, width = scene.shape[2:4]
        picture = self.basis.to_pictures(context[:, :, 0].float())  #              B×3×H×W
        size = (picture.shape[-2], picture.shape[-1])
        skeletons = self.joints(scene[:, 0], places, size)
        cutout = self._cutout(skeletons, size)  #                                  B×2×H×W
        flow = carry(skeletons, size, (height * FLOW_CELLS, width * FLOW_CELLS))
        moved = self._move(picture, cutout, flow)  #                               2 of B×F×4×H×W
        colours, covers = zip(*(hand.split([3, 1], dim=2) for hand in moved), strict=True)
        frame = self._plate(scene, picture, cutout.detach())[:, None].expand(-1, frames, -1, -1, -1)
        for colour, cover in zip(reversed(colours), reversed(covers), strict=True):
            frame = frame + cover * (colour - frame)
        latents = self.basis.to_latents(frame.flatten(0, 1)).unflatten(0, (batch, frames)).transpose(1, 2)
        with torch.no_grad():
            hands = 1 - math.prod(1 - cover for cover in covers)  #                B×F×1×H×W
        covered = F.avg_pool2d(hands.flatten(0, 1), self.basis.patch).unflatten(0, (batch, frames))
        return Transport(latents, flow, cutout, skeletons), covered.transpose(1, 2)

    def _cutout(self, skeletons: Skeletons, size: tuple[int, int]) -> Tensor:
        """Soft masks of the hands, B×2×H×W: where their bones are, if the context image shows them at all.

        Neither the joints nor the presence learn from the picture through them, but from their own losses:
        the least squared error of a hand whose place is unsure would be a faint or a thin hand.
        """
        near = nearness(skeletons.start.detach(), size, (size[0] // 2, size[1] // 2)).clamp(min=-5)
        near = F.interpolate(near, scale_factor=2.0, mode="bilinear", align_corners=False)
        return (SURE * near).sigmoid() * skeletons.presence.detach().sigmoid()[..., None, None]

    def _plate(self, scene: Tensor, picture: Tensor, cutout: Tensor) -> Tensor:
        """The context image B×3×H×W without its hands: in their place the mean of what surrounds them, and
        what the network knows better."""
        hands = 1 - (1 - cutout).prod(1, keepdim=True)
        holes = F.max_pool2d(hands, 5, 1, 2)  # B×1×H×W, a little wider than the hands
        cell = self.basis.patch // 2
        weighted = F.avg_pool2d(torch.cat([picture * (1 - holes), 1 - holes], 1), cell)
        for _ in range(2):
            weighted = F.avg_pool2d(weighted, SURROUNDINGS, 1, SURROUNDINGS // 2)
        around = weighted[:, :3] / weighted[:, 3:].clamp(min=1e-4)
        around = F.interpolate(around, picture.shape[-2:], mode="bilinear", align_corners=False)
        known = self.plate(scene)[:, 0].permute(0, 3, 1, 2).float()
        known = self.basis.to_pictures(known) - self.basis.to_pictures(torch.zeros_like(known))
        return picture + holes * (around - picture) + known

    def _move(self, picture: Tensor, cutout: Tensor, flow: Tensor) -> tuple[Tensor, ...]:
        """Picture B×3×H×W and cut-outs B×K×H×W, looked up where the flows point: K of B×F×4×H×W."""
        batch, frames, layers = flow.shape[:3]
        height, width = picture.shape[-2:]
        size = (height, width)
        dense = F.interpolate(flow.flatten(0, 2), size, mode="bilinear", align_corners=False)
        # grid_sample counts from -1 to 1 over the whole width
        y = (torch.arange(height, device=flow.device) * 2 + 1) / height - 1
        x = (torch.arange(width, device=flow.device) * 2 + 1) / width - 1
        across = dense[:, 0] * (2 / width) + x
        down = dense[:, 1] * (2 / height) + y[:, None]
        grid = torch.stack([across, down], -1).unflatten(0, (batch, frames, layers))
        grid = grid.transpose(1, 2).flatten(2, 3)  #                               B×K×(F·H)×W×2
        source = torch.cat([picture[:, None].expand(-1, layers, -1, -1, -1), cutout[:, :, None]], 2)
        moved = F.grid_sample(
            source.flatten(0, 1), grid.flatten(0, 1), padding_mode="border", align_corners=False
        )  #                                                                       (B·K)×4×(F·H)×W
        moved = moved.unflatten(0, (batch, layers)).unflatten(3, (frames, height))
        return moved.permute(1, 0, 3, 2, 4, 5).unbind()
