"""Parameters and optimiser state as whole, named tensors: the same from one process, DDP or FSDP2.

With FSDP2 (`fully_shard`) parameters are DTensors, each process holding a shard; then torch's own
`torch.distributed.checkpoint.state_dict` puts them together and takes them apart. So a checkpoint can be
gone on with on another number of GPUs. All processes must call these functions, as they communicate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from handi.errors import ModelError


def trainable(model: nn.Module) -> dict[str, Tensor]:
    """Name → parameter that is trained; shards are put together (whole tensors, on every process)."""
    return {name: whole(p) for name, p in model.named_parameters() if p.requires_grad}


def whole(tensor: Tensor) -> Tensor:
    """The tensor itself, or all shards of a sharded one together."""
    return tensor.full_tensor().detach() if isinstance(tensor, DTensor) else tensor.detach()


@torch.no_grad()
def restore(target: Mapping[str, Tensor], saved: Mapping[str, Tensor], what: str = "weights") -> None:
    """Copy saved whole tensors into tensors of the same names, sharded or not, in place.

    Raises: ModelError where names or shapes differ.
    """
    if absent := sorted(set(target) ^ set(saved)):
        raise ModelError(
            f"the checkpoint's {what} are not this model's ({len(absent)} differ, first {absent[0]})"
        )
    for name, tensor in target.items():
        value = saved[name]
        if value.shape != tensor.shape:
            raise ModelError(f"{name} is {tuple(value.shape)} in the checkpoint, {tuple(tensor.shape)} here")
        if isinstance(tensor, DTensor):
            value = value.to(tensor.device, tensor.dtype)
            value = distribute_tensor(value, tensor.device_mesh, tensor.placements)
        tensor.copy_(value)


# ------------------------------------------------------------------------------------- the optimiser


def pack_optimizer(model: nn.Module, optimizer: Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The optimiser's state: "parameter name|key" → whole tensor, and the entries that are no tensors.

    Its options (learning rate, betas) are not in it: they follow from the recipe and the step.
    """
    inner = _inner(optimizer)
    state: Any  # parameter name → key → value
    if not inner.state:
        state = {}
    elif _sharded(model):
        state = get_optimizer_state_dict(model, inner, options=_FULL)["state"]
    else:
        names = _names(model)
        state = {names[id(p)]: entries for p, entries in inner.state.items()}
    tensors, rest = {}, {}
    for name, entries in state.items():
        for key, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{name}|{key}"] = value.detach()
            else:
                rest[f"{name}|{key}"] = value
    return tensors, rest


def unpack_optimizer(
    model: nn.Module, optimizer: Optimizer, tensors: Mapping[str, Tensor], rest: Mapping[str, Any]
) -> None:
    """Give an optimiser the state that `pack_optimizer` took. Raises: ModelError for another model's."""
    inner = _inner(optimizer)
    by_name: Any = {}  # parameter name → key → value
    for joined, value in {**tensors, **rest}.items():
        name, _, key = joined.rpartition("|")
        by_name.setdefault(name, {})[key] = value
    names = _names(model)
    order = [names[id(p)] for group in inner.param_groups for p in group["params"]]
    if strange := sorted(set(by_name) - set(order)):
        raise ModelError(f"the checkpoint's optimiser holds {strange[0]}, which is not trained here")
    options = inner.state_dict()["param_groups"]
    if by_name and _sharded(model):
        groups: Any = [{**group, "params": [order[i] for i in group["params"]]} for group in options]
        set_optimizer_state_dict(model, inner, {"state": by_name, "param_groups": groups}, options=_FULL)
    else:
        state = {i: by_name[name] for i, name in enumerate(order) if name in by_name}
        inner.load_state_dict({"state": state, "param_groups": options})


_FULL = StateDictOptions(full_state_dict=True, cpu_offload=True)


def _inner(optimizer: Optimizer) -> Optimizer:
    """The optimiser within accelerate's wrapper."""
    return getattr(optimizer, "optimizer", optimizer)


def _names(model: nn.Module) -> dict[int, str]:
    return {id(parameter): name for name, parameter in model.named_parameters()}


def _sharded(model: nn.Module) -> bool:
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())
