"""Model folders: ours, and AnimateAnything's and HANDI/IVG's as published, from disk or from the hub.

A folder is AnimateAnything's layout (`unet/`, `vae/`, `text_encoder/`, `tokenizer/`, `scheduler/`), where
`unet/` is stage 2. Ours adds stage 1 and what a run needs to know:

    area_unet/                stage 1
    pose_net/                 where the hands will be, where there is one
    prior_mask.safetensors    mean motion area of the training clips, H×W float32 in [0, 1]
    model_index.json          for diffusers: `DiffusionPipeline.from_pretrained(folder)`
    handi.json                see ModelCard

Pipelines of diffusers, and adapters for them, are in `models.base`.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer, PreTrainedModel

from handi.core.errors import InputError, ModelError
from handi.core.files import present, replace_folder, scratch_folder, writing
from handi.core.reading import read_json, read_text
from handi.models.backbone import Backbone, check_frames
from handi.models.base import (
    ADAPTERS,
    POSES,
    PRIOR,
    TRANSFORMER,
    add_adapters,
    base_shapes,
    hash_of_part,
    load_base,
    load_base_encoders,
    save_adapters,
)
from handi.models.inventory import CARD, COMPONENTS
from handi.models.location import INDEX, OPTIONAL, first_line, is_hub_id, locate
from handi.models.parts import BACKBONES, CLASSES, Checkpoint, ModelCard, StageSettings, encoder_hash
from handi.models.pose_net import PoseNet
from handi.models.unet import HandiUNet

# --------------------------------------------------------------------------------------------- load


def load(
    model: str | Path,
    *,
    dtype: torch.dtype | None = None,
    revision: str | None = None,
    variant: str | None = None,
    base: str | Path | None = None,
    text: bool = True,
) -> Checkpoint:
    """Load a local folder, or a hub id ("owner/name"), into memory.

    base: of a folder of adapters, where it lies elsewhere than its card says. text: False leaves a base's
    text encoder out. Raises: ModelError naming the file at fault, with a hint.
    """
    folder = locate(model, revision=revision)
    options: dict[str, Any] = {"dtype": dtype, "variant": variant, "text": text}
    if (card := _card_of(folder)).base is not None:
        if base is not None:
            card = replace(card, base=str(base), revision=None)
        parts = load_base(_locate_base(card, folder), str(card.base), revision=card.revision, **options)
        return add_adapters(parts, folder, replace(card, base=parts.card.base), prior_of(folder))
    if base is not None:
        raise ModelError("holds no adapters, so that it has no base", where=model, hint="leave --base out")
    if (folder / TRANSFORMER).is_dir():
        return load_base(folder, str(model), revision=revision, **options)
    _check_variant(folder, variant)
    _require_components(folder)
    unet = _load_network(HandiUNet, folder / "unet", dtype, variant)
    area_unet = None
    if (area_folder := folder / "area_unet").is_dir():
        area_unet = _load_network(HandiUNet, area_folder, dtype, variant)
    pose_net = None
    if (pose_folder := folder / "pose_net").is_dir():
        pose_net = _load_network(PoseNet, pose_folder, dtype, variant)
        if getattr(area_unet, "finder", None) is None:
            raise ModelError("a model with a pose_net needs a stage 1 with a finder", where=folder)
    card, prior = load_card(folder, unet, area_unet)
    return Checkpoint(
        unet=unet,
        area_unet=area_unet,
        pose_net=pose_net,
        vae=_load_autoencoder(folder / "vae", dtype, variant),
        text_encoder=_load_network(CLIPTextModel, folder / "text_encoder", dtype, variant),
        tokenizer=_load_tokenizer(folder / "tokenizer"),
        scheduler_config=_read_json(folder / "scheduler" / "scheduler_config.json"),
        prior_mask=prior,
        card=card,
        source=str(model),
        published=not (folder / CARD).exists(),
    )


def load_card(folder: Path, unet: Any, area_unet: Any) -> tuple[ModelCard, Tensor | None]:
    """What a folder holds beside its networks: the card and the prior mask. Raises: ModelError."""
    card, prior_file = _card_of(folder), folder / PRIOR
    if not (folder / CARD).exists():
        card = _card_of_published(unet, area_unet)
    prior = _load_prior(prior_file) if prior_file.exists() else None
    if area_unet is not None and prior is None:
        raise ModelError("a model with a stage 1 needs its prior mask", where=prior_file)
    if (card.stage1 is None) != (area_unet is None):
        raise ModelError("handi.json and the folder disagree on whether there is a stage 1", where=folder)
    return card, prior


def base_of(model: str | Path) -> Path | None:
    """The folder of the base that a model is or has adapters for; None: no such model. Raises: ModelError."""
    folder = locate(model)
    if (card := _card_of(folder)).base is not None:
        return _locate_base(card, folder)
    return folder if (folder / TRANSFORMER).is_dir() else None


def prior_of(model: str | Path) -> Tensor | None:
    """The prior mask of a model folder, H×W; None where it has none. Raises: ModelError."""
    path = locate(model) / PRIOR
    return _load_prior(path) if path.exists() else None


def _locate_base(card: ModelCard, folder: Path) -> Path:
    """Raises: ModelError naming the adapters' folder where their base is not there."""
    try:
        return locate(str(card.base), revision=card.revision)
    except ModelError as error:
        hint = "say where it lies: --base FOLDER_OR_HUB_ID"
        raise ModelError(f"its base cannot be found: {error}", where=folder, hint=hint) from error


