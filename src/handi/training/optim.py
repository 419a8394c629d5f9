"""What is trained and how: selection by name, LoRA, AdamW, its learning rate, averaged weights."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from handi.core.errors import InputError, ModelError
from handi.models.lora import need_peft
from handi.training.recipe import ModelRecipe, OptimRecipe

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
LORA = ".lora_"  # in the names of peft's adapter weights


def choose_trained(networks: nn.Module, model: ModelRecipe, default: str) -> list[str]:
    """Switch gradients on for the chosen parameters and off for all others; gives their names.

    default: the stage's own network, such as "unet": with LoRA it gets adapters, else it is trained whole
    where `model.train` names nothing. Raises: InputError for a pattern that matches nothing, ModelError for
    a network that the model does not have.
    """
    if getattr(networks, default, None) is None:
        raise ModelError(f"this model has no {default}")
    patterns = list(model.train)
    if model.lora_rank:
        add_lora(getattr(networks, default), model)
    elif not patterns:
        patterns = [f"{default}.*"]
    networks.requires_grad_(False)
    names = [name for name, _ in networks.named_parameters()]
    chosen = {name for name in names if LORA in name} if model.lora_rank else set()
    for pattern in patterns:
        found = fnmatch.filter(names, pattern)
        if not found:
            parts = ", ".join(sorted({name.split(".")[0] for name in names}))
            raise InputError(
                f"model.train: {pattern!r} matches no weight",
                mend=f"use names such as {names[0]}; the networks are {parts}",
            )
        chosen |= set(found)
    for name, parameter in networks.named_parameters():
        parameter.requires_grad_(name in chosen)
        if name in chosen:
            parameter.data = parameter.data.float()  # what is trained is kept in full precision
        else:
            parameter.data = parameter.data.to(DTYPES[model.frozen])
    return [name for name in names if name in chosen]


# -------------------------------------------------------------------------------------------- LoRA


def add_lora(network: nn.Module, model: ModelRecipe) -> None:
    """Low-rank adapters on the layers whose names end as `model.lora_targets`, through peft.

    Raises: InputError where peft is not installed, no layer has such a name, or peft adapts none of its kind.
    """
    need_peft()
    from peft import LoraConfig, inject_adapter_in_model

    ends = tuple(model.lora_targets)
    layers = [name for name, _ in network.named_modules() if name.split(".", 1)[-1] and _ends(name, ends)]
    if not layers:
        raise InputError(
            f"model.lora_targets: no layer's name ends in {' or '.join(ends)}",
            mend="use ends of names, such as to_q or proj_in",
        )
    config = LoraConfig(
        r=model.lora_rank,
        lora_alpha=model.lora_rank if model.lora_alpha is None else model.lora_alpha,  # type: ignore[arg-type]
        target_modules=list(ends),
    )
    try:
        inject_adapter_in_model(config, network)
    except ValueError as error:  # a layer of a kind that peft does not adapt
        raise InputError(
            f"model.lora_targets: peft cannot adapt a layer whose name ends in {' or '.join(ends)} ({error})",
            mend="name linear layers or convolutions",
        ) from error


def _ends(name: str, ends: Sequence[str]) -> bool:
    return any(name == end or name.endswith(f".{end}") for end in ends)


def merge_lora(network: nn.Module) -> None:
    """Add the adapters into the weights that they adapt, and remove them: an ordinary network again."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, layer in list(network.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            layer.merge()
            parent, _, last = name.rpartition(".")
            setattr(network.get_submodule(parent), last, layer.get_base_layer())
    if hasattr(network, "peft_config"):  # peft's note that there are adapters
        del network.peft_config


# --------------------------------------------------------------------------------------- optimiser


def make_optimizer(
    parameters: Sequence[nn.Parameter], optim: OptimRecipe, *, fused: bool = False
) -> Optimizer:
    """AdamW, or bitsandbytes' with 8-bit state. Raises: InputError where that is not installed."""
    options: dict[str, Any] = {
        "lr": optim.lr,
        "betas": (optim.betas[0], optim.betas[1]),
        "weight_decay": optim.weight_decay,
    }
    if optim.eight_bit:
        if find_spec("bitsandbytes") is None:
            raise InputError(
                "optim.eight_bit needs bitsandbytes, which is not installed",
                mend="run: pip install bitsandbytes, or set optim.eight_bit to false",
            )
        from bitsandbytes.optim import AdamW8bit

        return AdamW8bit(parameters, **options)
    return torch.optim.AdamW(parameters, **options, fused=fused)


def learning_rate(step: int, optim: OptimRecipe, steps: int) -> float:
    """Of step 0 … steps - 1: a function of the step alone, so that pieces add up to the same run."""
    factor = min(1.0, (step + 1) / optim.warmup) if optim.warmup else 1.0
    if optim.schedule == "cosine":
        done = (step - optim.warmup) / max(1, steps - optim.warmup)
        factor *= 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, done))))
    return optim.lr * factor


# ------------------------------------------------------------------------------------------- average


class Average:
    """Exponential moving average of the trained weights (EMA), in float32 beside them."""

    def __init__(self, parameters: Mapping[str, Tensor], decay: float) -> None:
        self.decay = decay
        self.parameters = dict(parameters)
        self.values = {name: value.detach().clone() for name, value in parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """After step number `step` (from 1); the average is shorter at first, so that it is not the start."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.values.values()), list(self.parameters.values()), 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The averaged weights stand in the network within this block."""
        kept = [parameter.detach().clone() for parameter in self.parameters.values()]
        self.write()
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, value in zip(self.parameters.values(), kept, strict=True):
                    parameter.copy_(value)

    @torch.no_grad()
    def write(self) -> None:
        """Put the averaged weights into the network."""
        for name, parameter in self.parameters.items():
            parameter.copy_(self.values[name])
