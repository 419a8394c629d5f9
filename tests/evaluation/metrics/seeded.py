"""Weights that are the same everywhere, for networks whose published weights cannot be had in a test."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import torch
from torch import Tensor, nn
from transformers import (
    BlipConfig,
    BlipForConditionalGeneration,
    CLIPConfig,
    CLIPModel,
    CLIPTokenizer,
    DistilBertConfig,
)

from handi.assets import MINI
from handi.evaluation.metrics.networks.egovlp import EgoVLP

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "picture", "of", "hand", "cut", "carrot", "the"]


def seeded(network: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    """A value for every weight of a network (which may be on the meta device), by order of names."""
    chance = torch.Generator().manual_seed(seed)
    values = {}
    for name, weight in sorted(network.state_dict().items()):
        shape = weight.shape
        if name.endswith("num_batches_tracked"):
            values[name] = torch.tensor(0)
        elif name.endswith("running_var"):
            values[name] = 0.5 + torch.rand(shape, generator=chance)
        elif name.endswith("weight") and len(shape) >= 2:
            values[name] = torch.randn(shape, generator=chance) * (2 / weight[0].numel()) ** 0.5
        elif name.endswith("weight"):
            values[name] = 0.5 + torch.rand(shape, generator=chance)
        else:  # biases, means, class token, positions
            values[name] = 0.2 * torch.randn(shape, generator=chance)
    return values


def tiny_clip(folder: Path) -> Path:
    """A folder of a CLIP of two thin layers a tower with mini's tokenizer."""
    tokenizer = CLIPTokenizer.from_pretrained(MINI / "tokenizer", local_files_only=True)
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = CLIPConfig(
        text_config={**tower, **ends, "vocab_size": len(tokenizer), "max_position_embeddings": 20},
        vision_config={**tower, "image_size": 32, "patch_size": 8},
        projection_dim=8,
    )
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def thin_egovlp(slots: int) -> EgoVLP:
    """EgoVLP with thin towers: what is around them does not depend on their size."""
    thin = DistilBertConfig(vocab_size=40, dim=32, n_layers=1, n_heads=2, hidden_dim=64)
    with mock.patch("handi.evaluation.metrics.networks.egovlp.DistilBertConfig", return_value=thin):
        network = EgoVLP(slots, 32, 1, 2)
    network.load_state_dict(seeded(network))
    return network


def tiny_blip() -> BlipForConditionalGeneration:
    """A captioner of 64-wide towers, one head each, as its sizes would be read off a published file."""
    tower = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 1}
    config = BlipConfig(
        vision_config={**tower, "image_size": 32, "patch_size": 16, "layer_norm_eps": 1e-6},
        text_config={**tower, "encoder_hidden_size": 64, "vocab_size": len(WORDS) + 2, "sep_token_id": 3,
                     "bos_token_id": len(WORDS), "max_position_embeddings": 32},
    )  # fmt: skip
    model = BlipForConditionalGeneration(config).eval()
    torch.manual_seed(0)
    for name, weight in model.named_parameters():  # without biases, which would outvote the picture
        weight.data = torch.full(weight.shape, 1.0 - name.endswith("bias"))
        if weight.ndim > 1:
            weight.data = 0.3 * torch.randn(weight.shape)
    return model