def _card_of(folder: Path) -> ModelCard:
    """The folder's card; where it has none, as published models do, the default one."""
    path = folder / CARD
    if not path.exists():
        return ModelCard(stage1=None)
    return ModelCard.from_json(read_text(path, error=ModelError), path)


def _weight_files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.glob("*") if p.suffix in {".safetensors", ".bin"})


def _variants(folder: Path) -> set[str]:
    """The variants of a component's weight files: of `diffusion_pytorch_model.fp16.safetensors`, "fp16"."""
    names = (re.fullmatch(r"[^.]+\.([a-z]\w*)(-\d+-of-\d+)?\.\w+", name) for name in _weight_files(folder))
    return {name[1] for name in names if name}


def _check_variant(folder: Path, variant: str | None) -> None:
    """Raises: ModelError for a variant that no component of a model folder has."""
    found = set().union(*(_variants(path) for path in folder.iterdir() if path.is_dir()))
    if variant is not None and variant not in found:
        others = f"; it has {', '.join(sorted(found))}" if found else ""
        raise ModelError(f"has no {variant} weights{others}", where=folder, hint="leave --variant out")


def require(model: str | Path) -> None:
    """Look whether a model is there, and load nothing; of a hub id nothing is known before it is fetched.

    Raises: ModelError.
    """
    name = str(model)
    if name != "random" and (Path(name).expanduser().exists() or not is_hub_id(name)):
        _require_components(locate(name))


def _require_components(folder: Path) -> None:
    if (folder / TRANSFORMER).is_dir() or _card_of(folder).base is not None:
        return  # a base, or adapters for one
    for name in COMPONENTS:
        if not (folder / name).is_dir():
            raise ModelError(
                f"the model folder has no {name}/",
                where=folder,
                hint=f"it needs {', '.join(c + '/' for c in COMPONENTS)}",
            )


def load_encoders(model: str | Path, device: torch.device, *, text: bool = True) -> Backbone:
    """A backbone that can encode frames and sentences, in float32; networks that generate are not loaded.

    text: False leaves a base's text encoder out. Raises: ModelError.
    """
    if (base := base_of(model)) is not None:
        return load_base_encoders(base, device, text=text)
    folder = locate(model)
    vae = _load_autoencoder(folder / "vae", torch.float32, None)
    text_encoder = _load_network(CLIPTextModel, folder / "text_encoder", torch.float32, None)
    make = BACKBONES[_card_of(folder).backbone]
    return make(vae.to(device), text_encoder.to(device), _load_tokenizer(folder / "tokenizer"), None)


