"""Bytes and arithmetic of torch code, counted operation by operation, with or without doing the arithmetic.

`PeakBytes` adds up the storages that are alive; `pretending` runs code on tensors that have a shape and no
content, so that a model of any size can be counted on any machine. What a driver and libraries take beside
tensors (around 1 GiB on a GPU: context, workspaces, fragments) is in neither count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

aten = torch.ops.aten


class PeakBytes(TorchDispatchMode):
    """The most bytes that tensors made under this mode held at once, temporaries included."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}
        self._bytes = 0  # of `_live`, those that have gone since the last look included

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                reference = StorageWeakRef(storage)
                if reference.cdata not in self._live:
                    self._live[reference.cdata] = reference, storage.nbytes()
                    self._bytes += storage.nbytes()
        if self._bytes > self.peak:  # looking who has gone takes time: only where it may matter
            self._live = {key: entry for key, entry in self._live.items() if not entry[0].expired()}
            self._bytes = sum(size for _, size in self._live.values())
            self.peak = max(self.peak, self._bytes)
        return out


def held(*things: Any) -> int:
    """Bytes of the distinct storages of tensors and modules (parameters and buffers), nested or not."""
    sizes: dict[int, int] = {}
    for thing in tree_leaves(things):
        tensors = [*thing.parameters(), *thing.buffers()] if isinstance(thing, nn.Module) else [thing]
        for tensor in tensors:
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                sizes[storage._cdata] = storage.nbytes()
    return sum(sizes.values())


def flop_counter() -> FlopCounterMode:
    """Counts multiply-adds as two, those of attention on a CPU too: `.get_total_flops()`."""
    return FlopCounterMode(
        display=False,
        custom_mapping={
            aten._scaled_dot_product_flash_attention_for_cpu: (
                lambda query, key, value, *_, **__: sdpa_flop_count(query, key, value)
            ),
            aten._scaled_dot_product_flash_attention_for_cpu_backward: (
                lambda out, query, key, value, *_, **__: sdpa_backward_flop_count(out, query, key, value)
            ),
        },
    )


# ----------------------------------------------------------------------------------------- pretending


@contextmanager
def pretending(*modules: nn.Module) -> Iterator[None]:
    """Within it tensors are shapes without content, on a CPU that computes nothing; so are these modules.

    The modules' weights may lie on any device, "meta" included, and are given back afterwards. Where code
    asks for values the answer is the one that costs most: conditions are true, masks are full, numbers are 1.
    Under autocast the operations that a GPU does in float32 are done so here too.
    """
    with ExitStack() as stack:
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        memo: dict[int, Tensor] = {}
        for module in modules:
            for part in module.modules():
                for tensors in (part._parameters, part._buffers):
                    stack.callback(dict.update, tensors, dict(tensors))
                    for name, tensor in tensors.items():
                        if tensor is not None:
                            tensors[name] = memo.setdefault(id(tensor), _shell(tensor))  # type: ignore[assignment]
        for name, answer in _answers().items():
            stack.enter_context(mock.patch.object(FakeTensor, name, answer, create=True))
        for place, names in _FLOAT32.items():
            for name in names:
                function = _in_float32(getattr(place, name))
                stack.enter_context(mock.patch.object(place, name, function, create=True))
        yield


def _shell(tensor: Tensor) -> Tensor:
    """The same tensor without content; called under a FakeTensorMode."""
    shell = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(shell, requires_grad=tensor.requires_grad)
    return shell


def _answers() -> dict[str, Callable[..., Any]]:
    """What a shape says when it is asked for values."""
    index = FakeTensor.__getitem__

    def nonzero(self: Tensor, *, as_tuple: bool = False) -> Any:
        rows = self.new_empty(self.numel(), self.ndim, dtype=torch.int64)
        return rows.unbind(1) if as_tuple else rows

    def item(self: Tensor) -> float | int:
        return 1.0 if self.is_floating_point() else 1

    return {
        "__bool__": lambda self: True,
        "equal": lambda self, other: True,
        "__int__": lambda self: 1,
        "__index__": lambda self: 1,
        "__float__": lambda self: 1.0,
        "item": item,
        "nonzero": nonzero,
        "numpy": lambda self: np.ones(tuple(self.shape), str(self.dtype).removeprefix("torch.")),
        "__getitem__": lambda self, key: index(self, _whole(key)),
    }


def _whole(index: Any) -> Any:
    """An index in which each mask takes everything, as whole numbers."""
    parts: list[Any] = []
    for part in index if isinstance(index, tuple) else (index,):
        if isinstance(part, Tensor) and part.dtype == torch.bool:
            parts += [part.new_empty(part.numel(), dtype=torch.int64) for _ in range(part.ndim)]
        else:
            parts.append(part)
    return tuple(parts) if isinstance(index, tuple) or len(parts) > 1 else parts[0]


# What CUDA's autocast does in float32 and a CPU's does not, of what the networks here use.
_FLOAT32: dict[Any, tuple[str, ...]] = {
    F: ("group_norm", "layer_norm", "rms_norm", "softmax", "log_softmax", "mse_loss", "l1_loss", "huber_loss",
        "smooth_l1_loss", "normalize"),
    torch: ("softmax", "exp", "log", "pow", "rsqrt", "norm"),
    FakeTensor: ("softmax", "exp", "log", "pow", "__pow__", "rsqrt", "norm"),
}  # fmt: skip


def _in_float32(function: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        if torch.is_autocast_enabled("cpu"):
            args = tuple(_float32(value) for value in args)
            kwargs = {name: _float32(value) for name, value in kwargs.items()}
        return function(*args, **kwargs)

    return run


def _float32(value: Any) -> Any:
    half = isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float16)
    return value.float() if half else value
