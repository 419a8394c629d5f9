"""The reference numbers of AnimateAnything's own code, and the weights that they were made with."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

FOLDER = Path(__file__).parents[1] / "pictures" / "animate_anything"


def fixture_weights(module: torch.nn.Module, seed: int, prefix: str = "") -> None:
    """Fill a module with the weights of the reference run: normal numbers from crc32(name) XOR seed."""
    for name, parameter in module.named_parameters():
        random = np.random.RandomState((zlib.crc32((prefix + name).encode()) ^ seed) & 0xFFFFFFFF)
        values = random.standard_normal(tuple(parameter.shape)).astype(np.float32)
        if parameter.ndim > 1:
            values /= np.sqrt(np.prod(parameter.shape[1:]))
        elif name.endswith("weight"):
            values = 1 + 0.2 * values
        else:
            values = 0.1 * values
        parameter.data = torch.from_numpy(values)


def reference(name: str) -> tuple[dict, dict[str, torch.Tensor]]:
    """A case of tests/pictures/animate_anything: its description and its tensors."""
    return json.loads((FOLDER / f"{name}.json").read_text()), load_file(FOLDER / f"{name}.safetensors")
