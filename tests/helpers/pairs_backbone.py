"""Pairs: a small backbone of the other kind. Two frames share a latent frame, and what is known stays clean.

The example of CONTRIBUTING.md. It does what today's video transformers do: an autoencoder that compresses
time (1 + 2k frames are 1 + k latent frames), rectified flow, known cells at timestep 0 in the input, and both
stages as inpainting.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn import functional as F

from handi.method import latents
from handi.method.diffusion import Flow
from handi.models.backbone import Given, Layout, Traits


class Pairs:
    """A frame autoencoder's latents, averaged over pairs of frames after the first."""

    clamps, chunk = True, 2

    def __init__(self, vae: Any, text_encoder: Any, tokenizer: Any, scheduler: Any) -> None:
        self.vae, self.text_encoder, self.tokenizer = vae, text_encoder, tokenizer
        self.process = Flow(scheduler)
        self.multiple = 8

    def traits(self, network: Any) -> Traits:
        return Traits(one_mask=True)

    def encode(self, video: Tensor) -> Tensor:
        z = latents.encode(self.vae, video)
        return torch.cat([z[:, :, :1], z[:, :, 1:].unflatten(2, (-1, 2)).mean(3)], 2)

    def decode(self, z: Tensor) -> Tensor:
        pixels = latents.decode(self.vae, z)
        return torch.cat([pixels[:, :, :1], pixels[:, :, 1:].repeat_interleave(2, 2)], 2)

    def frames(self, z: Tensor, clips: Tensor, frames: Tensor) -> Tensor:
        pairs, which = torch.stack([clips, (frames + 1) // 2]).unique(dim=1, return_inverse=True)
        return latents.decode(self.vae, z[pairs[0], :, pairs[1]][:, :, None])[which, :, 0]

    def masks(self, z: Tensor, frames: Tensor | None = None) -> Tensor:
        return latents.decode(self.vae, z[:, :, -1:])

    def text(self, texts: Any, device: torch.device, notes: list[str] | None = None) -> Tensor:
        return latents.text_states(self.text_encoder, self.tokenizer, texts, device, notes)

    def clip(self, network: Any, given: Given, area: Tensor) -> Layout:
        z, context, frames = given.latents, given.latents[:, :, :1], given.frame_index.shape[1]
        cells = F.adaptive_max_pool2d(area[:, None].float(), z.shape[-2:])[:, :, None]
        still = context.expand(-1, -1, 1 + (frames - 1) // 2, -1, -1)
        free = cells.expand(-1, -1, still.shape[2], -1, -1).clone()
        free[:, :, 0] = 0  # the context image
        z = still * (1 - free) + z * free if z.shape[2] > 1 else still
        return Layout(z, free, cells, context, given.frame_index)

    def area(self, network: Any, given: Given, prior: Tensor, masks: Tensor | None = None) -> Layout:
        """Three pictures in a row: the context, the prior, and the mask, which is to be made."""
        shown = [prior[:, None], torch.zeros_like(prior)[:, None] if masks is None else masks]
        context = given.latents[:, :, :1]
        z = torch.cat([context, *(self.encode(latents.grey(one)) for one in shown)], 2)
        free = torch.zeros_like(z[:, :1])
        free[:, :, 2] = 1
        return Layout(z, free, free[:, :, 2:], context, given.frame_index[:, :1])

    def predict(self, network: Any, x_t: Tensor, t: Tensor, text: Tensor, layout: Layout, **more: Any) -> Any:
        per_cell = layout.free * t.float().view(-1, 1, 1, 1, 1)
        return network(layout.clamp(x_t), per_cell, text)


class Mixer(ModelMixin, ConfigMixin):
    """A network of two convolutions over space and time, told a timestep for each cell."""

    @register_to_config
    def __init__(self, channels: int, text: int) -> None:
        super().__init__()
        self.enter = nn.Conv3d(channels + 1, 16, 3, padding=1)
        self.words = nn.Linear(text, 16)
        self.leave = nn.Conv3d(16, channels, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor, text: Tensor) -> Tensor:
        hidden = self.enter(torch.cat([x, t / 1000], 1)) + self.words(text.mean(1))[..., None, None, None]
        return self.leave(F.silu(hidden))
