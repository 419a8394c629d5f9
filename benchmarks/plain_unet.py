"""The same UNet run plainly: diffusers' own blocks, text and time repeated for every frame, as the original.

What our UNet is timed against in `generate.py`, and checked against in the tests.
"""

from __future__ import annotations

import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor

from handi.models.unet import HandiUNet


def as_diffusers_built_it(unet: HandiUNet) -> HandiUNet:
    """The UNet with diffusers' resnets and attention back in place of ours, same weights."""
    unet.set_attn_processor(AttnProcessor2_0())
    for module in unet.modules():
        if isinstance(module, ResnetBlock2D):
            module.__class__ = ResnetBlock2D
    return unet


def plain_forward(
    unet: HandiUNet,
    sample: Tensor,
    timestep: Tensor,
    text: Tensor,
    condition_latent: Tensor,
    mask: Tensor,
    motion: Tensor,
) -> Tensor:
    """The same network by diffusers' own block code, text and time repeated for every frame."""
    x = torch.cat([condition_latent, sample], dim=2)
    batch, _, frames = x.shape[:3]
    emb = unet.time_embedding(
        unet.time_proj(timestep.expand(batch)), unet.motion_proj(motion.expand(batch))
    ).repeat_interleave(frames, 0)
    text = text.repeat_interleave(frames, 0)
    x = torch.cat([mask.expand(batch, 1, frames, *x.shape[-2:]), x], dim=1)
    x = unet.conv_in2(x.transpose(1, 2).flatten(0, 1))
    x = unet.transformer_in(x, num_frames=frames, return_dict=False)[0]
    skips = (x,)
    for block in unet.down_blocks:
        extra = {"encoder_hidden_states": text} if getattr(block, "has_cross_attention", False) else {}
        x, new = block(hidden_states=x, temb=emb, num_frames=frames, **extra)
        skips += new
    x = unet.mid_block(x, emb, encoder_hidden_states=text, num_frames=frames)
    for block in unet.up_blocks:
        count = len(block.resnets)
        own, skips = skips[-count:], skips[:-count]
        extra = {"encoder_hidden_states": text} if getattr(block, "has_cross_attention", False) else {}
        size = skips[-1].shape[2:] if skips else None
        x = block(
            hidden_states=x,
            temb=emb,
            res_hidden_states_tuple=own,
            num_frames=frames,
            upsample_size=size,
            **extra,
        )
    x = unet.conv_out(unet.conv_act(unet.conv_norm_out(x)))
    return x.unflatten(0, (batch, frames)).transpose(1, 2)[:, :, 1:]
