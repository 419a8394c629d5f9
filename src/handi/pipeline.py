"""HandiPipeline: a context image and a sentence in, a clip out, in two stages.

Stage 1 denoises the latents of a mask video into the motion area; stage 2 denoises the clip with that
area in its mask channel, and what lies outside the area is put back from the context image (SPEC §3).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline, schedulers
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTokenizer

from handi import diffusion
from handi.errors import InputError
from handi.images import aspect_crop, fit_size, open_image, to_mask, to_rgb
from handi.models import checkpoint
from handi.models.checkpoint import Checkpoint, ModelCard
from handi.models.random_model import random_checkpoint
from handi.motion.area import clean_area, feather
from handi.types import Frames

ImageInput = str | Path | Image.Image | np.ndarray
Callback = Callable[["HandiPipeline", int, Tensor, dict[str, Any]], dict[str, Any] | None]

MIN_SIDE, MAX_ASPECT = 32, 4.0  # pixels; longer side over shorter
AREA_STREAM, CLIP_STREAM = 1, 2  # the stages' noise streams, see diffusion.clip_noise


@dataclass
class HandiPipelineOutput:
    """What a call gives, one entry a clip in each list or leading dimension."""

    frames: Any  # B×F×H×W×3 uint8, or by output_type: lists of PIL, B×3×F×H×W in [0, 1], latents
    motion_area: np.ndarray  # B×H×W bool
    motion_area_soft: np.ndarray  # B×H×W float32 in [0, 1]
    context: np.ndarray  # B×H×W×3 uint8, the context images as the model saw them
    notes: list[str] = field(default_factory=list)  # what was changed or is worth knowing, in words
    seconds: dict[str, float] = field(default_factory=dict)  # encode, stage1, stage2, decode
    interrupted: bool = False  # a callback stopped the run; frames are None if that was in stage 1


class HandiPipeline(DiffusionPipeline):
    """Hand-centric text-and-image conditioned video generation; see `__call__` and `from_pretrained`.

    `area_unet` (stage 1) may be None: then a mask is given, or the whole frame is the area.
    """

    model_cpu_offload_seq = "text_encoder->area_unet->unet->vae"
    _optional_components = ["area_unet"]  # noqa: RUF012 (the name and type that diffusers reads)

    def __init__(
        self,
        vae: nn.Module,
        text_encoder: nn.Module,
        tokenizer: CLIPTokenizer,
        unet: nn.Module,
        scheduler: SchedulerMixin,
        area_unet: nn.Module | None = None,
        prior_mask: Tensor | None = None,
        card: ModelCard | None = None,
        source: str = "",
    ) -> None:
        super().__init__()
        self.register_modules(
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            unet=unet,
            scheduler=scheduler,
            area_unet=area_unet,
        )
        self.prior_mask = prior_mask
        self.card = card or ModelCard(stage1=checkpoint.StageDefaults() if area_unet is not None else None)
        self.source = source
        self.vae_factor = 2 ** (len(vae.config.block_out_channels) - 1)
        self._interrupt = False

    # ------------------------------------------------------------------------------------- folders

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        *,
        torch_dtype: torch.dtype | None = None,
        revision: str | None = None,
        variant: str | None = None,
    ) -> HandiPipeline:
        """A pipeline from a folder (ours, AnimateAnything's, HANDI/IVG's), a hub id, or "random".

        "random" is a small untrained model: its pixels mean nothing. Raises: ModelError.
        """
        if str(model) == "random":
            parts = random_checkpoint(dtype=torch_dtype)
        else:
            parts = checkpoint.load(model, dtype=torch_dtype, revision=revision, variant=variant)
        return cls.from_checkpoint(parts)

    @classmethod
    def from_checkpoint(cls, parts: Checkpoint) -> HandiPipeline:
        """A pipeline of parts in memory. A training schedule becomes DPM-Solver++, a sampler stays."""
        name = str(parts.scheduler_config.get("_class_name"))
        if name in ("DDIMScheduler", "DDPMScheduler", "PNDMScheduler"):
            scheduler = diffusion.dpm_solver(parts.scheduler_config)
        else:
            scheduler = getattr(schedulers, name).from_config(dict(parts.scheduler_config))
        return cls(
            vae=parts.vae,
            text_encoder=parts.text_encoder,
            tokenizer=parts.tokenizer,
            unet=parts.unet,
            scheduler=scheduler,
            area_unet=parts.area_unet,
            prior_mask=parts.prior_mask,
            card=parts.card,
            source=parts.source,
        )

    @property
    def checkpoint(self) -> Checkpoint:
        """The parts of this pipeline, as they are now."""
        return Checkpoint(
            unet=self.unet,
            area_unet=self.area_unet,
            vae=self.vae,
            text_encoder=self.text_encoder,
            tokenizer=self.tokenizer,
            scheduler_config=dict(self.scheduler.config),
            prior_mask=self.prior_mask,
            card=self.card,
            source=self.source,
        )

    def save_pretrained(self, save_directory: str | Path, **unused: Any) -> None:
        """Write our folder layout, safetensors; loading it gives this pipeline back. Raises: OutputError."""
        checkpoint.save(self.checkpoint, self.scheduler, save_directory)
