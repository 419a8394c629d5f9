"""Gradient norms of single loss terms: which of them is steering."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def gradient_norms(
    terms: Mapping[str, Tensor], parameters: Sequence[Tensor], *, scale: float = 1.0
) -> dict[str, float]:
    """The norm of each term's gradient with respect to the parameters: name → norm, one backward each.

    terms: scalars of one graph, as a step returns them; those named "_…" are only logged and left out. The
    graph is kept and `.grad` untouched, so the step's own backward afterwards gives the same bits. Norms
    are of this process's batch (DDP averages later). Not with FSDP2, whose hooks want one real backward.
    scale: the fp16 gradient scaler's, so that small gradients do not round to zero on the way.
    """
    norms = {}
    for name, term in terms.items():
        if name.startswith("_"):
            continue
        if not term.requires_grad:
            norms[name] = 0.0
            continue
        found = torch.autograd.grad(term * scale, parameters, retain_graph=True, allow_unused=True)
        parts = [gradient.float().norm() for gradient in found if gradient is not None]
        norms[name] = float(torch.stack(parts).norm()) / scale if parts else 0.0
    return norms
