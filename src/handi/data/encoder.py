"""What a model computes from clips once, so that training need not: latents and text states."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from handi.core.types import Frames
from handi.method.latents import as_video
from handi.models import folder as model_folder


class Encoder:
    """A model folder's autoencoder and text encoder on a device; what it generates with is not loaded.

    Arithmetic is float32, results are float16: a clip of 256×448 has 229 kB of latents. Raises: ModelError.
    """

    def __init__(self, model: str, device: torch.device | str = "cpu", *, text: bool = True) -> None:
        self.device = torch.device(device)
        self.backbone = model_folder.load_encoders(model, self.device, text=text)

    @torch.no_grad()
    def latents(self, frames: Frames) -> np.ndarray:
        """F×H×W×3 → f×C×h×w float16: the posterior's mode, scaled, as training makes it of frames."""
        video = as_video(torch.from_numpy(np.ascontiguousarray(frames))[None].to(self.device))
        return self.backbone.encode(video)[0].transpose(0, 1).to("cpu", torch.float16).numpy()

    @torch.no_grad()
    def embeddings(self, sentences: Sequence[str]) -> np.ndarray:
        """S sentences → S×N×D float16, the text encoder's states, padded to its length.

        One at a time, so that a sentence has the same states in any company. Of models that encode frames
        together the empty sentence comes last, and rows that are zero in all sentences are left out.
        """
        together = self.backbone.chunk > 1
        asked = [*sentences, ""] if together else sentences
        states = torch.cat([self.backbone.text([sentence], self.device) for sentence in asked])
        if together:
            states = states[:, : int(states.any(-1).sum(1).max())]
        return states.to("cpu", torch.float16).numpy()
