"""Models to train from nothing: `mini`, which ships with the package, and `small`, its bigger sister.

Both are of the lean classes; `full` size starts from a published AnimateAnything folder instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from handi.core.errors import InputError
from handi.models.autoencoder import PatchAutoencoder
from handi.models.checkpoint import Checkpoint, ModelCard, StageSettings
from handi.models.lite import SCHEDULE, LiteTransformer
from handi.models.text import learn_tokenizer, small_text_encoder

SCHEDULER = {
    "_class_name": "DPMSolverMultistepScheduler",
    **SCHEDULE,
    "timestep_spacing": "trailing",
    "prediction_type": "sample",
}
AREA_DEPTH = 1  # of stage 1's mover: one picture, where the reader has done most of the work


@dataclass(frozen=True)
class Preset:
    """Sizes of a model of the lean classes."""

    size: int  # pixels a side
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
    "small": Preset(256, (24, 48, 96, 160), 32, 512, 8, 6, 10, 256, 4, 1000, 77),
}


def fresh(preset: str, sentences: Iterable[str], *, seed: int = 0) -> Checkpoint:
    """A whole model of fresh weights; its tokenizer learns its words from the sentences.

    Before the first training step, `vae.basis.fit` gives the autoencoder its basis.
    Raises: InputError for a preset that is not there.
    """
    if preset not in PRESETS:
        raise InputError(f"no preset {preset!r}", where="model.preset", mend=f"use {', '.join(PRESETS)}")
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
