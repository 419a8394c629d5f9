"""CLIP's image and text embeddings by transformers, with LEGO's preprocessing instead of its processor.

The processor crops the centre, which keeps 57 % of the width of a 448×256 frame; which of its backends runs
depends on what is installed.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from handi.core.errors import ModelError
from handi.evaluation.metrics.networks.folders import first_line, load_transformers, read_config
from handi.evaluation.metrics.networks.running import (
    CLIP_STATISTICS,
    device_of,
    measuring,
    ready,
    standardise,
)

# A model is the one that it is taken for by these: width, layers and patch of its image tower.
SHAPES = {"ViT-L/14": (1024, 24, 14), "ViT-B/32": (768, 12, 32)}


class ClipModel:
    """A CLIP model and its tokenizer; embeddings have length 1."""

    def __init__(self, model: CLIPModel, tokenizer: CLIPTokenizer, device: str = "cpu") -> None:
        self.model, self.tokenizer = ready(model, device), tokenizer

    def embed_frames(self, frames: Tensor) -> Tensor:
        """L×3×H×W in [0, 1] → L×D: stretched to the model's square, bicubic without antialiasing."""
        side = self.model.config.vision_config.image_size
        with measuring():
            frames = frames.to(device_of(self.model))
            square = F.interpolate(frames, size=(side, side), mode="bicubic", align_corners=False)
            pixels = standardise(square, CLIP_STATISTICS)
            # transformers 5 wraps the projection into an output whose `pooler_output` it is
            return F.normalize(self.model.get_image_features(pixel_values=pixels).pooler_output, dim=-1).cpu()

    def embed_text(self, text: str) -> Tensor:
        """A sentence → D. What is longer than the model reads (77 tokens) is cut."""
        longest = self.model.config.text_config.max_position_embeddings
        tokens = self.tokenizer(text, truncation=True, max_length=longest, return_tensors="pt")
        with measuring():
            tokens = tokens.to(device_of(self.model))
            features = self.model.get_text_features(
                input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
            )
            return F.normalize(features.pooler_output, dim=-1)[0].cpu()


def load_clip(folder: Path, kind: str | None = None, device: str = "cpu") -> ClipModel:
    """A transformers folder of CLIP; `kind` ("ViT-L/14", "ViT-B/32") is what it must be.

    Raises: ModelError for a folder that is missing a file, damaged, or of another model.
    """
    config = read_config(folder, CLIPConfig, "clip")
    vision = config.vision_config
    found = (vision.hidden_size, vision.num_hidden_layers, vision.patch_size)
    if kind is not None and found != SHAPES[kind]:
        named = next((name for name, shape in SHAPES.items() if shape == found), None)
        raise ModelError(
            f"is CLIP {named or 'of another size'}, not {kind}",
            where=folder,
            hint="see `handi doctor` for the right folder",
        )
    model = load_transformers(CLIPModel, folder)
    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # tokenizers raises plain Exception for a damaged vocabulary
        raise ModelError(
            f"its tokenizer cannot be loaded ({first_line(error)})",
            where=folder,
            hint="it needs tokenizer.json, or vocab.json and merges.txt",
        ) from error
    return ClipModel(model, tokenizer, device)
