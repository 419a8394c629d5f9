"""The arithmetic of a run whose recipe leaves it to the machine (`run.precision`, `run.compile`: auto)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from handi.training.recipe import RunRecipe


@dataclass(frozen=True)
class Arithmetic:
    """Precision of the arithmetic, whether blocks are compiled, and why, for the log."""

    precision: str
    compiled: bool
    why: str


def arithmetic(run: RunRecipe) -> Arithmetic:
    """The recipe's, or what is fastest here: bf16 and compiled blocks on a GPU and on a CPU with AMX, which
    multiplies bf16 matrices; on another CPU bf16 is slower than float32."""
    if run.device != "cpu" and torch.cuda.is_available():
        fast, machine = True, "a GPU"
    elif has_amx():
        fast, machine = True, "a CPU with AMX"
    else:
        fast, machine = False, "a CPU without AMX"
    precision = run.precision if run.precision != "auto" else "bf16" if fast else "no"
    compiled = run.compile == "yes" or (run.compile == "auto" and fast)
    said = "float32" if precision == "no" else precision
    return Arithmetic(precision, compiled, f"{said}{', compiled' if compiled else ''} on {machine}")


def has_amx() -> bool:
    """Whether this CPU multiplies bf16 matrices in tiles."""
    supported = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return bool(supported and supported())
