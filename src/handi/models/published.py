"""The shapes of the published AnimateAnything and HANDI/IVG models, without their weights."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL
from transformers import CLIPTextConfig, CLIPTextModel

from handi.models.parts import Checkpoint, ModelCard
from handi.models.text import byte_tokenizer
from handi.models.unet import HandiUNet


def published_shapes() -> Checkpoint:
    """A model of full size on the "meta" device: to be counted, not to be run. No stage 1, as published."""
    with torch.device("meta"):
        unet = HandiUNet(motion_mask=True, motion_strength=True)
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
            latent_channels=4,
        )
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                hidden_size=1024, intermediate_size=4096, num_hidden_layers=23, num_attention_heads=16
            )
        )
    return Checkpoint(
        unet=unet.eval(),
        area_unet=None,
        vae=vae.eval(),
        text_encoder=text_encoder.eval(),
        tokenizer=byte_tokenizer(),
        scheduler_config={
            "_class_name": "DPMSolverMultistepScheduler",
            "num_train_timesteps": 1000,
            "beta_schedule": "scaled_linear",
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "prediction_type": "epsilon",
        },
        prior_mask=None,
        card=ModelCard(stage1=None),
        source="published",
    )
