"""The parts of a model in memory, its card, and the hashes by which others know what made their data."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from diffusers import schedulers
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from torch import Tensor
from transformers import CLIPTokenizer

from handi.core.errors import ModelError
from handi.core.reading import parse_json
from handi.method.diffusion import dpm_solver, scheduler_of
from handi.models.autoencoder import PatchAutoencoder
from handi.models.backbone import Backbone
from handi.models.framewise import Framewise
from handi.models.lite import LiteTransformer
from handi.models.ltx import Ltx
from handi.models.wan import Wan

# Networks and autoencoders by the class name in their configs; other names are read as the published classes.
CLASSES: dict[str, Any] = {"LiteTransformer": LiteTransformer, "PatchAutoencoder": PatchAutoencoder}
# By the name in a model card; each is made of (vae, text_encoder, tokenizer, scheduler).
BACKBONES: dict[str, Callable[..., Backbone]] = {"framewise": Framewise, "wan": Wan, "ltx": Ltx}


@dataclass(frozen=True)
class StageSettings:
    """How a stage is sampled; in a model card, unless the caller says otherwise."""

    steps: int = 25  # denoising steps
    guidance: float = 9.0  # classifier-free guidance scale
    motion: float = 5.0  # AnimateAnything's motion strength
    frames: int | None = None  # that the stage denoises; None: as many as the clip has
    pose_guidance: float = 1.0  # guidance scale of the hands' poses; 1: none

    def changed(
        self, steps: int | None, guidance: float | None, pose_guidance: float | None = None
    ) -> StageSettings:
        """With the caller's steps and guidance, where they are given."""
        return replace(
            self,
            steps=self.steps if steps is None else steps,
            guidance=self.guidance if guidance is None else guidance,
            pose_guidance=self.pose_guidance if pose_guidance is None else pose_guidance,
        )


@dataclass(frozen=True)
class ModelCard:
    """`handi.json`: what a model folder says of itself beside its weights."""

    stage1: StageSettings | None  # None: the folder has no stage 1
    stage2: StageSettings = StageSettings()
    frames: int = 16  # of a clip, context image included
    height: int = 256  # pixels that the model is at home with; other sizes keep this area
    width: int = 448
    fps: float = 8.0  # frames per second
    weights: str = "trained"  # or "random": then its pixels mean nothing
    backbone: str = "framewise"  # how its networks are run, see `BACKBONES`
    base: str | None = None  # folder or hub id of the base that a folder of adapters is for
    revision: str | None = None  # of that hub id
    poses: str | None = None  # file in that folder, where its stage 2 reads the hands' poses
    format: int = 1

    @classmethod
    def from_json(cls, text: str, where: Path) -> ModelCard:
        """Raises: ModelError for a file that is not JSON, of a newer format, or with unknown entries."""
        try:
            entries = parse_json(text, where, error=ModelError)
            if entries.get("format") != cls.format:
                raise ModelError(
                    f"has format {entries.get('format')}, this handi reads {cls.format}",
                    where=where,
                    hint="update handi",
                )
            stage1, stage2 = entries.pop("stage1"), entries.pop("stage2")
            if (name := entries.get("backbone", cls.backbone)) not in BACKBONES:
                raise ModelError(f"has the backbone {name!r}", where=where, hint="update handi")
            return cls(
                stage1=None if stage1 is None else StageSettings(**stage1),
                stage2=StageSettings(**stage2),
                **entries,
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            known = ", ".join(field.name for field in fields(cls))
            raise ModelError(
                f"is not a model card ({error})", where=where, hint=f"its entries are: {known}"
            ) from error


@dataclass(frozen=True)
class Checkpoint:
    """Everything that a pipeline is made of, on the CPU."""

    unet: Any  # stage 2
    area_unet: Any  # stage 1, or None
    vae: Any
    text_encoder: Any
    tokenizer: CLIPTokenizer
    scheduler_config: Mapping[str, Any]  # `_class_name` names its class in diffusers
    prior_mask: Tensor | None  # H×W in [0, 1]
    card: ModelCard
    source: str  # the folder, the hub id, or "random"
    published: bool = False  # no handi.json: the scheduler is a training schedule, to be sampled with ours
    pose_net: Any = None  # predicts the hands' poses from what stage 1 sees, or None

    def adapter(self, stage: str) -> str:
        """What the LoRA of a stage is called: a base has one for each stage in the same network."""
        return "default" if self.card.base is None else {"stage1": "area"}.get(stage, "clip")

    def scheduler(self) -> SchedulerMixin:
        """A new scheduler of its config. Raises: ModelError for one that cannot be made."""
        name = str(self.scheduler_config.get("_class_name"))
        kind = getattr(schedulers, name, None)
        if self.published:
            make = dpm_solver
        elif kind is not None:
            make = partial(scheduler_of, kind)
        else:
            raise ModelError(f"the scheduler {name!r} is not one of diffusers'", where=self.source)
        try:
            return make(dict(self.scheduler_config))
        except Exception as error:  # whatever arithmetic makes of a wrong entry
            raise ModelError(
                f"the scheduler cannot be made of its entries ({error})",
                where=f"{self.source}/scheduler/scheduler_config.json",
                hint="copy the file again",
            ) from error

    def backbone(self) -> Backbone:
        """How its networks are run, with a scheduler of its own. Raises: ModelError."""
        make = BACKBONES[self.card.backbone]
        return make(self.vae, self.text_encoder, self.tokenizer, self.scheduler())


# ------------------------------------------------------------------------------------------ hashes


def encoder_hash(network: Any) -> str:
    """SHA-256 over the weights that make an autoencoder's latents, or a text encoder's states.

    What an autoencoder decodes with is left out: latents stay what they are while it is trained.
    """
    scale = getattr(network.config, "scaling_factor", None)
    digest = hashlib.sha256(f"{type(network).__name__} {scale}".encode())
    for key, value in sorted(network.state_dict().items()):
        if not key.startswith(("decoder.", "post_quant_conv.")):
            digest.update(key.encode() + value.cpu().float().numpy().tobytes())
    return digest.hexdigest()


def stage1_hash(checkpoint: Checkpoint) -> str:
    """SHA-256 over all that makes a motion area: the weights of stage 1, its prior mask, the autoencoder and
    the text encoder; whatever the files' format. For a model without stage 1 it is that of none. Of adapters
    on a base it is over stage 1's adapter and the prior mask."""
    digest = hashlib.sha256(repr(checkpoint.card.stage1 is not None).encode())
    if checkpoint.card.base is not None:
        for key, value in sorted(checkpoint.unet.state_dict().items()):
            if ".lora_" in key and "area" in key.split("."):
                digest.update(key.encode() + value.cpu().float().numpy().tobytes())
        networks: tuple[Any, ...] = ()
    else:
        networks = (checkpoint.area_unet, checkpoint.vae, checkpoint.text_encoder)
    for network in networks:
        for key, value in sorted(network.state_dict().items()) if network is not None else ():
            digest.update(key.encode() + value.cpu().float().numpy().tobytes())
    if checkpoint.prior_mask is not None:
        digest.update(checkpoint.prior_mask.cpu().float().numpy().tobytes())
    return digest.hexdigest()
