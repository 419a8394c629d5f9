"""The exponential moving average of the trained weights (EMA)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor


class Ema:
    """Averaged weights, in float32 beside those that are trained."""

    def __init__(self, parameters: Mapping[str, Tensor], decay: float) -> None:
        self.decay = decay
        self.parameters = dict(parameters)
        self.values = {name: value.detach().clone() for name, value in parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """After step number `step` (from 1); the average is shorter at first, so that it is not the start."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.values.values()), list(self.parameters.values()), 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The averaged weights stand in the network within this block."""
        kept = [parameter.detach().clone() for parameter in self.parameters.values()]
        self.write()
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, value in zip(self.parameters.values(), kept, strict=True):
                    parameter.copy_(value)

    @torch.no_grad()
    def write(self) -> None:
        """Put the averaged weights into the network."""
        for name, parameter in self.parameters.items():
            parameter.copy_(self.values[name])
