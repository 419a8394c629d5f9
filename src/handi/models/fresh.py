"""Models that are made, not loaded: presets to train, a random one, and the published one's shapes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL
from transformers import CLIPTextConfig, CLIPTextModel

from handi.core.errors import InputError
from handi.models.autoencoder import PatchAutoencoder
from handi.models.lite import SCHEDULE, LiteTransformer
from handi.models.parts import Checkpoint, ModelCard, StageSettings
from handi.models.text import byte_tokenizer, learn_tokenizer, small_text_encoder
from handi.models.unet import HandiUNet

SCHEDULER = {
    "_class_name": "DPMSolverMultistepScheduler",
    **SCHEDULE,
    "timestep_spacing": "trailing",
    "prediction_type": "sample",
}
PUBLISHED_SCHEDULER = {
    "_class_name": "DPMSolverMultistepScheduler",
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "prediction_type": "epsilon",
}
AREA_DEPTH = 1  # of stage 1's mover: one picture, where the reader has done most of the work


@dataclass(frozen=True)
class Preset:
    """Sizes of a model of the lean classes."""

    size: int  # pixels per side
    decoder: tuple[int, ...]  # widths of the autoencoder's decoder, from pixels to latents
    latent_channels: int
    width: int  # of the noise predictors, see LiteTransformer
    heads: int
    reader_depth: int
    mover_depth: int
    text_width: int
    text_depth: int
    merges: int  # byte pairs that the tokenizer learns
    tokens: int  # that a sentence may have


PRESETS = {
    "tiny": Preset(32, (4, 4, 8, 8), 8, 16, 2, 1, 1, 16, 1, 50, 24),  # for tests
    "mini": Preset(128, (16, 32, 64, 96), 32, 320, 5, 4, 6, 128, 3, 600, 48),
}


def from_preset(preset: str, sentences: Iterable[str], *, seed: int = 0) -> Checkpoint:
    """A whole model of fresh weights; its tokenizer learns its words from the sentences.

    Before the first training step, `vae.basis.fit` gives the autoencoder its basis.
    Raises: InputError for a preset that is not there.
    """
    if preset not in PRESETS:
        raise InputError(f"no preset {preset!r}", where="model.preset", hint=f"use {', '.join(PRESETS)}")
    sizes = PRESETS[preset]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tokenizer = learn_tokenizer(sentences, merges=sizes.merges, max_length=sizes.tokens)
        vae = PatchAutoencoder(sizes.latent_channels, sizes.decoder, sample_size=sizes.size)
        text_encoder = small_text_encoder(tokenizer, width=sizes.text_width, depth=sizes.text_depth, heads=4)
        area_unet, unet = (
            LiteTransformer(
                latent_channels=sizes.latent_channels,
                width=sizes.width,
                heads=sizes.heads,
                reader_depth=sizes.reader_depth,
                mover_depth=sizes.mover_depth if stage == 2 else AREA_DEPTH,
                cross_attention_dim=sizes.text_width,
                from_context=stage == 2,
                grounding=stage == 1,
            )
            for stage in (1, 2)
        )
    return Checkpoint(
        unet=unet.eval(),
        area_unet=area_unet.eval(),
        vae=vae.eval(),
        text_encoder=text_encoder.eval(),
        tokenizer=tokenizer,
        scheduler_config=dict(SCHEDULER),
        prior_mask=torch.full((sizes.size, sizes.size), 0.5),  # until stage 1 has seen the training areas
        card=ModelCard(
            stage1=StageSettings(steps=4, guidance=1.0, frames=1),
            stage2=StageSettings(steps=4, guidance=1.0),
            height=sizes.size,
            width=sizes.size,
            weights="untrained",
        ),
        source=preset,
    )


def random_checkpoint(
    *, width: int = 32, seed: int = 0, size: int = 128, dtype: torch.dtype | None = None
) -> Checkpoint:
    """A small model of seeded random weights, both stages: to try the plumbing, to test, to time.

    width: channels of the UNets' first level, a multiple of 32; size: pixels per side. Its pictures mean
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
        scheduler_config={**PUBLISHED_SCHEDULER, "final_sigmas_type": "sigma_min"},
        # hands come from below: a blob in the lower middle
        prior_mask=torch.exp(-(((rows - 0.3) / 0.5) ** 2) - (columns / 0.6) ** 2),
        card=ModelCard(stage1=defaults, stage2=defaults, height=size, width=size, weights="random"),
        source="random",
    )


def published_shapes(device: str = "meta") -> Checkpoint:
    """A model of full size, without stage 1, as published. On the "meta" device it is to be counted, not
    to be run; elsewhere its weights are random."""
    with torch.device(device):
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
        scheduler_config=PUBLISHED_SCHEDULER,
        prior_mask=None,
        card=ModelCard(stage1=None),
        source="published",
    )
