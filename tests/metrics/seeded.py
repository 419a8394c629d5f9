"""Weights that are the same everywhere, for networks whose published weights cannot be had in a test."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def seeded(network: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    """A value for every weight of a network (which may be on the meta device), by order of names."""
    chance = torch.Generator().manual_seed(seed)
    values = {}
    for name, weight in sorted(network.state_dict().items()):
        shape = weight.shape
        if name.endswith("num_batches_tracked"):
            values[name] = torch.tensor(0)
        elif name.endswith("running_var"):
            values[name] = 0.5 + torch.rand(shape, generator=chance)
        elif name.endswith("weight") and len(shape) >= 2:
            values[name] = torch.randn(shape, generator=chance) * (2 / weight[0].numel()) ** 0.5
        elif name.endswith("weight"):
            values[name] = 0.5 + torch.rand(shape, generator=chance)
        else:  # biases, means, class token, positions
            values[name] = 0.2 * torch.randn(shape, generator=chance)
    return values
