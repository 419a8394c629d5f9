"""What a model makes of clips beforehand, so that training need not: latents and text states."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from handi.core.types import Frames
from handi.models import checkpoint


class Encoder:
    """A model folder's autoencoder and text encoder on a device; what it generates with is not loaded.

    Arithmetic is float32, results are float16: a clip of 256×448 has 229 kB of latents. Raises: ModelError.
    """

    def __init__(self, model: str, device: torch.device | str = "cpu") -> None:
        self.vae, self.text_encoder, self.tokenizer = checkpoint.load_encoders(model)
        self.vae.to(device).eval()
        self.text_encoder.to(device).eval()
        self.device = torch.device(device)

    @torch.no_grad()
    def latents(self, frames: Frames) -> np.ndarray:
        """F×H×W×3 → F×C×h×w float16: the posterior's mode, scaled, as training makes it of frames."""
        pictures = torch.from_numpy(np.ascontiguousarray(frames)).to(self.device).permute(0, 3, 1, 2)
        latents = self.vae.encode(pictures.float().div(127.5).sub(1)).latent_dist.mode()
        return (latents * self.vae.config.scaling_factor).to("cpu", torch.float16).numpy()

    @torch.no_grad()
    def embeddings(self, sentences: Sequence[str]) -> np.ndarray:
        """S sentences → S×N×D float16, the text encoder's states, padded to its length.

        One at a time, so that a sentence has the same states in any company.
        """
        limit = min(self.tokenizer.model_max_length, self.text_encoder.config.max_position_embeddings)
        states = []
        for sentence in sentences:
            ids = self.tokenizer(
                [sentence], padding="max_length", max_length=limit, truncation=True, return_tensors="pt"
            ).input_ids
            states.append(self.text_encoder(ids.to(self.device)).last_hidden_state)
        return torch.cat(states).to("cpu", torch.float16).numpy()


def hashes_of(model: str) -> dict[str, str]:
    """Hashes by which training knows whether cached latents and text states are its own model's.

    Raises: ModelError.
    """
    vae, text_encoder, _ = checkpoint.load_encoders(model)
    return {"vae": checkpoint.encoder_hash(vae), "text_encoder": checkpoint.encoder_hash(text_encoder)}
