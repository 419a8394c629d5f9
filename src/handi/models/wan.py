"""Wan 2.2 TI2V-5B: one timestep per token, so that known tokens stand at timestep 0.

Parts of diffusers and transformers: WanTransformer3DModel, AutoencoderKLWan, UMT5EncoderModel. The network
was trained with a known first frame; a clip outside the motion area is known in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from handi.models.backbone import Layout
from handi.models.inpainting import Inpainting
from handi.models.lora import use_adapter


class Wan(Inpainting):
    """A token is 2×2 cells of 16 px; 1 + 4k frames are 1 + k latent frames."""

    patch = 2

    def __init__(self, vae: Any, text_encoder: Any, tokenizer: Any, scheduler: Any) -> None:
        sizes = {"chunk": vae.config.scale_factor_temporal, "cell": vae.config.scale_factor_spatial}
        super().__init__(vae, text_encoder, tokenizer, scheduler, **sizes)

    def predict(
        self, network: Any, x_t: Tensor, t: Tensor, text: Tensor, layout: Layout, **more: Any
    ) -> Tensor:
        """noise − x0, B×C×f×h×w; known tokens get timestep 0."""
        use_adapter(network, str(layout.adapter))
        free = layout.free[:, 0, :, :: self.patch, :: self.patch]
        t = (free * t.to(free).view(-1, 1, 1, 1)).flatten(1)  # B×tokens, in the order f, h, w
        x, text = layout.clamp(x_t).to(network.dtype), self.padded(text).to(network.dtype)
        return network(x, t, text, return_dict=False, **more)[0]

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
        """The decoder's own loop over latent frames, whose caches make the pixels exact. Frames before a
        wanted one fill the caches without a gradient. `vae.decode` would clamp, which cuts the gradient."""
        vae, raw, pixels = self.vae, self._raw(z), {}
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
