"""Wan: 2.2 TI2V-5B, and the image-to-video and inpainting models whose network takes condition channels.

Parts of diffusers and transformers: WanTransformer3DModel, AutoencoderKLWan, UMT5EncoderModel, and a
CLIPVisionModel where the network attends to the image. Each model is told what is known as it was trained:

    TI2V-5B           one timestep per token: known tokens stand clean at timestep 0
    2.1 I2V, Fun-InP  channels beside the noisy latents: which cells are known, and the latents of the clip
                      with grey where it is not known
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from handi.models.backbone import Given, Layout
from handi.models.inpainting import Inpainting
from handi.models.lora import use_adapter


class Wan(Inpainting):
    """A token is 2×2 cells of 16 px; 1 + 4k frames are 1 + k latent frames."""

    patch = 2
    embedding = "patch_embedding"

    def __init__(self, vae: Any, text_encoder: Any, tokenizer: Any, scheduler: Any) -> None:
        sizes = {"chunk": vae.config.scale_factor_temporal, "cell": vae.config.scale_factor_spatial}
        super().__init__(vae, text_encoder, tokenizer, scheduler, **sizes)

    def clip(self, network: Any, given: Given, area: Tensor) -> Layout:
        """As all of them; where channels are read, those of the still clip with grey in its free part."""
        layout = super().clip(network, given, area)
        if not takes_channels(network.config):
            return layout
        video = self._context(given)
        video = video.expand(-1, -1, given.frame_index.shape[1], -1, -1).clone()
        hole = F.interpolate(layout.area[:, :, 0], video.shape[-2:], mode="nearest")
        video[:, :, 1:] *= 1 - hole[:, :, None]
        return self._conditioned(network, layout, self.encode(video), given)

    def area(self, network: Any, given: Given, prior: Tensor, masks: Tensor | None = None) -> Layout:
        """As all of them; where channels are read, those of a grey picture stand for the mask."""
        layout = super().area(network, given, prior, masks)
        if not takes_channels(network.config):
            return layout
        grey = self.encode(torch.zeros_like(prior)[:, None, None].expand(-1, 3, -1, -1, -1))
        return self._conditioned(network, layout, layout.clamp(grey.to(layout.z)), given)

    def _conditioned(self, network: Any, layout: Layout, latents: Tensor, given: Given) -> Layout:
        known = (1 - layout.free).repeat(1, self.chunk, 1, 1, 1)  # a channel for each frame of a latent one
        image = None
        if network.config.image_dim is not None:
            image = image_states(network.image_encoder, self._context(given)[:, :, 0])
        return replace(layout, condition=torch.cat([known, latents], 1), image=image)

    def predict(
        self, network: Any, x_t: Tensor, t: Tensor, text: Tensor, layout: Layout, **more: Any
    ) -> Tensor:
        """noise − x0, B×C×f×h×w. Where channels tell what is known, x_t is noisy everywhere; the answer is
        then exact in known cells, so that sampling takes them straight to what they are."""
        use_adapter(network, str(layout.adapter))
        text = self.padded(text).to(network.dtype)
        t = t.to(layout.free).view(-1)
        if layout.condition is None:
            free = layout.free[:, 0, :, :: self.patch, :: self.patch]
            times = (free * t.view(-1, 1, 1, 1)).flatten(1)  # B×tokens, in the order f, h, w
            x = layout.clamp(x_t).to(network.dtype)
            with self._posed(network, layout):
                return network(x, times, text, return_dict=False, **more)[0]
        x = torch.cat([x_t, layout.condition.to(x_t)], 1).to(network.dtype)
        image = None if layout.image is None else layout.image.to(network.dtype)
        with self._posed(network, layout):
            answer = network(x, t.expand(len(x)), text, image, return_dict=False, **more)[0]
        sigma = self.process.levels(t)[1].clamp(min=1e-3).view(-1, 1, 1, 1, 1)
        return answer * layout.free + (x_t - layout.z) / sigma * (1 - layout.free)

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        config = self.vae.config
        mean, std = (
            like.new_tensor(part).view(1, -1, 1, 1, 1) for part in (config.latents_mean, config.latents_std)
        )
        return mean, std

    def _normalised(self, z: Tensor) -> Tensor:
        mean, std = self._statistics(z)
        return (z - mean) / std

    def _raw(self, z: Tensor) -> Tensor:
        mean, std = self._statistics(z)
        return (z * std + mean).to(self.vae.dtype)

    def _decoded(self, z: Tensor) -> Tensor:
        return self.vae.decode(self._raw(z), return_dict=False)[0].float()

    def _decoded_chunks(self, z: Tensor, wanted: Sequence[int]) -> dict[int, Tensor]:
        return decoded_chunks(self.vae, self._raw(z), wanted)


@apply_forward_hook  # as `vae.decode` has it: an offloaded autoencoder is moved before its layers are called
def decoded_chunks(vae: Any, raw: Tensor, wanted: Sequence[int]) -> dict[int, Tensor]:
    """The decoder's own loop over latent frames, whose caches make the pixels exact. Frames before a
    wanted one fill the caches without a gradient. `vae.decode` would clamp, which cuts the gradient."""
    pixels = {}
    vae.clear_cache()
    cache = vae._feat_map
    with _recomputed([vae.decoder.mid_block, *vae.decoder.up_blocks]):
        for k in range(max(wanted) + 1):
            frame = raw[:, :, k : k + 1]
            frame = frame if k in wanted else frame.detach()
            with torch.set_grad_enabled(k in wanted and torch.is_grad_enabled()):
                one = vae.post_quant_conv(frame)
                out = vae.decoder(one, feat_cache=cache, feat_idx=[0], first_chunk=k == 0)
            cache = [part.detach() if isinstance(part, Tensor) else part for part in cache]
            if k in wanted:
                patch = vae.config.patch_size
                pixels[k] = (out if patch is None else unpatchify(out, patch_size=patch)).float()
    vae.clear_cache()
    return pixels


def takes_channels(config: Any) -> bool:
    """Whether a network of this configuration is told by channels what is known: 36 of them for Wan 2.1's
    16 latent channels, four for the mask and 16 for the latents."""
    return config["out_channels"] is not None and config["in_channels"] != config["out_channels"]


@torch.no_grad()
def image_states(encoder: Any, pictures: Tensor) -> Tensor:
    """What Wan attends to of pictures B×3×H×W in [-1, 1]: CLIP's last states but one, B×N×D.

    Pictures are stretched to CLIP's square, as in Wan's own code; diffusers cuts a square out of them.
    """
    encoder.eval()  # the network that it is part of may be in training
    side = encoder.config.image_size
    squares = F.interpolate(pictures.float(), (side, side), mode="bicubic", align_corners=False)
    mean, std = (squares.new_tensor(part).view(3, 1, 1) for part in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD))
    squares = ((squares / 2 + 0.5 - mean) / std).to(encoder.device, encoder.dtype)
    return encoder(squares, output_hidden_states=True).hidden_states[-2].to(pictures.device)


@contextmanager
def _recomputed(blocks: Sequence[Any]) -> Iterator[None]:
    """Gradient checkpointing of decoder blocks that change a cache in place, within this block.

    A decoded latent frame keeps gigabytes for its backward pass (docs/backbones.md, hand loss), and
    AutoencoderKLWan has no checkpointing of its own. A recomputation must see the cache as it was before the
    block, and leave the present one alone.
    """

    def checkpointed(forward: Any) -> Any:
        def run(x: Tensor, feat_cache: Any, feat_idx: list[int], **more: Any) -> Tensor:
            if not torch.is_grad_enabled():
                return forward(x, feat_cache=feat_cache, feat_idx=feat_idx, **more)
            before, start = list(feat_cache), feat_idx[0]
            after: list[Any] = []  # cache and index

            def block(x: Tensor) -> Tensor:
                cache, index = list(before), [start]
                out = forward(x, feat_cache=cache, feat_idx=index, **more)
                if not after:  # not in the recomputation
                    after.extend([cache, index])
                return out

            out = checkpoint(block, x, use_reentrant=False)
            feat_cache[:], feat_idx[:] = after
            return out

        return run

    for block in blocks:
        block.forward = checkpointed(block.forward)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward  # the class's own again
