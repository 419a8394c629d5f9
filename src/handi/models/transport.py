"""Transport: the context image moved, instead of a clip invented.

Layers cut out of the context image are moved and laid over a clean plate. Hands are moved by their bones
(models/skeleton.py), other layers by smooth flows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from handi.models.autoencoder import PatchBasis, channels_last, zero_
from handi.models.skeleton import HANDS, JointReader, Skeletons, carry, nearness

FLOW_CELLS = 2  # flow vectors along one side of a latent cell
FAINT = -6.0  # logit of a free layer's cut-out before training: it is not there yet
SURE = 3.0  # logit of a hand's cut-out on its bones, before training
BEYOND = -2.0  # `nearness` at which hands end
SURROUNDINGS = 11  # cells of half a patch: how far around a hole the plate looks, twice
TOLD = 0.5  # ᾱ from which on x_t tells where things are
FLOW_UNIT = 16.0  # pixels of flow for an output of 1, about the step of a hand between two frames
POSE_UNIT = 4.0  # the same for a whole layer, whose gradient is the sum over all of its pixels


@dataclass(frozen=True)
class Transport:
    """How the context image was moved; what the losses on it need."""

    latents: Tensor  # B×C×F×h×w, the moved picture before the residual
    flow: Tensor  # B×F×K×2×h'×w' px: layer k at a place p of the frame shows the context at p + flow
    cutout: Tensor  # B×K×H×W in [0, 1]: what of the context image belongs to layer k
    skeletons: Skeletons  # of the hands, layers 0 and 1


class Transporter(nn.Module):
    """Features → the context image moved: layers cut out of it, over a clean plate.

    The first two layers are the hands, which their bones carry; the others move by flows of their own.
    """

    def __init__(self, channels: int, patch: int, width: int, inner: int, layers: int) -> None:
        super().__init__()
        self.basis = PatchBasis(channels, patch)
        self.free = layers - HANDS
        self.joints = JointReader(width, inner)
        self.pose = _Pose(inner, self.free)
        self.flow = zero_(nn.Linear(width, self.free * FLOW_CELLS**2 * 2))
        self.plate = zero_(nn.Linear(width, channels))
        self.cutout = _Cutout(patch, width, layers)

    def forward(
        self, features: Tensor, places: Tensor, scene: Tensor, context: Tensor, signal: Tensor
    ) -> tuple[Transport, Tensor]:
        """features B×F×h×w×width, places B×F×h/2×w/2×inner, scene B×1×h×w×width, context B×C×1×h×w, signal B
        (ᾱ of x_t).

        → the transport, and how much of each latent cell hands cover, B×1×F×h×w.
        """
        batch, frames, height, width, _ = features.shape
        picture = self.basis.to_pictures(context[:, :, 0].float())  #              B×3×H×W
        size = (picture.shape[-2], picture.shape[-1])
        grid = (height * FLOW_CELLS, width * FLOW_CELLS)
        skeletons = self.joints(scene[:, 0], places, size)
        cutout = self.cutout(scene[:, 0], picture, skeletons).float()  #           B×K×H×W
        # While noise hides where a hand goes, the least squared error is a faint one: what belongs to a hand
        # is learned only where x_t tells its place, and from the joints (losses.joint_transport).
        told = (signal > TOLD).view(-1, 1, 1, 1)
        opaque = torch.where(told, cutout, cutout.detach())
        plate = self._plate(scene, picture, cutout.detach())
        flow = self.flow(features).unflatten(-1, (self.free, 2, FLOW_CELLS, FLOW_CELLS))
        flow = flow.permute(0, 1, 4, 5, 2, 6, 3, 7).reshape(batch, frames, self.free, 2, *grid)
        flow = flow.float() * FLOW_UNIT + self.pose(places, grid)
        flow = torch.cat([carry(skeletons, size, grid), flow], 2)
        moved = self._move(picture, opaque, flow)  #                               K of B×F×4×H×W
        colours, covers = zip(*(layer.split([3, 1], dim=2) for layer in moved), strict=True)
        frame = plate[:, None].expand(-1, frames, -1, -1, -1)
        for colour, cover in zip(reversed(colours), reversed(covers), strict=True):
            frame = frame + cover * (colour - frame)  # hands come last: they are in front
        latents = self.basis.to_latents(frame.flatten(0, 1)).unflatten(0, (batch, frames)).transpose(1, 2)
        with torch.no_grad():
            hands = 1 - math.prod(1 - cover for cover in covers[:HANDS])  #        B×F×1×H×W
        covered = F.avg_pool2d(hands.flatten(0, 1), self.basis.patch).unflatten(0, (batch, frames))
        return Transport(latents, flow, cutout, skeletons), covered.transpose(1, 2)

    def _plate(self, scene: Tensor, picture: Tensor, cutout: Tensor) -> Tensor:
        """The context image B×3×H×W without its hands: in their place the mean of what surrounds them, and
        what the network knows better."""
        hands = 1 - (1 - cutout[:, :HANDS]).prod(1, keepdim=True)
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


class _Pose(nn.Module):
    """An affine motion of each layer in each frame: most of what a hand does, in six numbers."""

    def __init__(self, inner: int, layers: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(inner)
        self.query = nn.Parameter(torch.randn(layers, inner) / inner**0.5)  # where a layer looks
        self.key = nn.Linear(inner, inner, bias=False)
        self.hidden = nn.Linear(inner, inner)
        self.motion = nn.Parameter(torch.zeros(layers, inner, 6))

    def forward(self, places: Tensor, size: tuple[int, int]) -> Tensor:
        """places B×F×h×w×inner, size h'×w' of the flow → flow B×F×K×2×h'×w' px."""
        tokens = self.norm(places.flatten(2, 3))  #                                B×F×N×inner
        attention = (self.query @ self.key(tokens).transpose(-1, -2)).softmax(-1)  #     B×F×K×N
        seen = F.gelu(self.hidden(attention @ tokens))  #                          B×F×K×inner
        motion = torch.einsum("bfki,kic->bfkc", seen, self.motion).float() * POSE_UNIT
        down, across = (torch.linspace(-1, 1, side, device=places.device) for side in size)
        place = torch.stack(
            [torch.ones(size, device=places.device), *torch.meshgrid(across, down, indexing="xy")]
        )
        return torch.einsum("bfkdc,chw->bfkdhw", motion.unflatten(-1, (2, 3)), place)


class _Cutout(nn.Module):
    """Soft masks of the layers in the context image, at its full size."""

    def __init__(self, patch: int, width: int, layers: int, inner: int = 24) -> None:
        super().__init__()
        self.steps = patch.bit_length() - 2  # doublings up to half of full size
        self.up = nn.Linear(width, inner * 4**self.steps)
        self.look = nn.Conv2d(12 + HANDS, inner, 3, padding=1)
        self.merge = nn.Conv2d(inner, inner, 3, padding=1)
        self.out = nn.Conv2d(inner, 4 * layers, 3, padding=1)
        zero_(self.out)
        channels_last(self)

    def forward(self, scene: Tensor, picture: Tensor, skeletons: Skeletons) -> Tensor:
        """scene B×h×w×width, picture B×3×H×W → B×K×H×W in [0, 1].

        A hand is where its bones are, until the picture says more, if the context image shows it at all.
        """
        height, width = picture.shape[-2:]
        # Where the joints are is for their own loss to say: a blurred picture likes thin hands.
        near = nearness(skeletons.start.detach(), (height, width), (height // 2, width // 2)).clamp(min=-5)
        features = F.pixel_shuffle(self.up(scene).permute(0, 3, 1, 2), 2**self.steps)
        seen = torch.cat([F.pixel_unshuffle(picture, 2), near], 1)
        x = F.silu(features + self.look(seen.to(features.dtype)))
        x = x + F.silu(self.merge(x))
        logits = F.pixel_shuffle(self.out(x), 2)
        near = F.interpolate(near, scale_factor=2.0, mode="bilinear", align_corners=False)
        faint = near.new_full((len(near), logits.shape[1] - HANDS, height, width), FAINT)
        # Far from all bones nothing is a hand's, whatever the picture says: else it takes the table along.
        reach = skeletons.presence.sigmoid()[..., None, None] * (4 * (near - BEYOND)).sigmoid()
        mask = (logits + torch.cat([near * SURE, faint], 1)).sigmoid()
        return mask * torch.cat([reach, torch.ones_like(faint)], 1)
