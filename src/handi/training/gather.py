"""Parameters and optimiser state as whole, named tensors: the same from one process, DDP or FSDP2.

With FSDP2 (`fully_shard`) parameters and what belongs to them are DTensors, each process holding a shard;
torch puts them together and takes them apart. So a run can be resumed on another number of GPUs. All
processes must call these functions, as they communicate; only rank 0 needs what is gathered, and has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from handi.core.errors import ModelError


def whole(tensor: Tensor) -> Tensor:
    """The tensor itself, or all shards of a sharded one together, without its gradient."""
    return tensor.full_tensor().detach() if isinstance(tensor, DTensor) else tensor.detach()


def gathered(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Whole tensors of the same names. Of sharded ones rank 0 alone has copies, on the CPU: one at a time
    is whole on the GPU, and other processes get empty tensors."""
    main = PartialState().is_main_process
    out = {}
    for name, tensor in tensors.items():
        value = whole(tensor)
        if isinstance(tensor, DTensor):
            value = value.cpu() if main else value.new_empty(0)
        out[name] = value
    return out


def trainable(model: nn.Module) -> dict[str, Tensor]:
    """Name → parameter that is trained, gathered."""
    return gathered({name: p for name, p in model.named_parameters() if p.requires_grad})


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
        if saved[name].shape != tensor.shape:
            there, here = tuple(saved[name].shape), tuple(tensor.shape)
            raise ModelError(f"{name} is {there} in the checkpoint, {here} here")
        tensor.copy_(_like(tensor, saved[name]))


def _like(tensor: Tensor, value: Tensor) -> Tensor:
    """A whole tensor shared out among processes as a sharded one is; else itself."""
    if not isinstance(tensor, DTensor):
        return value
    return distribute_tensor(value.to(tensor.device), tensor.device_mesh, tensor.placements)


# ------------------------------------------------------------------------------------- the optimiser


def pack_optimizer(model: nn.Module, optimizer: Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The optimiser's state: "parameter name|key" → tensor, gathered, and the entries that are no tensors.

    Its options (learning rate, betas) are not in it: they follow from the recipe and the step.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    tensors: dict[str, Tensor] = {}
    rest: dict[str, Any] = {}
    for parameter, entries in _inner(optimizer).state.items():
        for key, value in entries.items():
            (tensors if isinstance(value, Tensor) else rest)[f"{names[id(parameter)]}|{key}"] = value
    return gathered(tensors), rest


def unpack_optimizer(
    model: nn.Module, optimizer: Optimizer, tensors: Mapping[str, Tensor], rest: Mapping[str, Any]
) -> None:
    """Give an optimiser the state that `pack_optimizer` took. Raises: ModelError for another model's."""
    inner = _inner(optimizer)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    parameters = [p for group in inner.param_groups for p in group["params"]]
    order = {names[id(parameter)]: (number, parameter) for number, parameter in enumerate(parameters)}
    state: dict[int, dict[str, Any]] = {}
    for joined, value in {**tensors, **rest}.items():
        name, _, key = joined.rpartition("|")
        if name not in order:
            raise ModelError(f"the checkpoint's optimiser holds {name}, which is not trained here")
        number, parameter = order[name]
        if isinstance(value, Tensor) and value.shape == parameter.shape:
            value = _like(parameter, value)
        state.setdefault(number, {})[key] = value
    inner.load_state_dict({"state": state, "param_groups": inner.state_dict()["param_groups"]})


def _inner(optimizer: Optimizer) -> Optimizer:
    """The optimiser within accelerate's wrapper."""
    return getattr(optimizer, "optimizer", optimizer)
