"""Framewise: networks over the latents of single frames. AnimateAnything's UNet, and LiteTransformer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from handi.method import latents
from handi.method.diffusion import Betas
from handi.models.backbone import Given, Layout, Traits

DECODED_TOGETHER = 4  # frames that `decode` holds the activations of


class Framewise:
    """An autoencoder of pictures, CLIP's text encoder, a schedule of betas, and the mask as a channel.

    Its networks have `traits` and `mask_mode`, and take `condition_latent`, `mask`, `motion`, `frame_index`,
    `poses` and `places` by name; what they have no use for they do not read.
    """

    clamps = False  # the networks were trained to draw what is known, too
    chunk = 1

    def __init__(self, vae: Any, text_encoder: Any, tokenizer: Any, scheduler: Any) -> None:
        self.vae, self.text_encoder, self.tokenizer = vae, text_encoder, tokenizer
        self.process = Betas(scheduler)
        self.multiple = 2 ** (len(vae.config.block_out_channels) - 1)

    def traits(self, network: Any) -> Traits:
        """The network's own."""
        return network.traits

    def encode(self, video: Tensor) -> Tensor:
        """B×3×F×H×W in [-1, 1] → B×C×F×h×w float32; no gradient."""
        return latents.encode(self.vae, video)

    def decode(self, z: Tensor) -> Tensor:
        """B×C×F×h×w → B×3×F×H×W float32 about [-1, 1], a few frames at a time."""
        return latents.decode(self.vae, z, together=DECODED_TOGETHER)

    def frames(self, z: Tensor, clips: Tensor, frames: Tensor) -> Tensor:
        """N frames of the batch, N×3×H×W about [-1, 1], with a gradient."""
        return latents.decode(self.vae, z[clips, :, frames][:, :, None])[:, :, 0]

    def masks(self, z: Tensor, frames: Tensor | None = None) -> Tensor:
        """Stage 1's video, or n frames of it: B×3×n×H×W about [-1, 1], with a gradient."""
        return self.decode(z) if frames is None else latents.decode(self.vae, z[:, :, frames])

    def text(self, texts: Sequence[str], device: torch.device, notes: list[str] | None = None) -> Tensor:
        """CLIP's last hidden states, B×N×D."""
        return latents.text_states(self.text_encoder, self.tokenizer, texts, device, notes)

    def clip(self, network: Any, given: Given, area: Tensor) -> Layout:
        """All frames; outside the area B×H×W they are the first one (§3)."""
        z, context = given.latents, given.latents[:, :, :1]
        mask = latents.mask_cells(area.to(z.device), z.shape[-2:], network.mask_mode)
        # A cell that the area touches is free, where the mask says how much of it is in the area.
        free = (mask > 0).to(z) if network.mask_mode == "area" else (mask >= 0.5).to(z)
        if z.shape[2] == given.frame_index.shape[1] > 1:
            z = context * (1 - free) + z * free
        else:
            z = _still(context, given.frame_index.shape[1])
        return self._layout(z, free, mask, context, given, given.poses)

    def area(self, network: Any, given: Given, prior: Tensor, masks: Tensor | None = None) -> Layout:
        """A video of the mask, with the prior B×H×W as mask channel: all of its cells are free."""
        context = given.latents[:, :, :1]
        frames = 1 if network.traits.one_mask else given.frame_index.shape[1]
        z = context if masks is None else self.encode(latents.grey(masks))
        mask = latents.mask_cells(prior.to(context.device), context.shape[-2:], network.mask_mode)
        # The union is the same in every frame: it is encoded once.
        return self._layout(_still(z, frames), torch.ones_like(mask), mask, context, given, None)

    def _layout(
        self, z: Tensor, free: Tensor, mask: Tensor, context: Tensor, given: Given, poses: Tensor | None
    ) -> Layout:
        index = given.frame_index[:, : z.shape[2]].to(z.device)
        motion, poses = (None if part is None else part.to(z.device) for part in (given.motion, poses))
        return Layout(z, free, mask, context, index, motion, poses)

    def predict(self, network: Any, x_t: Tensor, t: Tensor, text: Tensor, layout: Layout, **more: Any) -> Any:
        """The network's answer, B×C×F×h×w."""
        traits = network.traits
        return network(
            x_t,
            t,
            text,
            condition_latent=layout.context,
            mask=layout.area,
            motion=layout.motion if traits.motion else None,
            frame_index=layout.frame_index,
            poses=layout.poses if traits.poses else None,
            places=layout.cells,
            **more,
        )


def _still(z: Tensor, frames: int) -> Tensor:
    """B×C×1×h×w (or already all frames) → B×C×frames×h×w."""
    return z.expand(-1, -1, frames, -1, -1)
