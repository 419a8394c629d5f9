"""A pipeline folder of diffusers as the base of a model, and the adapters that make it handi's.

The base is whatever `DiffusionPipeline.save_pretrained` writes for a family that handi knows (`transformer/`,
`vae/`, `text_encoder/`, `tokenizer/`, `scheduler/`). Alone it has no stage 1: it needs a mask. A folder of
adapters names its base and makes two networks of one:

    handi.json                its entries `base` (a folder or a hub id) and `revision`
    area.safetensors          stage 1's LoRA, in diffusers' own format
    clip.safetensors          stage 2's
    prior_mask.safetensors    mean motion area of the training clips
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLLTXVideo,
    AutoencoderKLWan,
    LTXVideoTransformer3DModel,
    WanTransformer3DModel,
)
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoTokenizer, T5EncoderModel, UMT5EncoderModel

from handi.core.errors import InputError, ModelError
from handi.core.files import replace_folder, scratch_folder, writing
from handi.core.reading import read_json
from handi.models.lora import load_adapter, save_lora
from handi.models.parts import Checkpoint, ModelCard, StageSettings

TRANSFORMER = "transformer"  # the folder of the network, and what LoRA files call it
ADAPTERS = {"area": "area.safetensors", "clip": "clip.safetensors"}  # of stage 1 and stage 2
PRIOR = "prior_mask.safetensors"
# What a base is, by the class of its network: its other classes, and how it is run when it stands alone.
FAMILIES: dict[str, tuple[Any, Any, Any, ModelCard]] = {
    "WanTransformer3DModel": (
        WanTransformer3DModel,
        AutoencoderKLWan,
        UMT5EncoderModel,
        ModelCard(None, StageSettings(steps=50, guidance=5.0), 49, 480, 832, fps=24.0, backbone="wan"),
    ),
    "LTXVideoTransformer3DModel": (
        LTXVideoTransformer3DModel,
        AutoencoderKLLTXVideo,
        T5EncoderModel,
        ModelCard(None, StageSettings(steps=50, guidance=3.0), 49, 512, 704, fps=25.0, backbone="ltx"),
    ),
}


def load_base(folder: Path, source: str, *, dtype: torch.dtype | None, variant: str | None) -> Checkpoint:
    """The parts of a base, for stage 2 alone. Raises: ModelError for a family that handi does not know."""
    config = folder / TRANSFORMER / "config.json"
    name = str(read_json(config, checked=False, error=ModelError).get("_class_name"))
    if name not in FAMILIES:
        raise ModelError(f"its network is a {name}", where=config, hint=f"use one of {', '.join(FAMILIES)}")
    network, vae, text_encoder, card = FAMILIES[name]
    common: dict[str, Any] = {"local_files_only": True, "variant": variant}
    dtype = dtype or torch.float32
    parts = Checkpoint(
        unet=_part(network, folder / TRANSFORMER, torch_dtype=dtype, **common),
        area_unet=None,
        vae=_part(vae, folder / "vae", torch_dtype=dtype, **common),
        text_encoder=_part(text_encoder, folder / "text_encoder", dtype=dtype, **common),
        tokenizer=_read(AutoTokenizer.from_pretrained, folder / "tokenizer", local_files_only=True),
        scheduler_config=read_json(
            folder / "scheduler" / "scheduler_config.json", checked=False, error=ModelError
        ),
        prior_mask=None,
        card=card,
        source=source,
    )
    taken, made = parts.unet.config.in_channels, parts.unet.config.out_channels
    if taken != made:
        what = (
            f"its network takes {taken} channels and makes {made}: an image-to-video model with mask channels"
        )
        raise ModelError(
            what, where=config, hint="use one with a timestep per token, such as Wan 2.2 TI2V-5B"
        )
    return parts


def add_adapters(parts: Checkpoint, folder: Path, card: ModelCard, prior: Tensor | None) -> Checkpoint:
    """A base with the adapters in a folder: both stages run one network. Raises: ModelError."""
    for name, file in ADAPTERS.items():
        if (folder / file).exists():
            load_adapter(parts.unet, TRANSFORMER, name, folder / file)
    stage1 = parts.unet if (folder / ADAPTERS["area"]).exists() else None
    if (card.stage1 is None) != (stage1 is None):
        raise ModelError("handi.json and the folder disagree on whether there is a stage 1", where=folder)
    return replace(parts, area_unet=stage1, card=card, prior_mask=prior, source=str(folder))


def save_adapters(network: Any, card: ModelCard, prior: Tensor | None, folder: Path) -> None:
    """Write the adapters "area" and "clip" that a network has, with what a run needs to know of its base.

    Raises: InputError for a card without a base, or a folder that holds something else; OutputError.
    """
    if card.base is None:
        raise InputError("the model card names no base", where=folder)
    if folder.exists() and any(folder.iterdir()) and not (folder / "handi.json").exists():
        what = "holds something that is not a handi model"
        raise InputError(what, where=folder, hint="choose another folder")
    with scratch_folder(folder.parent) as scratch, writing(folder):
        whole = scratch / "model"
        whole.mkdir()
        for name, file in ADAPTERS.items():
            if name in network.peft_config:
                save_lora(network, TRANSFORMER, whole / file, adapter=name)
        if prior is not None:
            save_file({"prior_mask": prior.float().contiguous()}, whole / PRIOR)
        (whole / "handi.json").write_text(json.dumps(asdict(card), indent=2) + "\n")
        replace_folder(whole, folder)


def _part(cls: Any, folder: Path, **options: Any) -> Any:
    network, info = _read(cls.from_pretrained, folder, output_loading_info=True, **options)
    if missing := sorted(info["missing_keys"]):
        raise ModelError(f"{len(missing)} weights are missing, among them {missing[0]}", where=folder)
    return network.eval()


def _read(read: Callable[..., Any], folder: Path, **options: Any) -> Any:
    try:
        return read(folder, **options)
    except Exception as error:  # diffusers and transformers, each with its own kinds
        first = " ".join(str(error).split())[:160]
        raise ModelError(f"cannot be loaded ({first})", where=folder, hint="copy the files again") from error
