"""What is trained and how: selection by name, AdamW, and its learning rate."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from handi.core.errors import InputError, ModelError
from handi.models.eight_bit import to_eight_bit
from handi.models.lora import LORA, add_lora
from handi.training.recipe import ModelRecipe, OptimRecipe

# In which untrained weights are held; of int8 this is what stays beside the matrices (`models.eight_bit`).
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "int8": torch.bfloat16}


def choose_trained(
    networks: nn.Module, model: ModelRecipe, default: str, adapter: str = "default"
) -> list[str]:
    """Switch gradients on for the chosen parameters and off for all others; gives their names.

    default: the stage's own network, such as "unet": with LoRA it gets adapters, else it is trained whole
    where `model.train` names nothing. adapter: its name; one that is there is trained further.
    Raises: InputError for a pattern that matches nothing, ModelError for a network that the model does not
    have.
    """
    if getattr(networks, default, None) is None:
        raise ModelError(f"this model has no {default}")
    patterns = list(model.train)
    if model.lora_rank:
        _add_adapter(getattr(networks, default), model, adapter)
    elif not patterns:
        patterns = [f"{default}.*"]
    networks.requires_grad_(False)
    names = [name for name, _ in networks.named_parameters()]
    chosen = {name for name in names if LORA in name and adapter in name.split(".")}
    if adapter == "clip":  # of a base, which is given the poses in stage 2
        chosen |= {name for name in names if "pose_stem" in name.split(".")}
    for pattern in patterns:
        found = fnmatch.filter(names, pattern)
        if not found:
            parts = ", ".join(sorted({name.split(".")[0] for name in names}))
            raise InputError(
                f"model.train: {pattern!r} matches no weight",
                hint=f"use names such as {names[0]}; the networks are {parts}",
            )
        chosen |= set(found)
    exact = {
        id(parameter)
        for network in networks.children()
        for name, parameter in network.named_parameters()
        if any(part in name.split(".") for part in getattr(network, "_keep_in_fp32_modules", None) or ())
    }
    for name, parameter in networks.named_parameters():
        parameter.requires_grad_(name in chosen)
        if name in chosen or id(parameter) in exact:
            parameter.data = parameter.data.float()  # what is trained is kept in full precision
        else:
            parameter.data = parameter.data.to(DTYPES[model.frozen])
    if model.frozen == "int8":
        to_eight_bit(getattr(networks, default))
    return [name for name in names if name in chosen]


def _add_adapter(network: Any, model: ModelRecipe, adapter: str) -> None:
    """Raises: InputError where there is one of another rank."""
    there = (getattr(network, "peft_config", None) or {}).get(adapter)
    if there is None:
        add_lora(network, model.lora_rank, model.lora_alpha, model.lora_targets, adapter)
    elif there.r != model.lora_rank:
        what = f"model.lora_rank is {model.lora_rank}, the adapter {adapter} to start from has {there.r}"
        raise InputError(what, hint=f"set model.lora_rank to {there.r}")


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
                hint="run: pip install bitsandbytes, or set optim.eight_bit to false",
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
