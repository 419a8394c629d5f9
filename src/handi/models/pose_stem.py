"""The hands' poses as a condition of a video transformer that was trained without them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from handi.core.errors import ModelError
from handi.method.poses import SEEN, pose_cells


class PoseStem(nn.Module):
    """One linear layer from the pose maps to what is added to a network's patch embedding.

    A token sees the maps of every frame that its latent frame is made of, in channels of their own: nothing
    is averaged away. The first latent frame holds one picture, whose map is repeated. The layer begins at
    zero, so that a network answers as it did before, and has no bias, so that where no hand is nothing is
    added.
    """

    def __init__(self, width: int, chunk: int) -> None:
        """width: features of a token; chunk: frames of a latent frame after the first."""
        super().__init__()
        self.chunk = chunk
        self.weight = nn.Parameter(torch.zeros(width, chunk * SEEN))

    @classmethod
    def of(cls, network: Any, chunk: int) -> PoseStem:
        """A new one for a network of Wan's or LTX's kind, on its device."""
        width = network.config.num_attention_heads * network.config.attention_head_dim
        return cls(width, chunk).to(network.device)

    @classmethod
    def load(cls, path: Path, network: Any, chunk: int) -> PoseStem:
        """That of a file, for this network and in its precision. Raises: ModelError."""
        if not path.exists():
            raise ModelError("is missing, and handi.json names it", where=path, hint="copy the file again")
        stem = cls.of(network, chunk).to(network.dtype)
        try:
            stem.load_state_dict(load_file(path))
        except Exception as error:  # torch's and safetensors' own kinds
            first = " ".join(str(error).split())[:160]
            hint = "use the file that was trained with these adapters"
            raise ModelError(f"does not fit this model ({first})", where=path, hint=hint) from error
        return stem

    def save(self, path: Path) -> None:
        """Write its weight, features × (frames · 192)."""
        save_file({"weight": self.weight.detach().cpu().contiguous()}, path)

    def forward(self, joints: Tensor, tokens: tuple[int, int]) -> Tensor:
        """What is added to the tokens f×h×w of a clip with the joints B×F×42×2: B×f×h×w×width."""
        first = joints[:, :1].expand(-1, self.chunk - 1, -1, -1)
        maps = pose_cells(torch.cat([first, joints], 1), tokens)  #             B×(f·chunk)×192×h×w
        by_token = maps.unflatten(1, (-1, self.chunk)).flatten(2, 3).movedim(2, -1)
        return F.linear(by_token.to(self.weight.dtype), self.weight)
