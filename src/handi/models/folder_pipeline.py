"""A pipeline's life on disk: loaded from and saved to model folders, by handi and by diffusers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from diffusers import DiffusionPipeline
from torch import Tensor

from handi.core.errors import InputError
from handi.models import folder as model_folder
from handi.models.fresh import random_checkpoint
from handi.models.lora import NETWORKS, LoraPipeline
from handi.models.parts import Checkpoint, ModelCard

if TYPE_CHECKING:
    from typing import Self


class FolderPipeline(LoraPipeline, DiffusionPipeline):
    """What of HandiPipeline concerns model folders and LoRA files."""

    vae: Any
    text_encoder: Any
    tokenizer: Any
    unet: Any
    scheduler: Any
    area_unet: Any
    pose_net: Any
    prior_mask: Tensor | None
    card: ModelCard
    source: str

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        *,
        dtype: torch.dtype | None = None,
        torch_dtype: torch.dtype | None = None,
        revision: str | None = None,
        variant: str | None = None,
        base: str | Path | None = None,
    ) -> Self:
        """A pipeline from "mini", a folder (ours, AnimateAnything's, HANDI/IVG's), a hub id, or "random".

        "mini" ships with handi (docs/mini.md); "random" is small and untrained: its pixels mean nothing.
        dtype: precision of the weights, else float32; torch_dtype is diffusers' older name for it.
        base: folder or hub id of the base of a folder of adapters, where it is not where handi.json says.
        Raises: ModelError.
        """
        dtype = dtype or torch_dtype
        if str(model) == "random":
            parts = random_checkpoint(dtype=dtype)
        else:
            parts = model_folder.load(model, dtype=dtype, revision=revision, variant=variant, base=base)
        return cls.from_checkpoint(parts)

    @classmethod
    def from_checkpoint(cls, parts: Checkpoint) -> Self:
        """A pipeline of parts in memory. Raises: ModelError for a scheduler that cannot be made."""
        return cls(
            vae=parts.vae,
            text_encoder=parts.text_encoder,
            tokenizer=parts.tokenizer,
            unet=parts.unet,
            scheduler=parts.scheduler(),
            area_unet=parts.area_unet,
            pose_net=parts.pose_net,
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
            pose_net=self.pose_net,
            vae=self.vae,
            text_encoder=self.text_encoder,
            tokenizer=self.tokenizer,
            scheduler_config=dict(self.scheduler.config),
            prior_mask=self.prior_mask,
            card=self.card,
            source=self.source,
        )

    def register_to_config(self, **entries: Any) -> None:
        """diffusers' own, with which `DiffusionPipeline.from_pretrained(folder)` ends.

        The folder's card and prior mask, which are no components to it, are read then. Raises: ModelError.
        """
        super().register_to_config(**entries)
        if entries.get("_name_or_path"):
            self.source = str(entries["_name_or_path"])
            folder = model_folder.locate(self.source)
            self.card, self.prior_mask = model_folder.load_card(folder, self.unet, self.area_unet)
            if self.unet.dtype == torch.float32:  # transformers alone keeps the precision of the files
                self.text_encoder.float()

    def save_pretrained(self, save_directory: str | Path, **unused: Any) -> None:
        """Write our folder layout, safetensors; loading it gives this pipeline back.

        Of a base with the adapters of the stages, the adapters are written.
        Raises: InputError with other LoRA adapters on a network, OutputError.
        """
        if self.card.base is None and any(hasattr(getattr(self, name), "peft_config") for name in NETWORKS):
            hint = "call pipe.fuse_lora() and pipe.unload_lora_weights() first"
            raise InputError("LoRA adapters are loaded, which a model folder has no place for", hint=hint)
        model_folder.save(self.checkpoint, self.scheduler, save_directory)
