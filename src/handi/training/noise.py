"""What is random in a step: timesteps and noise. All from the generator, on its device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from handi.method import losses
from handi.models.backbone import Process
from handi.training.recipe import LossRecipe


class Noised:
    """Latents of a batch noised to random timesteps, and the loss on what a network makes of them."""

    def __init__(self, process: Process, z: Tensor, recipe: LossRecipe, generator: torch.Generator) -> None:
        self.kind = process.kind
        t = process.timesteps(len(z), recipe.high_noise, recipe.pure_noise, generator, recipe.low_noise)
        self.t = t.to(z.device)
        self.alpha, self.sigma = process.levels(self.t)
        self.z, self.recipe = z, recipe
        self.noise = normal(z.shape, generator).to(z)
        wide = [part.view(-1, 1, 1, 1, 1) for part in (self.alpha, self.sigma)]
        self.x_t = wide[0] * z + wide[1] * self.noise

    def loss(self, prediction: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
        """L_noise (Eq. 3) in the kind of prediction that the schedule asks for."""
        target = losses.target_of(self.z, self.noise, self.alpha, self.sigma, self.kind)
        weight = losses.snr_weight(
            self.alpha, self.sigma, self.kind, self.recipe.snr_gamma, least=self.recipe.snr_least
        )
        return losses.noise_loss(prediction, target, weight, mask)

    def x0(self, prediction: Tensor) -> Tensor:
        """ẑ0 (Eq. 4)."""
        return losses.predict_x0(prediction, self.x_t, self.alpha, self.sigma, self.kind)

    def below(self, limit: float | None) -> Tensor:
        """B bool: the clips whose noise is low enough for losses on pixels."""
        if limit is None:
            return torch.ones_like(self.t, dtype=torch.bool)
        return losses.noise_level_weight(self.alpha, self.sigma, limit) > 0


def uniform(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Numbers in [0, 1)."""
    return torch.rand(tuple(shape), generator=generator, device=generator.device)


def normal(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(tuple(shape), generator=generator, device=generator.device)


def integers(below: int, count: int, generator: torch.Generator) -> Tensor:
    """`count` whole numbers in [0, below)."""
    return torch.randint(below, (count,), generator=generator, device=generator.device)
