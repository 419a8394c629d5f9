"""Frozen matrices in eight bits: half the memory of bfloat16, for a base that adapters are trained on."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BLOCKS = "blocks"  # in the names of the layers that a transformer repeats: nearly all of its weights


class EightBitLinear(nn.Linear):
    """A frozen linear layer whose weight is int8 with one scale per output: weight ≈ int8 · scale.

    The matrix is restored in the input's precision for each product, so it has a gradient for its input.
    """

    scale: Tensor  # outputs

    def forward(self, x: Tensor) -> Tensor:
        """As `nn.Linear`."""
        return F.linear(x, self.weight.to(x.dtype) * self.scale.to(x.dtype)[:, None], self.bias)


def to_eight_bit(network: nn.Module) -> int:
    """Round the frozen linear layers of a transformer's blocks, in place; gives how many."""
    layers = [
        module
        for name, module in network.named_modules()
        if type(module) is nn.Linear and not module.weight.requires_grad and _repeated(name)
    ]
    for layer in layers:
        weight = layer.weight.data.float()
        scale = weight.abs().amax(1).clamp(min=1e-12) / 127
        layer.weight = nn.Parameter((weight / scale[:, None]).round().to(torch.int8), requires_grad=False)
        layer.__class__ = EightBitLinear
        layer.register_buffer("scale", scale)
    return len(layers)


def _repeated(name: str) -> bool:
    return any(part.endswith(BLOCKS) for part in name.split(".")) and ".lora_" not in name
