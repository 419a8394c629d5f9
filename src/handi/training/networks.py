"""The networks of a model as one module: what steps run, what the optimiser sees, what is wrapped for DDP."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from diffusers import DDPMScheduler
from torch import Tensor, nn

from handi.data.clips import Batch
from handi.hands.detector import HandDetector
from handi.models.checkpoint import Checkpoint

PARTS = ("unet", "area_unet", "vae", "text_encoder")

# (networks, batch, loss settings, CPU generator) → named, weighted loss terms; "_…" are only logged
Step = Callable[["Networks", Batch, Any, torch.Generator], dict[str, Tensor]]


class Networks(nn.Module):
    """The parts of a checkpoint, named as in its folder, and the noise schedule as buffers."""

    alpha: Tensor  # T, sqrt(alpha_bar) at t = 0 … T - 1
    sigma: Tensor  # T, sqrt(1 - alpha_bar)
    prior_mask: Tensor | None  # H×W in [0, 1]

    def __init__(self, parts: Checkpoint, detector: HandDetector | None = None) -> None:
        super().__init__()
        for name in PARTS:
            setattr(self, name, getattr(parts, name))
        self.tokenizer = parts.tokenizer
        self.detector = detector
        schedule = DDPMScheduler.from_config(dict(parts.scheduler_config))
        self.prediction = str(schedule.config.prediction_type)  # epsilon, v_prediction or sample
        self.register_buffer("alpha", schedule.alphas_cumprod.sqrt(), persistent=False)
        self.register_buffer("sigma", (1 - schedule.alphas_cumprod).sqrt(), persistent=False)
        prior = None if parts.prior_mask is None else parts.prior_mask.float()
        self.register_buffer("prior_mask", prior, persistent=False)

    def train(self, mode: bool = True) -> Networks:
        """Training mode for the networks that are trained; the others stay as they are used."""
        self.training = mode
        for name in PARTS:
            if (network := getattr(self, name)) is not None:
                network.train(mode and any(p.requires_grad for p in network.parameters()))
        return self

    def into(self, parts: Checkpoint) -> Checkpoint:
        """`parts` with these networks and this prior in it."""
        prior = None if self.prior_mask is None else self.prior_mask.cpu()
        return replace(parts, **{name: getattr(self, name) for name in PARTS}, prior_mask=prior)


class StepModule(nn.Module):
    """A step as a module's forward pass: DDP and FSDP2 wrap the whole of it, whatever it calls within."""

    def __init__(self, networks: Networks, step: Step, settings: Any) -> None:
        super().__init__()
        self.networks, self.step, self.settings = networks, step, settings

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Named, weighted loss terms."""
        return self.step(self.networks, batch, self.settings, generator)
