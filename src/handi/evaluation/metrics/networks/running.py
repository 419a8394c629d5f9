"""What the metric networks share: where they run, how weights are put in, how frames become tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from handi.core.errors import InputError, ModelError
from handi.core.types import Frames

Network = TypeVar("Network", bound=nn.Module)

# Mean and deviation of RGB in [0, 1] that networks were trained with.
CLIP_STATISTICS = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_STATISTICS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@contextmanager
def full_precision() -> Iterator[None]:
    """float32 as it is written, on a GPU too, whatever was set before (training takes TF32); put back after.

    A score must not move with the card, nor with what ran before it in the same process.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def measuring() -> Iterator[None]:
    """No gradient, and full precision."""
    with torch.inference_mode(), full_precision():
        yield


def ready(network: Network, device: str) -> Network:
    """The network on a device, in evaluation mode."""
    return network.eval().requires_grad_(False).to(device)


def device_of(network: nn.Module) -> torch.device:
    return next(network.parameters()).device


def as_tensor(frames: Frames) -> Tensor:
    """L×3×H×W float in [0, 1] of L×H×W×3 uint8. Raises: InputError for anything else."""
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise InputError(f"frames are L×H×W×3 uint8, these {frames.shape} {frames.dtype}")
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 255


def standardise(pictures: Tensor, statistics: tuple[tuple[float, ...], tuple[float, ...]]) -> Tensor:
    """B×3×H×W in [0, 1], less the mean, over the deviation."""
    mean, deviation = (pictures.new_tensor(values)[:, None, None] for values in statistics)
    return (pictures - mean) / deviation


def misfit(network: nn.Module, tensors: Mapping[str, Tensor]) -> str:
    """Why tensors are not this network's weights, in a few words; "" where they are.

    BatchNorm's counters of training steps count for nothing: some files have them, some have not.
    """
    wanted = {k: v.shape for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    given = {k: v.shape for k, v in tensors.items() if not k.endswith("num_batches_tracked")}
    if missing := [key for key in wanted if key not in given]:
        return f"{len(missing)} of {len(wanted)} weights are missing, among them {missing[0]}"
    if surplus := [key for key in given if key not in wanted]:
        return f"{len(surplus)} weights have no place, among them {surplus[0]}"
    for key, shape in wanted.items():
        if given[key] != shape:
            return f"{key} is {_times(given[key])}, not {_times(shape)}"
    return ""


def fill(network: Network, tensors: Mapping[str, Tensor], where: str | Path, what: str) -> Network:
    """Put weights into a network that was built on the meta device, in float32.

    Raises: ModelError in one line where they are another model's, or not finite.
    """
    if reason := misfit(network, tensors):
        raise ModelError(
            f"is not {what}: {reason}", where=where, hint="see `handi doctor` for the right file"
        )
    for key, value in tensors.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise ModelError(f"{key} has values that are not finite", where=where, hint="copy it again")
    counters = {k: torch.tensor(0) for k in network.state_dict() if k.endswith("num_batches_tracked")}
    floats = {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
    network.load_state_dict(counters | floats, assign=True)
    return network


def _times(shape: torch.Size) -> str:
    return "×".join(str(side) for side in shape) or "a scalar"
