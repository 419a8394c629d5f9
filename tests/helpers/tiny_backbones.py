"""Tiny random models of today's video transformers, built of their own classes; nothing is downloaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLLTXVideo,
    AutoencoderKLWan,
    LTXImageToVideoPipeline,
    LTXVideoTransformer3DModel,
    WanImageToVideoPipeline,
    WanTransformer3DModel,
)
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    T5Config,
    T5EncoderModel,
    UMT5Config,
    UMT5EncoderModel,
)

from handi.models.parts import Checkpoint, ModelCard, StageSettings
from handi.models.text import byte_tokenizer

HEIGHT, WIDTH = 64, 96
TEXT = {"vocab_size": 514, "d_model": 32, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
WAN_SCHEDULER = {
    "_class_name": "UniPCMultistepScheduler",
    "prediction_type": "flow_prediction",
    "use_flow_sigmas": True,
    "flow_shift": 5.0,
    "num_train_timesteps": 1000,
}
LTX_SCHEDULER = {
    "_class_name": "FlowMatchEulerDiscreteScheduler",
    "use_dynamic_shifting": True,
    "base_image_seq_len": 1024,
    "max_image_seq_len": 4096,
    "base_shift": 0.95,
    "max_shift": 2.05,
    "shift_terminal": 0.1,
}


def tiny_wan(*, networks: int = 2) -> Checkpoint:
    """Wan 2.2 TI2V: 16 px cells, 4 frames per latent frame, a patched autoencoder with residual blocks."""
    torch.manual_seed(0)
    z = 8
    vae = AutoencoderKLWan(
        base_dim=4,
        decoder_base_dim=4,
        z_dim=z,
        in_channels=12,
        out_channels=12,
        is_residual=True,
        patch_size=2,
        latents_mean=[0.1] * z,
        latents_std=[0.7] * z,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        scale_factor_spatial=16,
        scale_factor_temporal=4,
        temperal_downsample=[False, True, True],
    )
    made = [
        WanTransformer3DModel(
            patch_size=(1, 2, 2),
            num_attention_heads=2,
            attention_head_dim=12,
            in_channels=z,
            out_channels=z,
            text_dim=32,
            freq_dim=32,
            ffn_dim=32,
            num_layers=2,
            rope_max_seq_len=32,
        )
        for _ in range(networks)
    ]
    return _model(made, vae, UMT5EncoderModel(UMT5Config(**TEXT)), WAN_SCHEDULER, "wan", 5)


def tiny_wan_i2v(*, networks: int = 2) -> Checkpoint:
    """Wan 2.1 I2V and Fun-InP: 8 px cells, condition channels, and CLIP's states of the context image."""
    torch.manual_seed(0)
    z, width = 8, 16
    vae = AutoencoderKLWan(
        base_dim=4,
        z_dim=z,
        latents_mean=[0.1] * z,
        latents_std=[0.7] * z,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
    )
    vae.decoder.conv_out.weight.data *= 4  # of a range like that of pictures
    made = [
        WanTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=12,
            in_channels=2 * z + 4,
            out_channels=z,
            text_dim=32,
            freq_dim=32,
            ffn_dim=32,
            num_layers=2,
            image_dim=width,
            added_kv_proj_dim=24,
            rope_max_seq_len=32,
        )
        for _ in range(networks)
    ]
    for network in made:
        network.image_encoder = CLIPVisionModel(
            CLIPVisionConfig(
                hidden_size=width,
                intermediate_size=16,
                num_hidden_layers=2,
                num_attention_heads=2,
                image_size=28,
                patch_size=14,
            )
        )
    text_encoder = UMT5EncoderModel(UMT5Config(**TEXT))
    return _model(made, vae, text_encoder, WAN_SCHEDULER, "wan", 5, tokens=512)


def tiny_ltx(*, networks: int = 2) -> Checkpoint:
    """LTX-Video 0.9: 32 px cells, 8 frames per latent frame, a decoder that looks both ways."""
    torch.manual_seed(0)
    z, widths, depths, scaling = 8, (8,) * 4, (1,) * 5, (True, True, True, False)
    vae = AutoencoderKLLTXVideo(
        latent_channels=z,
        block_out_channels=widths,
        decoder_block_out_channels=widths,
        layers_per_block=depths,
        decoder_layers_per_block=depths,
        spatio_temporal_scaling=scaling,
        decoder_spatio_temporal_scaling=scaling,
        patch_size=4,
        patch_size_t=1,
        encoder_causal=True,
        decoder_causal=False,
    )
    vae.latents_mean.fill_(0.1)
    vae.latents_std.fill_(0.7)
    made = [
        LTXVideoTransformer3DModel(
            in_channels=z,
            out_channels=z,
            num_attention_heads=2,
            attention_head_dim=12,
            cross_attention_dim=24,
            caption_channels=32,
            num_layers=2,
        )
        for _ in range(networks)
    ]
    return _model(made, vae, T5EncoderModel(T5Config(**TEXT)), LTX_SCHEDULER, "ltx", 9)


def _model(
    networks: list[Any],
    vae: Any,
    text_encoder: Any,
    scheduler: dict,
    backbone: str,
    frames: int,
    tokens: int = 32,
) -> Checkpoint:
    settings = StageSettings(steps=3, guidance=2.0)
    tokenizer = byte_tokenizer(tokens)
    card = ModelCard(settings, settings, frames, HEIGHT, WIDTH, weights="random", backbone=backbone)
    parts = Checkpoint(
        unet=networks[0].eval(),
        area_unet=None,
        vae=vae.eval().requires_grad_(False),
        text_encoder=text_encoder.eval().requires_grad_(False),
        tokenizer=tokenizer,
        scheduler_config=scheduler,
        prior_mask=torch.full((HEIGHT, WIDTH), 0.3),
        card=card,
        source="random",
    )
    return replace(parts, area_unet=networks[1].eval()) if len(networks) > 1 else parts


def save_base(parts: Checkpoint, folder: Path) -> Path:
    """The folder that diffusers' own pipeline writes of these parts."""
    pipelines: dict[str, Any] = {"wan": WanImageToVideoPipeline, "ltx": LTXImageToVideoPipeline}
    more: dict[str, Any] = {}
    if parts.card.backbone == "wan":
        image_encoder = parts.unet._modules.pop("image_encoder", None)  # a component of its own in diffusers
        more = {"expand_timesteps": image_encoder is None, "image_encoder": image_encoder}
    pipelines[parts.card.backbone](
        tokenizer=parts.tokenizer,
        text_encoder=parts.text_encoder,
        vae=parts.vae,
        scheduler=parts.scheduler(),
        transformer=parts.unet,
        **more,
    ).save_pretrained(folder)
    if more.get("image_encoder") is not None:
        parts.unet.image_encoder = more["image_encoder"]
    return folder
