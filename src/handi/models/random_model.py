"""A small model of seeded random weights: the plumbing without the training."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL

from handi.models.checkpoint import Checkpoint, ModelCard, StageSettings
from handi.models.text import byte_tokenizer, small_text_encoder
from handi.models.unet import HandiUNet


def random_checkpoint(
    *, width: int = 32, seed: int = 0, size: int = 128, dtype: torch.dtype | None = None
) -> Checkpoint:
    """A small model of seeded random weights, both stages: to try the plumbing, to test, to time.

    width: channels of the UNets' first level, a multiple of 32; size: pixels a side. Its pictures mean
    nothing. Any sentence is accepted: the tokens are bytes.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet, area_unet = (
            HandiUNet(
                sample_size=size // 8,
                block_out_channels=(width, 2 * width),
                down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
                up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
                layers_per_block=1,
                cross_attention_dim=32,
                attention_head_dim=8,
                motion_mask=True,
                motion_strength=True,
            )
            for _ in range(2)
        )
        vae = AutoencoderKL(
            block_out_channels=(8, 8, 16, 16),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            latent_channels=4,
            norm_num_groups=4,
            sample_size=size,
            scaling_factor=0.18215,
        )
        tokenizer = byte_tokenizer()
        text_encoder = small_text_encoder(tokenizer)
    networks = [network.eval() for network in (unet, area_unet, vae, text_encoder)]
    if dtype is not None and dtype != torch.float32:
        networks = [network.to(dtype) for network in networks]
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, size), torch.linspace(-1, 1, size), indexing="ij")
    defaults = StageSettings(steps=8, guidance=3.0)
    return Checkpoint(
        unet=networks[0],
        area_unet=networks[1],
        vae=networks[2],
        text_encoder=networks[3],
        tokenizer=tokenizer,
        scheduler_config={
            "_class_name": "DPMSolverMultistepScheduler",
            "final_sigmas_type": "sigma_min",
            "num_train_timesteps": 1000,
            "beta_schedule": "scaled_linear",
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "prediction_type": "epsilon",
        },
        # hands come from below: a blob in the lower middle
        prior_mask=torch.exp(-(((rows - 0.3) / 0.5) ** 2) - (columns / 0.6) ** 2),
        card=ModelCard(stage1=defaults, stage2=defaults, height=size, width=size, weights="random"),
        source="random",
    )
