"""Hands as jointed layers: where their joints are, and the flow by which their bones carry a picture along.

A hand has the detector's 21 joints and an elbow, so that its forearm is a bone too. Positions are in pixels,
x then y, the middle of pixel i at i + 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from handi.hands.joints import BONES, JOINTS_A_HAND

HANDS = 2
ELBOW = JOINTS_A_HAND  # behind the wrist, number 0
POINTS = JOINTS_A_HAND + 1
LIMBS = (*BONES, (ELBOW, 0))
KNUCKLES = (5, 9, 13, 17)
MIDDLE = 9
FOREARM = 2.5  # lengths from the wrist to the middle knuckle, before training says otherwise
FOLLOWS = 0.5  # share of its wrist's way that an elbow goes, before training says otherwise
SHORT = 1.0  # px: a bone that is shorter than that points nowhere
REACH = 16.0  # px of a joint's move for an output of 1


@dataclass(frozen=True)
class Skeletons:
    """Both hands of a clip, left first."""

    start: Tensor  # B×2×22×2 px in the context image
    joints: Tensor  # B×F×2×22×2 px in each frame
    presence: Tensor  # B×2 logits: the context image shows that hand


class JointReader(nn.Module):
    """Finds the joints in the context image, and says where each is in every frame."""

    rest: Tensor

    def __init__(self, scene: int, inner: int) -> None:
        super().__init__()
        self.first = _Gaze(scene)
        self.later = _Gaze(inner)
        self.presence = nn.Linear(scene, 1)
        self.register_buffer("rest", _rest_hands(), persistent=False)  # 2×22×2, shares of the picture

    def forward(self, scene: Tensor, places: Tensor, size: tuple[int, int]) -> Skeletons:
        """scene B×h×w×C and places B×F×h'×w'×inner, features of the context image and of the frames; size
        (H, W) px of the picture."""
        batch, frames = places.shape[:2]
        seen, where = self.first(scene[:, None], size)
        offset = self.first.out_of(seen, torch.zeros_like(where))[:, 0].view(batch, HANDS, POINTS, 2)
        rest = self.rest * self.rest.new_tensor([size[1], size[0]])
        looked = where[:, 0].view(batch, HANDS, POINTS, 2) - where.new_tensor([size[1] / 2, size[0] / 2])
        start = rest + looked + offset
        wrist = start[:, :, 0]
        elbow = wrist + FOREARM * (wrist - start[:, :, MIDDLE]) + offset[:, :, ELBOW]
        start = torch.cat([start[:, :, :ELBOW], elbow[:, :, None]], 2)
        presence = self.presence(seen[:, 0].view(batch, HANDS, POINTS, -1).mean(2))[..., 0]

        seen, where = self.later(places, size)
        away = where - start.flatten(1, 2)[:, None]
        move = self.later.out_of(seen, away).view(batch, frames, HANDS, POINTS, 2)
        elbow = FOLLOWS * move[:, :, :, 0] + move[:, :, :, ELBOW]
        move = torch.cat([move[:, :, :, :ELBOW], elbow[:, :, :, None]], 3)
        return Skeletons(start, start[:, None] + move, presence.float())


class _Gaze(nn.Module):
    """Attention of every joint over a picture's features: what it sees, and where that is."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.query = nn.Parameter(torch.randn(HANDS * POINTS, width) / width**0.5)
        self.key = nn.Linear(width, width, bias=False)
        self.hidden = nn.Linear(width, width)
        self.out = nn.Parameter(torch.zeros(HANDS * POINTS, width + 2, 2))

    def forward(self, features: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """features B×F×h×w×C → what is seen B×F×44×C, and the places B×F×44×2 px."""
        height, width = features.shape[2:4]
        tokens = self.norm(features.flatten(2, 3))
        attention = (self.query @ self.key(tokens).transpose(-1, -2)).softmax(-1)  #    B×F×44×N
        places = _grid((height, width), size, features.device)
        return F.gelu(self.hidden(attention @ tokens)), attention.float() @ places

    def out_of(self, seen: Tensor, away: Tensor) -> Tensor:
        """B×F×44×2 px from what is seen and from how far away, px, that is."""
        both = torch.cat([seen, (away / REACH).to(seen)], -1)
        return torch.einsum("bfjc,jcd->bfjd", both, self.out).float() * REACH


def carry(skeletons: Skeletons, size: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """The flow by which bones carry what surrounds them: B×F×2×2×h'×w' px on a grid h'×w' over H×W.

    At a place p of frame f it points to where the context image has what is seen there. Each bone turns and
    shifts its surroundings, and stretches them along itself but not across; a place follows the bones near
    to it, by the inverse fourth power of their distance (linear blend skinning). Joints that have not moved
    give a flow of exactly 0.
    """
    joints, start = skeletons.joints, skeletons.start[:, None]
    origin, along, across, length = _bones(joints)  #                                B×F×2×L×…
    origin0, along0, across0, length0 = _bones(start)
    places = _grid(grid, size, joints.device)  #                                     N×2
    rel = places - origin[..., None, :]  #                                           B×F×2×L×N×2
    s = (rel * along[..., None, :]).sum(-1)
    c = (rel * across[..., None, :]).sum(-1)
    on = torch.minimum(s.clamp(min=0), length[..., None])  # the part of s that lies on the bone
    distance = (s - on).square() + c.square()
    stretched = s + on * (length0 / length - 1)[..., None]
    flow = (
        (origin0 - origin)[..., None, :]
        + stretched[..., None] * along0[..., None, :]
        - s[..., None] * along[..., None, :]
        + c[..., None] * (across0 - across)[..., None, :]
    )
    weight = (distance + 1).square().reciprocal()
    weight = weight / weight.sum(3, keepdim=True)
    return (weight[..., None] * flow).sum(3).transpose(-1, -2).unflatten(-1, grid)


def nearness(start: Tensor, size: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """How far inside a hand each place of the context image lies: B×2×h'×w', 0 at the flesh's edge.

    In units of the flesh's half width, a fixed share of the palm's length; the forearm's is twice it.
    """
    origin, along, across, length = _bones(start)
    rel = _grid(grid, size, start.device) - origin[..., None, :]  #                  B×2×L×N×2
    s = (rel * along[..., None, :]).sum(-1)
    c = (rel * across[..., None, :]).sum(-1)
    on = torch.minimum(s.clamp(min=0), length[..., None])
    distance = ((s - on).square() + c.square() + 1e-4).sqrt()
    thick = torch.ones(len(LIMBS), 1, device=start.device)
    thick[-1] = 2
    palm = (start[..., KNUCKLES, :] - start[..., :1, :]).norm(dim=-1).mean(-1)
    half = (0.3 * palm).clamp(min=1)[..., None, None]
    return (1 - distance / (half * thick)).amax(2).unflatten(-1, grid)


def _bones(joints: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """joints …×22×2 → of every bone its first end …×L×2, unit vectors along and across it, its length."""
    first, second = (joints[..., [bone[end] for bone in LIMBS], :] for end in range(2))
    span = second - first
    length = (span.square().sum(-1) + SHORT**2).sqrt()
    along = span / length[..., None]
    across = torch.stack([-along[..., 1], along[..., 0]], -1)
    return first, along, across, length


def _grid(cells: tuple[int, int], size: tuple[int, int], device: torch.device) -> Tensor:
    """Middles of h×w cells of a picture of H×W px: (h·w)×2, x then y."""
    down, across = (
        (torch.arange(count, device=device) + 0.5) * (side / count)
        for count, side in zip(cells, size, strict=True)
    )
    return torch.stack(torch.meshgrid(across, down, indexing="xy"), -1).flatten(0, 1)


def _rest_hands() -> Tensor:
    """Two open hands side by side, fingers up: where to begin to look. 2×22×2, shares of the picture."""
    thumb = [(0.05, -0.02), (0.08, -0.05), (0.10, -0.08), (0.12, -0.10)]
    fingers = [(across, -0.1 - 0.04 * joint) for across in (0.03, 0.01, -0.01, -0.03) for joint in range(4)]
    left = torch.tensor([(0.0, 0.0), *thumb, *fingers, (0.0, 0.25)])
    right = left * torch.tensor([-1.0, 1.0])
    return torch.stack([left + torch.tensor([0.3, 0.75]), right + torch.tensor([0.7, 0.75])])
