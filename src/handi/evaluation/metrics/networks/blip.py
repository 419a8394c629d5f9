"""BLIP's captioner by transformers: a transformers folder, or a published .pth with its keys translated.

LEGO's base captioner (model_base_caption_capfilt_large.pth) is not the one in the hub's folder
(blip-image-captioning-base): each gives its own captions, so results name the file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import BertTokenizer, BlipConfig, BlipForConditionalGeneration

from handi.core.errors import ModelError
from handi.core.types import Picture
from handi.evaluation.metrics.networks.folders import load_transformers, read_config
from handi.evaluation.metrics.networks.running import (
    CLIP_STATISTICS,
    device_of,
    measuring,
    ready,
    standardise,
)

PROMPT = "a picture of"
BEAMS, LONGEST, SHORTEST = 3, 20, 5  # tokens, the prompt's counted, as LEGO asks for them
WIDTHS = {768: "base", 1024: "large"}  # of the image tower

_RENAMES = (  # published key → transformers', in this order
    (r"^visual_encoder\.cls_token$", "vision_model.embeddings.class_embedding"),
    (r"^visual_encoder\.pos_embed$", "vision_model.embeddings.position_embedding"),
    (r"^visual_encoder\.patch_embed\.proj\.", "vision_model.embeddings.patch_embedding."),
    (r"^visual_encoder\.norm\.", "vision_model.post_layernorm."),
    (r"^visual_encoder\.blocks\.(\d+)\.attn\.qkv\.", r"vision_model.encoder.layers.\1.self_attn.qkv."),
    (
        r"^visual_encoder\.blocks\.(\d+)\.attn\.proj\.",
        r"vision_model.encoder.layers.\1.self_attn.projection.",
    ),
    (r"^visual_encoder\.blocks\.(\d+)\.norm([12])\.", r"vision_model.encoder.layers.\1.layer_norm\2."),
    (r"^visual_encoder\.blocks\.(\d+)\.mlp\.", r"vision_model.encoder.layers.\1.mlp."),
)


class Captioner:
    """BLIP with BERT's words and its own two, [DEC] and [ENC]."""

    def __init__(
        self, model: BlipForConditionalGeneration, words: BertTokenizer, device: str = "cpu"
    ) -> None:
        self.model, self.words = ready(model, device), words
        prompt = words(PROMPT).input_ids
        # generate() puts [DEC] in the first place and leaves the last, [SEP], out
        self.prompt = torch.tensor([prompt], device=device_of(self.model))

    def caption(self, picture: Picture) -> str:
        """What a H×W×3 picture shows, without the prompt. One at a time: a batch changes captions."""
        with measuring():
            tokens = self.model.generate(
                pixel_values=pixels_of(picture, self.model.config.vision_config.image_size)[None].to(
                    self.prompt.device
                ),
                input_ids=self.prompt.clone(),
                num_beams=BEAMS,
                max_length=LONGEST,
                min_length=SHORTEST,
                do_sample=False,
            )
        text = self.words.decode(tokens[0, self.prompt.shape[1] - 1 :], skip_special_tokens=True)
        return text.strip()


def pixels_of(picture: Picture, side: int) -> Tensor:
    """3×side×side of H×W×3: stretched by Pillow's bicubic (antialiased, on bytes), CLIP's statistics."""
    square = Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC)
    tensor = torch.from_numpy(np.array(square)).permute(2, 0, 1).float() / 255
    return standardise(tensor, CLIP_STATISTICS)


def load_blip_folder(
    folder: Path, words: BertTokenizer, size: str | None = None, device: str = "cpu"
) -> Captioner:
    """A transformers folder; `size` ("base", "large") is what it must be. Raises: ModelError."""
    config = read_config(folder, BlipConfig, "blip")
    _check_size(config.vision_config.hidden_size, size, folder)
    return Captioner(load_transformers(BlipForConditionalGeneration, folder), words, device)


def build_blip(
    tensors: Mapping[str, Tensor],
    where: str | Path,
    words: BertTokenizer,
    size: str | None = None,
    device: str = "cpu",
) -> Captioner:
    """A captioner with the weights of a published .pth, its sizes read off them. Raises: ModelError."""
    needed = (
        "visual_encoder.cls_token",
        "visual_encoder.pos_embed",
        "visual_encoder.patch_embed.proj.weight",
        "text_decoder.bert.embeddings.word_embeddings.weight",
        "text_decoder.bert.embeddings.position_embeddings.weight",
    )
    if missing := [key for key in needed if key not in tensors]:
        raise ModelError(
            f"is not a BLIP captioner: {missing[0]} is missing", where=where, hint="see `handi doctor`"
        )
    _check_size(tensors["visual_encoder.cls_token"].shape[-1], size, where)
    renamed = {_rename(k): v.float() for k, v in tensors.items() if not k.endswith("position_ids")}
    model, info = BlipForConditionalGeneration.from_pretrained(
        None, config=_config_of(tensors), state_dict=renamed, output_loading_info=True, dtype=torch.float32
    )
    for reason in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if keys := sorted(info[reason], key=str):
            kind = reason.partition("_")[0]
            raise ModelError(
                f"is not a BLIP captioner: {len(keys)} weights are {kind}, among them {keys[0]}",
                where=where,
                hint="see `handi doctor`",
            )
    return Captioner(model, words, device)


def _check_size(width: int, size: str | None, where: str | Path) -> None:
    if size is not None and WIDTHS.get(width) != size:
        raise ModelError(
            f"is BLIP {WIDTHS.get(width, 'of another size')}, not {size}",
            where=where,
            hint="see `handi doctor`",
        )


def _rename(key: str) -> str:
    for pattern, replacement in _RENAMES:
        key = re.sub(pattern, replacement, key)
    return key


def _config_of(tensors: Mapping[str, Tensor]) -> BlipConfig:
    """Sizes of a published file. Its heads are 64 wide, and its norms have the original code's epsilons:
    transformers' defaults (8 text heads, 1e-5) are not those."""
    kernel = tensors["visual_encoder.patch_embed.proj.weight"]
    width, patch = kernel.shape[0], kernel.shape[-1]
    grid = round((tensors["visual_encoder.pos_embed"].shape[1] - 1) ** 0.5)
    vocabulary, text_width = tensors["text_decoder.bert.embeddings.word_embeddings.weight"].shape
    vision = {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": _layers(tensors, r"visual_encoder\.blocks\.(\d+)\."),
        "num_attention_heads": max(width // 64, 1),
        "image_size": grid * patch,
        "patch_size": patch,
        "layer_norm_eps": 1e-6,
    }
    text = {
        "vocab_size": vocabulary,
        "hidden_size": text_width,
        "encoder_hidden_size": width,
        "intermediate_size": 4 * text_width,
        "num_hidden_layers": _layers(tensors, r"text_decoder\.bert\.encoder\.layer\.(\d+)\."),
        "num_attention_heads": max(text_width // 64, 1),
        "max_position_embeddings": tensors["text_decoder.bert.embeddings.position_embeddings.weight"].shape[
            0
        ],
        "layer_norm_eps": 1e-12,
        "bos_token_id": vocabulary - 2,  # [DEC]; [ENC] is the last
    }
    return BlipConfig(vision_config=vision, text_config=text)


def _layers(tensors: Mapping[str, Tensor], pattern: str) -> int:
    return len({found[1] for key in tensors if (found := re.match(pattern, key))})
