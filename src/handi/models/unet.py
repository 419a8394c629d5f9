"""HandiUNet: AnimateAnything's 3D UNet (the noise predictor of both stages) on diffusers' current blocks.

Its weights are AnimateAnything's, name for name. Against diffusers' `UNet3DConditionModel` it adds three
conditions: the context latent, prepended as an extra frame; the mask, as an extra input channel through
a second input convolution; the motion strength, added to the timestep's embedding. It leaves out what
costs and changes nothing: the text's keys and values are computed once per clip instead of once per frame,
the timestep's projections likewise, and there is no division by 1. Where `config.poses` says so, a fourth
condition is ours: the hands' poses, as maps through a convolution that starts at zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

import torch
from diffusers import ModelMixin, UNet3DConditionModel
from diffusers.configuration_utils import register_to_config
from diffusers.loaders import PeftAdapterMixin
from diffusers.models.embeddings import Timesteps
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn
from torch.nn import functional as F

from handi.method.poses import SEEN, pose_cells
from handi.models.autoencoder import zero_
from handi.models.backbone import Traits

__all__ = ["HandiUNet", "ModelMixin"]  # diffusers looks for its base class beside ours


class HandiUNet(UNet3DConditionModel, PeftAdapterMixin):
    """Predicts the noise (or v, or the sample: the scheduler's config says which) of a clip's latents.

    `config.motion_mask` and `config.motion_strength` say whether the mask and the motion strength are
    read at all; a checkpoint's own values count, as in the original. `config.in_channels` may be 4 or 5:
    published training code widens the mask-less input convolution, which then cannot run without a mask.
    """

    _supports_gradient_checkpointing = True
    mask_mode = "bilinear"

    @register_to_config
    def __init__(
        self,
        sample_size: int | tuple[int, int] | None = None,
        in_channels: int = 4,
        out_channels: int = 4,
        down_block_types: tuple[str, ...] = (
            "CrossAttnDownBlock3D",
            "CrossAttnDownBlock3D",
            "CrossAttnDownBlock3D",
            "DownBlock3D",
        ),
        up_block_types: tuple[str, ...] = (
            "UpBlock3D",
            "CrossAttnUpBlock3D",
            "CrossAttnUpBlock3D",
            "CrossAttnUpBlock3D",
        ),
        block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280),
        layers_per_block: int = 2,
        downsample_padding: int = 1,
        mid_block_scale_factor: float = 1,
        act_fn: str = "silu",
        norm_num_groups: int = 32,
        norm_eps: float = 1e-5,
        cross_attention_dim: int = 1024,
        attention_head_dim: int = 64,
        motion_mask: bool = False,
        motion_strength: bool = False,
        poses: bool = False,
    ) -> None:
        width = block_out_channels[0]
        # The undecorated constructor: the decorated one would record its own arguments in our config.
        UNet3DConditionModel.__init__.__wrapped__(
            self,
            sample_size=sample_size,
            in_channels=in_channels,
            out_channels=out_channels,
            down_block_types=down_block_types,
            up_block_types=up_block_types,
            block_out_channels=block_out_channels,
            layers_per_block=layers_per_block,
            downsample_padding=downsample_padding,
            mid_block_scale_factor=mid_block_scale_factor,
            act_fn=act_fn,
            norm_num_groups=norm_num_groups,
            norm_eps=norm_eps,
            cross_attention_dim=cross_attention_dim,
            attention_head_dim=attention_head_dim,
            time_cond_proj_dim=width,
        )
        self.conv_in2 = nn.Conv2d(out_channels + 1, width, 3, padding=1)  # mask first, then latents
        self.pose_stem = zero_(nn.Conv2d(SEEN, width, 3, padding=1)) if poses else None
        self.motion_proj = Timesteps(width, True, 0)
        # Dead in the original too (nothing reads it): here only so that its checkpoints load whole.
        last = nn.Linear(4 * width, 4 * width)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.motion_embedding = nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), last)

        self.gradient_checkpointing = False
        for module in self.modules():
            if type(module) is ResnetBlock2D:
                module.__class__ = _Resnet
        self.set_attn_processor(_ClipAttention())

    @property
    def traits(self) -> Traits:
        """What a step or a pipeline must know of the network."""
        config = self.config
        return Traits(mask=config.motion_mask, motion=config.motion_strength, poses=config.poses)

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        encoder_hidden_states: Tensor,
        *,
        condition_latent: Tensor,
        mask: Tensor | None = None,
        motion: Tensor | float | None = None,
        frame_index: Tensor | None = None,
        poses: Tensor | None = None,
        places: Tensor | None = None,
    ) -> Tensor:
        """Prediction for `sample`, B×C×F×h×w.

        sample B×C×F×h×w noisy latents; timestep a number or B; encoder_hidden_states B×N×D text;
        condition_latent B×C×1×h×w latent of the context image; mask B×1×1×h×w in [0, 1] motion area (or
        batch 1, for all); motion a number or B, strength of the motion; poses B×F×42×2, the hands' joints,
        those of the context image first (None: not known). frame_index and places are accepted and not read.
        Raises: ValueError for a missing mask where the mask-less input convolution is a widened one.
        """
        batch, _, frames, height, width = sample.shape
        device, dtype = sample.device, self.dtype
        emb = self._embed_time(timestep, motion, batch, device, dtype)  #        B×4c
        x = torch.cat([condition_latent.to(dtype), sample.to(dtype)], dim=2)  # B×C×(F+1)×h×w
        frames = frames + 1
        if mask is not None and self.config.motion_mask:
            mask = mask.to(dtype).expand(batch, 1, frames, height, width)
            x = torch.cat([mask, x], dim=1)
            conv_in = self.conv_in2
        elif self.conv_in.in_channels == x.shape[1]:
            conv_in = self.conv_in
        else:
            raise ValueError(
                f"this UNet's mask-less input has {self.conv_in.in_channels} channels, the latents "
                f"{x.shape[1]}: it needs a mask (config: motion_mask={self.config.motion_mask})"
            )
        x = conv_in(x.transpose(1, 2).flatten(0, 1))  #                          (B·F)×c×h×w
        if poses is not None and self.pose_stem is not None:
            x = x + self.pose_stem(_shown(poses, (height, width)).to(dtype))
        x = self.transformer_in(x, num_frames=frames, return_dict=False)[0]

        skips = [x]
        for block in self.down_blocks:
            for layer in _layers(block):
                x = self._run(layer, x, emb, encoder_hidden_states, frames)
                skips.append(x)
            for downsample in block.downsamplers or ():
                x = downsample(x)
                skips.append(x)

        for layer in _layers(self.mid_block):
            x = self._run(layer, x, emb, encoder_hidden_states, frames)

        for block in self.up_blocks:
            for layer in _layers(block):
                x = torch.cat([x, skips.pop()], dim=1)
                x = self._run(layer, x, emb, encoder_hidden_states, frames)
            for upsample in block.upsamplers or ():
                # Sizes that do not halve evenly: come back to the size of the skip that follows.
                x = upsample(x, skips[-1].shape[-2:] if self._uneven(height, width) else None)

        x = self.conv_out(self.conv_act(self.conv_norm_out(x)))
        return x.unflatten(0, (batch, frames)).transpose(1, 2)[:, :, 1:]  #      B×C×F×h×w

    def _embed_time(
        self,
        timestep: Tensor | float,
        motion: Tensor | float | None,
        batch: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> Tensor:
        """B×4c embedding of the timestep, with the motion strength's sinusoid added before the MLP."""

        def sinusoid(value: Tensor | float, projection: Timesteps) -> Tensor:
            value = torch.as_tensor(value, device=device).reshape(-1).expand(batch)
            return projection(value).to(dtype)

        condition = None
        if motion is not None and self.config.motion_strength:
            condition = sinusoid(motion, self.motion_proj)
        return self.time_embedding(sinusoid(timestep, self.time_proj), condition)

    def _uneven(self, height: int, width: int) -> bool:
        factor = 2**self.num_upsamplers
        return height % factor != 0 or width % factor != 0

    def _run(self, layer: tuple[Any, ...], *inputs: Any) -> Tensor:
        if torch.is_grad_enabled() and self.gradient_checkpointing:
            return self._gradient_checkpointing_func(_run_layer, layer, *inputs)
        return _run_layer(layer, *inputs)


def _shown(poses: Tensor, cells: tuple[int, int]) -> Tensor:
    """Pose maps of joints B×F×42×2 in the cells of the context and of the frames: (B·(F+1))×192×h×w."""
    return pose_cells(torch.cat([poses[:, :1], poses], dim=1).flatten(0, 1), cells)


def _layers(block: Any) -> Iterator[tuple[Any, ...]]:
    """The layers of a down, middle or up block in running order: (resnet, temporal convolution,
    attention, temporal attention), without the attentions where the block has none or no more."""
    attentions = getattr(block, "attentions", ())
    temporal_attentions = getattr(block, "temp_attentions", ())
    yield from zip_longest(block.resnets, block.temp_convs, attentions, temporal_attentions)


def _run_layer(layer: tuple[Any, ...], x: Tensor, emb: Tensor, text: Tensor, frames: int) -> Tensor:
    """One layer on x, (B·F)×c×h×w, with emb B×4c and text B×N×D: both once per clip, not once per frame."""
    resnet, temporal_conv, attention, temporal_attention = layer
    x = temporal_conv(resnet(x, emb), num_frames=frames)
    if attention is not None and temporal_attention is not None:
        x = attention(x, encoder_hidden_states=text, return_dict=False)[0]
        x = temporal_attention(x, num_frames=frames, return_dict=False)[0]
    return x


class _Resnet(ResnetBlock2D):
    """diffusers' resnet block with one time embedding per clip, and its output scale only where it is not 1.

    A subclass of the same attributes and parameters: HandiUNet gives it to the blocks that diffusers
    built, so checkpoints, LoRA, and the hooks of FSDP and offloading see the module they expect.
    """

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """x (B·F)×c×h×w, emb B×4c."""
        shift = self.time_emb_proj(self.nonlinearity(emb))
        shift = shift.repeat_interleave(x.shape[0] // emb.shape[0], dim=0)[:, :, None, None]
        hidden = self.conv1(self.nonlinearity(self.norm1(x))) + shift
        hidden = self.conv2(self.dropout(self.nonlinearity(self.norm2(hidden))))
        if self.conv_shortcut is not None:
            x = self.conv_shortcut(x.contiguous() if self.training else x)
        x = x + hidden
        return x if self.output_scale_factor == 1 else x / self.output_scale_factor


class _ClipAttention:
    """Attention in which all frames of a clip attend to the one set of text tokens of that clip.

    Self-attention is ordinary. In cross-attention the text has batch B and the queries B·F: instead of
    repeating the text F times, the frames' queries stand in one row of F·S queries per clip.
    """

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        if attention_mask is not None:
            raise ValueError("HandiUNet's attention takes no mask")
        source = hidden_states if encoder_hidden_states is None else encoder_hidden_states

        def split_heads(x: Tensor) -> Tensor:  # → batch of source × heads × tokens × head width
            return x.reshape(source.shape[0], -1, attn.heads, x.shape[-1] // attn.heads).transpose(1, 2)

        out = F.scaled_dot_product_attention(
            split_heads(attn.to_q(hidden_states)),
            split_heads(attn.to_k(source)),
            split_heads(attn.to_v(source)),
        )
        out = out.transpose(1, 2).reshape(*hidden_states.shape[:2], -1)
        return attn.to_out[1](attn.to_out[0](out))