def check_sizes(model: str | Path, frames: int, size: tuple[int, int]) -> int:
    """That a model can encode clips of these sizes; gives how many frames a latent after the first is of.

    Raises: InputError naming the nearest sizes that it can encode, ModelError.
    """
    if (base := base_of(model)) is None:
        return 1
    backbone = base_shapes(base).backbone()
    check_frames(frames, backbone.chunk, "--frames")
    step = backbone.multiple
    if any(side % step for side in size):
        nearest = "x".join(str(max(1, round(side / step)) * step) for side in size)
        what = f"frames of {size[0]}×{size[1]}, this model takes multiples of {step}"
        raise InputError(what, where="--size", hint=f"use {nearest}")
    return backbone.chunk


def encoder_hashes(model: str | Path) -> dict[str, str]:
    """Hashes by which training knows whether cached latents and text states are its own model's.

    Raises: ModelError.
    """
    if (base := base_of(model)) is not None:
        return {name: hash_of_part(base, name) for name in ("vae", "text_encoder")}
    backbone = load_encoders(model, torch.device("cpu"))
    return {name: encoder_hash(getattr(backbone, name)) for name in ("vae", "text_encoder")}


def _class_of(folder: Path, otherwise: Any) -> Any:
    """The class that a component's config names, where it is one of `CLASSES`."""
    config = _read_json(folder / "config.json")
    names = [config.get("_class_name"), *(config.get("architectures") or ())]  # diffusers', transformers'
    return next((CLASSES[name] for name in names if name in CLASSES), otherwise)


def _load_network(otherwise: Any, folder: Path, dtype: torch.dtype | None, variant: str | None) -> Any:
    """A network from its folder, .safetensors or .bin (read with weights_only), with every weight there.

    otherwise: its class, where its config names none of `CLASSES`.
    """
    cls = _class_of(folder, otherwise)
    more: dict[str, Any] = {"torch_dtype": dtype or torch.float32}
    if issubclass(cls, PreTrainedModel):
        more = {"dtype": dtype or torch.float32, "trust_remote_code": False}
    there = _variants(folder)
    if variant is None and there and not any(name.count(".") == 1 for name in _weight_files(folder)):
        only = sorted(there)[0]
        hint = f"say --variant {only} (in Python: variant={only!r})"
        raise ModelError(f"holds only {only} weights", where=folder, hint=hint)
    try:
        network, info = cls.from_pretrained(
            folder,
            variant=variant if variant in there else None,  # as diffusers' pipelines do
            output_loading_info=True,
            local_files_only=True,
            **more,
        )
    except Exception as error:  # three libraries, each with its own kinds for a file that is cut or absent
        weights = _weight_files(folder)
        found = f"found {', '.join(weights)}" if weights else "no .safetensors or .bin file there"
        raise ModelError(
            f"its weights cannot be loaded ({found}: {first_line(error)})",
            where=folder,
            hint="copy the file again: it may be missing, cut short or of another model",
        ) from error
    if missing := sorted(info["missing_keys"]):
        raise ModelError(f"{len(missing)} weights are missing, among them {missing[0]}", where=folder)
    return network.eval()


def _load_autoencoder(folder: Path, dtype: torch.dtype | None, variant: str | None) -> Any:
    vae = _load_network(AutoencoderKL, folder, dtype, variant)
    scale = vae.config.get("scaling_factor", 1.0)
    if not isinstance(scale, int | float) or not 0 < scale < float("inf"):
        raise ModelError(
            f"scaling_factor is {scale!r}",
            where=folder / "config.json",
            hint="use the number of its training",
        )
    return vae


def _load_tokenizer(folder: Path) -> CLIPTokenizer:
    try:
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # tokenizers raises plain Exception for a damaged vocabulary
        raise ModelError(
            f"the tokenizer cannot be loaded ({first_line(error)})",
            where=folder,
            hint="it needs vocab.json, merges.txt and tokenizer_config.json",
        ) from error


def _load_prior(path: Path) -> Tensor:
    try:
        prior = load_file(path)["prior_mask"].float()
    except Exception as error:  # safetensors' own error is not a subclass of anything useful
        raise ModelError(f"is not a prior mask ({first_line(error)})", where=path) from error
    if prior.ndim != 2:
        raise ModelError(f"the prior mask is H×W, this one {tuple(prior.shape)}", where=path)
    return prior


