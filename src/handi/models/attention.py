"""Attention with rotary embedding, and the other small parts of the lean networks.

Inside, features are channels-last, B×F×h×w×C.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from handi.models.autoencoder import channels_last, zero_

FUSED_FROM = 64  # tokens


class Attention(nn.Module):
    """Multi-head attention over the second last dimension of … × tokens × width.

    source: width of other tokens to attend to; if it equals `width`, tokens attend to each other as well.
    rotary: rotary embedding of the tokens' places (`rotary_at`), so that attention depends on distances;
    source_rotary: that of the other tokens, if they are at other places. The output starts at zero: a new
    block changes nothing.
    """

    def __init__(self, width: int, heads: int, source: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(source or width, 2 * width, bias=False)
        self.own = nn.Linear(width, 2 * width, bias=False) if source == width else None
        self.query_norm, self.key_norm = (nn.RMSNorm(width // heads, eps=1e-6) for _ in range(2))
        self.out = zero_(nn.Linear(width, width))

    def forward(
        self,
        x: Tensor,
        source: Tensor | None = None,
        *,
        rotary: Tensor | None = None,
        source_rotary: Tensor | None = None,
    ) -> Tensor:
        query = self.query_norm(self._heads(self.query(x)))
        key, value = self._keys(self.key_value, x if source is None else source)
        if rotary is not None:
            query, key = (
                rotate(query, rotary),
                rotate(key, rotary if source_rotary is None else source_rotary),
            )
        if self.own is not None:
            own_key, own_value = self._keys(self.own, x)
            own_key = own_key if rotary is None else rotate(own_key, rotary)
            many = own_key.shape[:-2]
            key = torch.cat([own_key, key.expand(*many, -1, -1)], -2)
            value = torch.cat([own_value, value.expand(*many, -1, -1)], -2)
        # Under autocast the norms answer in float32: it is the values' precision that is computed in.
        return self.out(attend(query.to(value), key.to(value), value).transpose(-2, -3).flatten(-2))

    def _keys(self, project: nn.Module, source: Tensor) -> tuple[Tensor, Tensor]:
        key, value = (self._heads(part) for part in project(source).chunk(2, -1))
        return self.key_norm(key), value

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(-2, -3)


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(q·k) v over … × tokens × features.

    Torch's fused kernel serves many tokens on a GPU, and on a CPU where no gradient is asked for. Else, and
    with tokens by the dozen anywhere (a clip's frames), it is slower than what is written out here.
    """
    fused = query.device.type == "cuda" or not torch.is_grad_enabled()
    if fused and query.shape[-2] >= FUSED_FROM:
        lead = query.shape[:-2]
        key, value = key.expand(*lead, -1, -1), value.expand(*lead, -1, -1)
        query, key, value = (part.reshape(-1, *part.shape[-3:]) for part in (query, key, value))
        return F.scaled_dot_product_attention(query, key, value).unflatten(0, lead[:-1])
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    return scores.softmax(-1) @ value


class Mlp(nn.Sequential):
    def __init__(self, width: int) -> None:
        super().__init__(
            nn.Linear(width, 3 * width), nn.GELU(approximate="tanh"), zero_(nn.Linear(3 * width, width))
        )


class Conv(nn.Module):
    """A 3×3 convolution over each frame of B×F×h×w×C."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        channels_last(self)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x.flatten(0, 1).permute(0, 3, 1, 2))
        return y.permute(0, 2, 3, 1).unflatten(0, x.shape[:2])


def rotary_of_cells(cells: Sequence[int], like: Tensor, heads: int) -> Tensor:
    """Rotary embedding of the cells of an h×w picture: hw×2×(features/2)."""
    down, across = (torch.arange(count, device=like.device).float() for count in cells)
    return rotary_at([part.flatten() for part in torch.meshgrid(down, across, indexing="ij")], like, heads)


def rotary_at(places: Sequence[Tensor], like: Tensor, heads: int) -> Tensor:
    """Cosines and sines of a head's features at places …: …×2×(features/2), an equal share per coordinate."""
    half = like.shape[-1] // heads // 2
    shares = [half // len(places)] * (len(places) - 1)
    shares.append(half - sum(shares))
    angles = torch.cat(
        [
            place[..., None] * torch.logspace(-1.5, 0.2, share, device=like.device)
            for place, share in zip(places, shares, strict=True)
        ],
        -1,
    )
    return torch.stack([angles.cos(), angles.sin()], -2).to(like.dtype)


def rotate(x: Tensor, rotary: Tensor) -> Tensor:
    """Apply a rotary embedding …×tokens×2×(features/2) to x …×heads×tokens×features."""
    cosine, sine = (rotary.unsqueeze(-4) if rotary.dim() > 3 else rotary).unbind(-2)
    first, second = x.chunk(2, -1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], -1)


def grid(x: Tensor) -> Tensor:
    """Sinusoids of the place, h×w×C for x B×F×h×w×C, over the picture whatever its size."""
    height, width, channels = x.shape[2:]
    down = sinusoid((torch.arange(height, device=x.device) + 0.5) / height, channels // 2, 1.0, 32.0)
    across = sinusoid((torch.arange(width, device=x.device) + 0.5) / width, channels // 2, 1.0, 32.0)
    both = [down[:, None].expand(-1, width, -1), across[None].expand(height, -1, -1)]
    return torch.cat(both, -1).to(x.dtype)


def sinusoid(x: Tensor, width: int, low: float, high: float) -> Tensor:
    """… → … × width: cosines and sines of x at frequencies from `low` to `high`, in radians times π/2."""
    octaves = torch.linspace(math.log(low), math.log(high), width // 2, device=x.device)
    angles = x[..., None].float() * octaves.exp() * (math.pi / 2)
    return torch.cat([angles.cos(), angles.sin()], -1)
