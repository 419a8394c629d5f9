"""Weight files of the metrics' networks as they are published, with seeded random values in them.

What a network costs does not depend on its values, except for a captioner: one that was never trained hardly
ever ends a caption, so every caption is as long as it may be, and BLIP's time is the longest there is.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import BlipConfig, BlipForConditionalGeneration, CLIPConfig, CLIPModel, CLIPTokenizer

from handi.assets import MINI
from handi.evaluation.metrics import metric_class
from handi.evaluation.metrics.networks.egovlp import EgoVLP
from handi.evaluation.metrics.networks.i3d import I3D
from handi.evaluation.metrics.networks.inception import Inception
from handi.evaluation.metrics.weights import CATALOGUE

SEED = 0
WORDS = 30522  # in BERT's list
# Width, layers, heads, patch of the image tower; width and heads of the text tower; of the common space.
CLIPS = {"clip-l14": (1024, 24, 16, 14, 768, 12, 768), "clip-b32": (768, 12, 12, 32, 512, 8, 512)}
BLIPS = {"blip-base": (768, 12, 12), "blip-large": (1024, 24, 16)}  # width, layers, heads of the image tower


def put_random_weights(metric: str, folder: Path) -> None:
    """Write what a metric needs into `folder` and set the variables that name it, if they are not set."""
    for name in metric_class(metric).needs:
        if name == "hands" or os.environ.get(CATALOGUE[name].variable):
            continue
        os.environ[CATALOGUE[name].variable] = str(_written(name, folder))


def _written(name: str, folder: Path) -> Path:
    """The file or folder of these weights, under no name whose published hash is known."""
    if name == "bert-words":
        path = folder / "words.txt"
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        path.write_text("\n".join([*special, *(f"word{n}" for n in range(WORDS - len(special)))]))
        return path
    with torch.device("meta"):
        network, config = _network(name)
    if config is None:
        path = folder / f"{name}.safetensors"
        if not path.exists():
            save_file(random_tensors(network), path)
        return path
    path = folder / name
    if path.exists():
        return path
    config.save_pretrained(path)
    if CATALOGUE[name].hashed == "model.safetensors":
        torch.save(random_tensors(network), path / "pytorch_model.bin")
    else:
        save_file(random_tensors(network), path / "model.safetensors", {"format": "pt"})
    if name in CLIPS:
        _tokenizer().save_pretrained(path)
    return path


def _tokenizer() -> CLIPTokenizer:
    """That of the bundled model: its words are fewer than CLIP's, and any of them cost the same."""
    return CLIPTokenizer.from_pretrained(MINI / "tokenizer", local_files_only=True)


def _network(name: str) -> tuple[nn.Module, Any]:
    """A network without values, and its configuration where it is one of transformers'."""
    if name in CLIPS:
        width, layers, heads, patch, text_width, text_heads, common = CLIPS[name]
        tokenizer = _tokenizer()
        config = CLIPConfig(
            text_config={"hidden_size": text_width, "intermediate_size": 4 * text_width,
                         "num_attention_heads": text_heads, "bos_token_id": tokenizer.bos_token_id,
                         "eos_token_id": tokenizer.eos_token_id},
            vision_config={"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers,
                           "num_attention_heads": heads, "patch_size": patch},
            projection_dim=common,
        )  # fmt: skip
        return CLIPModel(config), config
    if name in BLIPS:
        width, layers, heads = BLIPS[name]
        blip = BlipConfig(
            text_config={"num_attention_heads": 12, "encoder_hidden_size": width},
            vision_config={"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers,
                           "num_attention_heads": heads, "image_size": 384},
        )  # fmt: skip
        return BlipForConditionalGeneration(blip), blip
    kinds = {"inception": Inception, "i3d": I3D}
    if name in kinds:
        return kinds[name](), None
    return EgoVLP({"egovlp-epic": 16, "egovlp-ego4d": 4}[name]), None


def random_tensors(network: nn.Module) -> dict[str, Tensor]:
    """A value for every weight, of a size that keeps activations in bounds."""
    chance = torch.Generator().manual_seed(SEED)
    values = {}
    for name, weight in sorted(network.state_dict().items()):
        if not weight.is_floating_point():
            values[name] = torch.zeros(weight.shape, dtype=weight.dtype)
        elif name.endswith("running_var") or (name.endswith("weight") and weight.ndim == 1):
            values[name] = torch.ones(weight.shape)
        elif name.endswith("weight"):
            spread = weight[0].numel() ** -0.5
            values[name] = torch.randn(weight.shape, generator=chance) * spread
        else:  # biases, means, class token, positions
            values[name] = torch.zeros(weight.shape)
    return values
