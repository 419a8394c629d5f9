"""EgoVLP's two towers: a space-time transformer for video and DistilBERT for text, one 256-d space.

Keys as in the published files (egovlp.pth, epic_mir_plus.pth). Sources: Lin et al. 2022 (EgoVLP); Bain et
al. 2021 (Frozen in Time), whose space-time attention this is.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import DistilBertConfig, DistilBertModel

from handi.core.errors import InputError, ModelError
from handi.evaluation.metrics.networks.running import IMAGENET_STATISTICS, fill, standardise

SIDE, PATCH = 224, 16  # pixels
WIDTH = 256  # of the common space
TEMPORAL = "video_model.temporal_embed"  # its length says how many frames the file was trained with


class _Attention(nn.Module):
    """Attention within groups of patches; the class token looks at everything, and every group at it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, frames: int, over: str) -> Tensor:
        """B×(1+F·n)×D; over "space": the patches of a frame, over "time": a place through the frames."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # B×heads×N×d each
        first = F.scaled_dot_product_attention(q[:, :, :1], k, v)

        def grouped(part: Tensor) -> Tensor:  # B×heads×groups×members×d
            patches = part[:, :, 1:].unflatten(2, (frames, -1))
            return patches if over == "space" else patches.transpose(2, 3)

        def with_class(part: Tensor) -> Tensor:
            groups = grouped(part)
            token = part[:, :, None, :1].expand(-1, -1, groups.shape[2], -1, -1)
            return torch.cat([token, groups], dim=3)

        rest = F.scaled_dot_product_attention(grouped(q), with_class(k), with_class(v))
        rest = (rest if over == "space" else rest.transpose(2, 3)).flatten(2, 3)
        return self.proj(torch.cat([first, rest], dim=2).transpose(1, 2).flatten(2))


class _Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class _Block(nn.Module):
    """Time, space, MLP. What space adds is added to the block's input, not to what time made of it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width, eps=1e-6) for _ in range(3))
        self.attn, self.timeattn = _Attention(width, heads), _Attention(width, heads)
        self.mlp = _Mlp(width)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        in_time = x + self.timeattn(self.norm3(x), frames, "time")
        x = x + self.attn(self.norm1(in_time), frames, "space")
        return x + self.mlp(self.norm2(x))


class SpaceTimeTransformer(nn.Module):
    """B×F×3×224×224, standardised → B×D, the class token. F may be less than the slots of the file."""

    def __init__(self, slots: int, width: int = 768, depth: int = 12, heads: int = 12) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, (SIDE // PATCH) ** 2 + 1, width))
        self.temporal_embed = nn.Parameter(torch.zeros(1, slots, width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, PATCH, PATCH)})
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, video: Tensor) -> Tensor:
        batch, frames = video.shape[:2]
        if frames > self.temporal_embed.shape[1]:
            raise InputError(f"EgoVLP reads {self.temporal_embed.shape[1]} frames at most, not {frames}")
        patches = self.patch_embed["proj"](video.flatten(0, 1)).flatten(2).transpose(1, 2)
        patches = patches.unflatten(0, (batch, frames))  # B×F×n×D
        patches = patches + self.pos_embed[:, None, 1:] + self.temporal_embed[:, :frames, None]
        first = (self.cls_token + self.pos_embed[:, :1]).expand(batch, -1, -1)
        x = torch.cat([first, patches.flatten(1, 2)], dim=1)
        for block in self.blocks:
            x = block(x, frames)
        return self.norm(x)[:, 0]


class EgoVLP(nn.Module):
    """The two towers and their projections."""

    def __init__(self, slots: int, width: int = 768, depth: int = 12, heads: int = 12) -> None:
        super().__init__()
        self.video_model = SpaceTimeTransformer(slots, width, depth, heads)
        self.text_model = DistilBertModel(DistilBertConfig())
        self.txt_proj = nn.Sequential(nn.ReLU(), nn.Linear(self.text_model.config.dim, WIDTH))
        self.vid_proj = nn.Sequential(nn.Linear(width, WIDTH))

    @property
    def slots(self) -> int:
        """Frames that the video tower was trained with: 16 for EPIC-KITCHENS, 4 for Ego4D."""
        return self.video_model.temporal_embed.shape[1]

    def embed_video(self, video: Tensor) -> Tensor:
        """B×F×3×H×W in [0, 1] → B×256."""
        flat = standardise(shorter_side_and_crop(video.flatten(0, 1)), IMAGENET_STATISTICS)
        return self.vid_proj(self.video_model(flat.unflatten(0, video.shape[:2])))

    def embed_text(self, tokens: Tensor) -> Tensor:
        """B×N token ids without padding → B×256."""
        return self.txt_proj(self.text_model(input_ids=tokens).last_hidden_state[:, 0])


def shorter_side_and_crop(pictures: Tensor) -> Tensor:
    """B×3×224×224 as LEGO's metrics: the shorter side to 224, bilinear without antialiasing, centre crop.

    A 448×256 frame loses 43 % of its width; it is what EgoVLP's weights are scored with.
    """
    height, width = pictures.shape[-2:]
    short = min(height, width)
    size = (int(SIDE * height / short), int(SIDE * width / short))
    pictures = F.interpolate(pictures, size=size, mode="bilinear", align_corners=False)
    top, left = (round((side - SIDE) / 2) for side in size)
    return pictures[..., top : top + SIDE, left : left + SIDE]


def even_frames(total: int, slots: int) -> list[int]:
    """The frames that are read of a longer video: the middle of each of `slots` equal stretches, as Frozen
    in Time samples for evaluation; all of them where there are no more than `slots`."""
    if total <= slots:
        return list(range(total))
    edges = [total * i // slots for i in range(slots + 1)]
    return [(start + end - 1) // 2 for start, end in pairwise(edges)]


def build_egovlp(tensors: Mapping[str, Tensor], where: str | Path, *, slots: int | None = None) -> EgoVLP:
    """Both towers with a file's weights; `slots`, where given, is what the file must have been trained with.

    Raises: ModelError.
    """
    # old transformers kept the positions 0, 1, 2, … among the weights
    kept = {k: v for k, v in tensors.items() if not k.endswith("position_ids")}
    temporal = kept.get(TEMPORAL)
    found = temporal.shape[1] if temporal is not None and temporal.ndim == 3 else 0
    if slots is not None and found and found != slots:
        raise ModelError(
            f"is EgoVLP of {found} frames, not of {slots}",
            where=where,
            hint="epic_mir_plus.pth has 16, egovlp.pth has 4",
        )
    with torch.device("meta"):
        network = EgoVLP(found or slots or 16)
    network = fill(network, kept, where, "EgoVLP")
    embeddings = network.text_model.embeddings
    if isinstance(positions := getattr(embeddings, "position_ids", None), Tensor):  # a buffer, not a weight
        embeddings.position_ids = torch.arange(positions.shape[-1])[None]
    return network
