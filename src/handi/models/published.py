"""Shapes of published bases, on the "meta" device: to be counted before they are downloaded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from diffusers import (
    AutoencoderKLLTXVideo,
    AutoencoderKLWan,
    LTXVideoTransformer3DModel,
    WanTransformer3DModel,
)

from handi.models.base import FAMILIES
from handi.models.fresh import published_shapes
from handi.models.parts import Checkpoint
from handi.models.text import byte_tokenizer

ANIMATE_ANYTHING = "AnimateAnything"
WAN_LATENTS = 48
# By a word in the address of a base.
NAMES = {"wan": "Wan 2.2 TI2V-5B", "ltx": "LTX-Video 2B"}


def shapes_for(address: str) -> tuple[str, Checkpoint]:
    """(name, parts) of the published model that an address sounds like: Wan, LTX, or else AnimateAnything.

    The text encoder of a base is left out: its states are stored with the clips.
    """
    word = next((word for word in NAMES if word in address.lower()), None)
    if word is None:
        return ANIMATE_ANYTHING, published_shapes()
    with torch.device("meta"):
        network, vae, scheduler = _wan() if word == "wan" else _ltx()
    return NAMES[word], Checkpoint(
        unet=network.eval(),
        area_unet=None,
        vae=vae.eval(),
        text_encoder=None,
        tokenizer=byte_tokenizer(512),
        scheduler_config=scheduler,
        prior_mask=None,
        card=replace(FAMILIES[type(network).__name__][-1], base=address),
        source=NAMES[word],
    )


def _wan() -> tuple[Any, Any, dict[str, Any]]:
    network = WanTransformer3DModel(
        num_attention_heads=24,
        num_layers=30,
        ffn_dim=14336,
        in_channels=WAN_LATENTS,
        out_channels=WAN_LATENTS,
        text_dim=4096,
        freq_dim=256,
    )
    vae = AutoencoderKLWan(
        base_dim=160,
        decoder_base_dim=256,
        z_dim=WAN_LATENTS,
        is_residual=True,
        in_channels=12,
        out_channels=12,
        patch_size=2,
        scale_factor_spatial=16,
        latents_mean=[0.0] * WAN_LATENTS,
        latents_std=[1.0] * WAN_LATENTS,
    )
    scheduler = {
        "_class_name": "UniPCMultistepScheduler",
        "prediction_type": "flow_prediction",
        "use_flow_sigmas": True,
        "flow_shift": 5.0,
    }
    return network, vae, scheduler


def _ltx() -> tuple[Any, Any, dict[str, Any]]:
    scheduler = {
        "_class_name": "FlowMatchEulerDiscreteScheduler",
        "use_dynamic_shifting": True,
        "base_image_seq_len": 1024,
        "max_image_seq_len": 4096,
        "base_shift": 0.95,
        "max_shift": 2.05,
        "shift_terminal": 0.1,
    }
    return LTXVideoTransformer3DModel(), AutoencoderKLLTXVideo(), scheduler
