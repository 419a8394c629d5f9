"""LTX-Video 0.9: a token is one cell of 32 px and eight frames, with a timestep of its own.

Parts of diffusers and transformers: LTXVideoTransformer3DModel, AutoencoderKLLTXVideo, T5EncoderModel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from handi.models.backbone import Layout
from handi.models.inpainting import Inpainting
from handi.models.lora import use_adapter


class Ltx(Inpainting):
    """1 + 8k frames are 1 + k latent frames; the decoder looks both ways in time."""

    max_tokens = 128
    embedding = "proj_in"
    fps = 25.0  # the network's positions are in seconds; diffusers' default

    def __init__(self, vae: Any, text_encoder: Any, tokenizer: Any, scheduler: Any) -> None:
        sizes = {"chunk": vae.temporal_compression_ratio, "cell": vae.spatial_compression_ratio}
        super().__init__(vae, text_encoder, tokenizer, scheduler, **sizes)

    def predict(
        self, network: Any, x_t: Tensor, t: Tensor, text: Tensor, layout: Layout, **more: Any
    ) -> Tensor:
        """noise − x0, B×C×f×h×w; known tokens get timestep 0."""
        use_adapter(network, str(layout.adapter))
        text = self.padded(text)
        f, h, w = x_t.shape[2:]
        cell = self.multiple
        with self._posed(network, layout):
            answer = network(
                layout.clamp(x_t).flatten(2).mT.to(network.dtype),  # B×tokens×C, in the order f, h, w
                text.to(network.dtype),
                layout.free.flatten(1) * t.to(layout.free).view(-1, 1),
                text.any(-1).to(network.dtype),  # rows beyond a sentence's end are zero
                num_frames=f,
                height=h,
                width=w,
                rope_interpolation_scale=(self.chunk / self.fps, cell, cell),
                return_dict=False,
                **more,
            )[0]
        return answer.mT.unflatten(2, (f, h, w))

    def _normalised(self, z: Tensor) -> Tensor:
        mean, std = self._statistics(z)
        return (z - mean) * self.vae.config.scaling_factor / std

    def _decoded(self, z: Tensor) -> Tensor:
        mean, std = self._statistics(z)
        raw = (z * std / self.vae.config.scaling_factor + mean).to(self.vae.dtype)
        clean = raw.new_zeros(len(raw)) if self.vae.config.timestep_conditioning else None
        return self.vae.decode(raw, clean, return_dict=False)[0].float()

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = (
            part.to(like).view(1, -1, 1, 1, 1) for part in (self.vae.latents_mean, self.vae.latents_std)
        )
        return mean, std

    def _decoded_chunks(self, z: Tensor, wanted: Sequence[int]) -> dict[int, Tensor]:
        """The whole clip is decoded for each, with the other latent frames held constant: the pixels of one
        depend on those before and after it."""
        pixels = {}
        for k in wanted:
            own = torch.zeros_like(z[:, :1])
            own[:, :, k] = 1
            video = self._decoded(z * own + z.detach() * (1 - own))
            pixels[k] = video[:, :, (k - 1) * self.chunk + 1 : k * self.chunk + 1] if k else video[:, :, :1]
        return pixels