def _read_json(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise ModelError("is missing from the model folder", where=path)
    config = read_json(path, checked=False, error=ModelError)  # diffusers writes -Infinity
    if not isinstance(config, dict):
        raise ModelError("is not a JSON object", where=path, hint="copy the file again")
    return config


def _card_of_published(unet: Any, area_unet: Any) -> ModelCard:
    """What a folder without handi.json is taken for: AnimateAnything's sampling, the UNet's own size."""
    card = ModelCard(stage1=StageSettings() if area_unet is not None else None)
    size = unet.config.sample_size
    if size is None:
        return card
    height, width = (size, size) if isinstance(size, int) else size
    return replace(card, height=height * 8, width=width * 8)


# --------------------------------------------------------------------------------------------- save


def save(checkpoint: Checkpoint, scheduler: SchedulerMixin, folder: str | Path) -> None:
    """Write a model folder, safetensors throughout. Killed at any moment, `locate` finds the old or the new.

    Of a base with adapters, the adapters are written.

    Raises: InputError for a folder that holds something else, OutputError.
    """
    folder = present(Path(folder))
    if checkpoint.card.base is not None:
        save_adapters(checkpoint.unet, checkpoint.card, checkpoint.prior_mask, folder)
        return
    if folder.exists() and any(folder.iterdir()) and not (folder / CARD).exists():
        raise InputError(
            "holds something that is not a handi model", where=folder, hint="choose another folder"
        )
    with scratch_folder(folder.parent) as scratch, writing(folder):
        whole = scratch / "model"
        for name in ("unet", *OPTIONAL, "vae", "text_encoder", "tokenizer"):
            if (component := getattr(checkpoint, name)) is not None:
                component.save_pretrained(whole / name)
        scheduler.save_pretrained(whole / "scheduler")
        if checkpoint.prior_mask is not None:
            save_file({"prior_mask": checkpoint.prior_mask.float().contiguous()}, whole / PRIOR)
        (whole / CARD).write_text(json.dumps(asdict(checkpoint.card), indent=2) + "\n")
        (whole / INDEX).write_text(json.dumps(_index(checkpoint, scheduler), indent=2) + "\n")
        replace_folder(whole, folder)


def _index(checkpoint: Checkpoint, scheduler: SchedulerMixin) -> dict[str, Any]:
    """model_index.json: the class of the pipeline and of each part, and the module that it is found in."""
    index: dict[str, Any] = {"_class_name": "HandiPipeline", "_diffusers_version": diffusers.__version__}
    for name in ("vae", "text_encoder", "tokenizer", "unet", "scheduler", *OPTIONAL):
        part = scheduler if name == "scheduler" else getattr(checkpoint, name)
        module = type(part).__module__
        library = module if module.startswith("handi.") else module.partition(".")[0]
        index[name] = [None, None] if part is None else [library, type(part).__name__]
    return index


def encoder_hash_of(parts: Checkpoint, part: str) -> str:
    """What `encoder_hashes` says of a part, "vae" or "text_encoder", of a loaded one. Raises: ModelError."""
    if parts.card.base is None:
        return encoder_hash(getattr(parts, part))
    return hash_of_part(locate(parts.card.base, revision=parts.card.revision), part)


def fingerprint(checkpoint: Checkpoint) -> str:
    """SHA-256 over the model's files (names and bytes); of random weights, over the tensors."""
    digest = hashlib.sha256()
    if checkpoint.source == "random":
        for name in ("unet", "area_unet", "vae", "text_encoder"):  # it has no pose_net
            for key, value in sorted(getattr(checkpoint, name).state_dict().items()):
                digest.update(f"{name}.{key}".encode() + value.cpu().float().numpy().tobytes())
        return digest.hexdigest()
    folder = locate(checkpoint.source)
    names = [f"{c}/*" for c in (*COMPONENTS, *OPTIONAL, TRANSFORMER)]
    names += [CARD, PRIOR, POSES, *ADAPTERS.values()]
    for path in sorted(p for pattern in names for p in folder.glob(pattern) if p.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode())
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()
