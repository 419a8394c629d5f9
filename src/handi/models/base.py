"""A pipeline folder of diffusers as the base of a model, and the adapters that make it handi's.

The base is whatever `DiffusionPipeline.save_pretrained` writes for a family that handi knows (`transformer/`,
`vae/`, `text_encoder/`, `tokenizer/`, `scheduler/`). Alone it has no stage 1: it needs a mask. A folder of
adapters names its base and makes two networks of one:

    handi.json                its entries `base` (a folder or a hub id) and `revision`
    area.safetensors          stage 1's LoRA, in diffusers' own format
    clip.safetensors          stage 2's
    poses.safetensors         stage 2's pose stem, where its entry `poses` names it
    prior_mask.safetensors    mean motion area of the training clips
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor

from handi.core.errors import InputError, ModelError
from handi.core.files import replace_folder, scratch_folder, writing
from handi.core.reading import read_json
from handi.models.backbone import Backbone
from handi.models.lora import load_adapter, save_lora
from handi.models.parts import BACKBONES, Checkpoint, ModelCard, StageSettings
from handi.models.pose_stem import PoseStem

TRANSFORMER = "transformer"  # the folder of the network, and what LoRA files call it
IMAGE_ENCODER = "image_encoder"
ADAPTERS = {"area": "area.safetensors", "clip": "clip.safetensors"}  # of stage 1 and stage 2
POSES = "poses.safetensors"
PRIOR = "prior_mask.safetensors"
# What a base is, by the class of its network: the autoencoder's and the text encoder's, and how it is run
# when it stands alone. Names, because importing the classes takes time that other models need not wait for.
FAMILIES: dict[str, tuple[str, str, ModelCard]] = {
    "WanTransformer3DModel": (
        "AutoencoderKLWan",
        "UMT5EncoderModel",
        ModelCard(None, StageSettings(steps=50, guidance=5.0), 49, 480, 832, fps=24.0, backbone="wan"),
    ),
    "LTXVideoTransformer3DModel": (
        "AutoencoderKLLTXVideo",
        "T5EncoderModel",
        ModelCard(None, StageSettings(steps=50, guidance=3.0), 49, 512, 704, fps=25.0, backbone="ltx"),
    ),
}


def load_base(
    folder: Path,
    source: str,
    *,
    dtype: torch.dtype | None,
    variant: str | None,
    revision: str | None = None,
    text: bool = True,
) -> Checkpoint:
    """The parts of a base, for stage 2 alone. Raises: ModelError for a family that handi does not know.

    text: whether the text encoder is loaded, which is larger than the network and idle where states are
    cached; else it is None.
    """
    network, vae, text_encoder, card = family_of(folder)
    common: dict[str, Any] = {"local_files_only": True, "variant": variant}
    dtype = dtype or torch.float32
    unet = _part(network, folder / TRANSFORMER, torch_dtype=dtype, **common)
    if _attends_to_image(folder):
        unet.image_encoder = _part(
            transformers.CLIPVisionModel, folder / IMAGE_ENCODER, dtype=dtype, **common
        )
    return Checkpoint(
        unet=unet,
        area_unet=None,
        vae=_part(vae, folder / "vae", torch_dtype=dtype, **common),
        text_encoder=_part(text_encoder, folder / "text_encoder", dtype=dtype, **common) if text else None,
        tokenizer=_tokenizer(folder),
        scheduler_config=_scheduler(folder),
        prior_mask=None,
        card=replace(card, base=_address(source), revision=revision),
        source=source,
    )


def family_of(folder: Path) -> tuple[Any, Any, Any, ModelCard]:
    """The classes of a base's network, autoencoder and text encoder, and its card.

    Raises: ModelError for a network that handi cannot run.
    """
    config = folder / TRANSFORMER / "config.json"
    entries = read_json(config, checked=False, error=ModelError)
    name = str(entries.get("_class_name"))
    if name not in FAMILIES:
        raise ModelError(f"its network is a {name}", where=config, hint=f"use one of {', '.join(FAMILIES)}")
    if (folder / f"{TRANSFORMER}_2").is_dir():
        what = "it has two networks, one for much noise and one for little"
        raise ModelError(what, where=folder, hint="use Wan 2.2 TI2V-5B, Wan 2.1 I2V or Wan 2.1 Fun-InP")
    vae_name, text_name, card = FAMILIES[name]
    network, vae = getattr(diffusers, name), getattr(diffusers, vae_name)
    text_encoder = getattr(transformers, text_name)
    taken, made = entries.get("in_channels"), entries.get("out_channels")
    if made is None or taken == made:
        return network, vae, text_encoder, card
    if card.backbone != "wan" or taken != 2 * made + 4:
        what = f"its network takes {taken} channels and makes {made}"
        hint = f"use one that takes {made}, or an image-to-video model of Wan: 2·{made} + 4 for the mask"
        raise ModelError(what, where=config, hint=hint)
    return network, vae, text_encoder, replace(card, fps=16.0)  # that of Wan 2.1's footage


def base_shapes(folder: Path) -> Checkpoint:
    """A base on the "meta" device: to be counted, not to be run. Raises: ModelError."""
    network, vae, text_encoder, card = family_of(folder)
    with torch.device("meta"):
        parts = [_read(lambda path, cls=cls: cls.from_config(cls.load_config(path)), folder / name)
                 for cls, name in ((network, TRANSFORMER), (vae, "vae"))]  # fmt: skip
        config = _read(
            text_encoder.config_class.from_pretrained, folder / "text_encoder", local_files_only=True
        )
        encoder = text_encoder(config)
        if _attends_to_image(folder):
            parts[0].image_encoder = transformers.CLIPVisionModel(
                _read(
                    transformers.CLIPVisionConfig.from_pretrained,
                    folder / IMAGE_ENCODER,
                    local_files_only=True,
                )
            )
    return Checkpoint(
        unet=parts[0].eval(),
        area_unet=None,
        vae=parts[1].eval(),
        text_encoder=encoder.eval(),
        tokenizer=_tokenizer(folder),
        scheduler_config=_scheduler(folder),
        prior_mask=None,
        card=replace(card, base=_address(str(folder))),
        source=str(folder),
    )


def load_base_encoders(folder: Path, device: torch.device, *, text: bool) -> Backbone:
    """A backbone that encodes frames, in float32, and sentences where asked for: in bfloat16 on a GPU, as
    the text encoder of Wan takes 23 GB in float32. Raises: ModelError."""
    _, vae, text_encoder, card = family_of(folder)
    common: dict[str, Any] = {"local_files_only": True, "variant": None}
    encoder = None
    if text:
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        encoder = _part(text_encoder, folder / "text_encoder", dtype=dtype, **common).to(device)
    frames = _part(vae, folder / "vae", torch_dtype=torch.float32, **common).to(device)
    return BACKBONES[card.backbone](frames, encoder, _tokenizer(folder), None)


def load_decoder(folder: str | Path, like: Any) -> Any:
    """An autoencoder of the class and the latents of another one, from its folder or its pipeline's.

    Raises: ModelError for another class or other latents.
    """
    folder = Path(folder).expanduser()
    folder = folder / "vae" if (folder / "vae").is_dir() else folder
    entries = read_json(folder / "config.json", checked=False, error=ModelError)
    if (name := entries.get("_class_name")) != type(like).__name__:
        hint = f"use an {type(like).__name__} with fewer channels"
        raise ModelError(f"is a {name}, the model's own is another class", where=folder, hint=hint)
    small = _part(type(like), folder, torch_dtype=torch.float32, local_files_only=True)
    for entry in ("z_dim", "latent_channels", "latents_mean", "latents_std", "patch_size"):
        if small.config.get(entry) != like.config.get(entry):
            what = f"has other latents ({entry}) than the model's own"
            raise ModelError(what, where=folder, hint="use a decoder that was made for this model")
    return small


@lru_cache(maxsize=16)  # of gigabytes, and asked for several times in a run
def hash_of_part(folder: Path, part: str) -> str:
    """SHA-256 over the files of one part of a base: its names, weights and settings."""
    digest = hashlib.sha256()
    for path in sorted(path for path in (folder / part).rglob("*") if path.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode())
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()


def _address(source: str) -> str:
    """What adapters name their base by: a hub id as it is, a folder from the root on."""
    path = Path(source).expanduser()
    return str(path.resolve()) if path.is_dir() else source


def _attends_to_image(folder: Path) -> bool:
    """Whether its network has a CLIP encoder for the context image, which is then held as a part of it."""
    config = folder / TRANSFORMER / "config.json"
    return read_json(config, checked=False, error=ModelError).get("image_dim") is not None


def add_adapters(parts: Checkpoint, folder: Path, card: ModelCard, prior: Tensor | None) -> Checkpoint:
    """A base with the adapters in a folder: both stages run one network. Raises: ModelError."""
    for name, file in ADAPTERS.items():
        if (folder / file).exists():
            load_adapter(parts.unet, TRANSFORMER, name, folder / file)
    if card.poses is not None:
        parts.unet.pose_stem = PoseStem.load(folder / card.poses, parts.unet, parts.backbone().chunk).eval()
    stage1 = parts.unet if (folder / ADAPTERS["area"]).exists() else None
    if (card.stage1 is None) != (stage1 is None):
        raise ModelError("handi.json and the folder disagree on whether there is a stage 1", where=folder)
    return replace(parts, area_unet=stage1, card=card, prior_mask=prior, source=str(folder))


def save_adapters(network: Any, card: ModelCard, prior: Tensor | None, folder: Path) -> None:
    """Write the adapters "area" and "clip" that a network has, with what a run needs to know of its base.

    Raises: InputError for a network without them, or a folder that holds something else; OutputError.
    """
    if not set(ADAPTERS) & set(getattr(network, "peft_config", None) or ()):
        what = "this model is its base, without adapters"
        raise InputError(what, where=folder, hint="copy the base's folder, or train: handi train wan_stage2")
    if folder.exists() and any(folder.iterdir()) and not (folder / "handi.json").exists():
        what = "holds something that is not a handi model"
        raise InputError(what, where=folder, hint="choose another folder")
    with scratch_folder(folder.parent) as scratch, writing(folder):
        whole = scratch / "model"
        whole.mkdir()
        for name, file in ADAPTERS.items():
            if name in network.peft_config:
                save_lora(network, TRANSFORMER, whole / file, adapter=name)
        if (stem := getattr(network, "pose_stem", None)) is not None:
            stem.save(whole / POSES)
            card = replace(card, poses=POSES)
        if prior is not None:
            save_file({"prior_mask": prior.float().contiguous()}, whole / PRIOR)
        (whole / "handi.json").write_text(json.dumps(asdict(card), indent=2) + "\n")
        replace_folder(whole, folder)


def _scheduler(folder: Path) -> dict[str, Any]:
    return read_json(folder / "scheduler" / "scheduler_config.json", checked=False, error=ModelError)


def _tokenizer(folder: Path) -> Any:
    return _read(transformers.AutoTokenizer.from_pretrained, folder / "tokenizer", local_files_only=True)


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
