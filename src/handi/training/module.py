"""A step as a module's forward pass: what the optimiser sees, and what DDP and FSDP2 wrap as a whole."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from handi.training.batch import Batch
from handi.training.gather import whole
from handi.training.recipe import LossRecipe
from handi.training.step import (
    Networks,
    Terms,
    poses_step,
    stage1_step,
    stage2_step,
    vae_step,
)

# As in a model folder; names of weights begin so.
PARTS = ("unet", "area_unet", "pose_net", "vae", "text_encoder")

STEPS: dict[str, Callable[[Networks, Batch, LossRecipe, torch.Generator], Terms]] = {
    "vae": vae_step,
    "stage1": stage1_step,
    "poses": poses_step,
    "stage2": stage2_step,
}


HAND_TERMS = ("hand", "hand_features")


class StepModule(nn.Module):
    """The networks of a model, and the step that runs them.

    Wrapping the whole of it, and not each network, lets a step call any method of any network.
    """

    def __init__(self, networks: Networks, stage: str, loss: LossRecipe) -> None:
        super().__init__()
        self.networks, self.step, self.loss = networks, STEPS[stage], loss
        for name in PARTS:
            setattr(self, name, getattr(networks, name))
        self.reader = None if networks.reader is None else networks.reader.vae
        self.hand_scale = 1.0  # of the hand loss, see `balanced`

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Named, weighted loss terms; those that begin with "_" are only logged."""
        terms = self.step(self.networks, batch, self.loss, generator)
        if self.loss.hand.share is not None:
            scaled = {name: terms[name] * self.hand_scale for name in HAND_TERMS if name in terms}
            terms |= scaled
            terms["_hand_scale"] = terms["noise"].new_tensor(self.hand_scale)
        return terms

    def train(self, mode: bool = True) -> StepModule:
        """Training mode for the networks that are trained; the others stay as they are used."""
        self.training = mode
        for name in PARTS:
            if (network := getattr(self, name)) is not None:
                network.train(mode and any(p.requires_grad for p in network.parameters()))
        return self

    @torch.no_grad()
    def put_together(self, *, trained: bool = False) -> None:
        """Make every weight a whole float32 tensor on the CPU: FSDP2's shards are gathered (in all
        processes at once), and the module is no longer one that trains.

        trained: only those that were trained, of a base of which no more is kept.
        """
        for module in self.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                if trained and not parameter.requires_grad:
                    continue
                value = whole(parameter).float().cpu()
                if isinstance(parameter, DTensor):
                    setattr(module, name, nn.Parameter(value, requires_grad=False))
                else:
                    parameter.data = value
            for name, buffer in [] if trained else list(module.named_buffers(recurse=False)):
                setattr(module, name, buffer.cpu())

    @property
    def sharded(self) -> bool:
        """FSDP2: every process holds a part of each weight, so none can run a network alone."""
        return any(isinstance(parameter, DTensor) for parameter in self.parameters())


def balanced(scale: float, norms: Mapping[str, float], share: float) -> float:
    """The hand loss's next scale: half of the way, in factors, to where its gradient's norm is `share` of the
    noise loss's. norms: of each term's gradient at the present scale; unchanged where the hand has none.
    """
    hand = math.hypot(*(norms.get(name, 0.0) for name in HAND_TERMS))
    noise = norms.get("noise", 0.0)
    if not (math.isfinite(hand) and math.isfinite(noise) and hand > 0 and noise > 0):
        return scale
    step = math.sqrt(share * noise / hand)
    return scale * min(10.0, max(0.1, step))


def total_of(terms: dict[str, Tensor]) -> Tensor:
    """The loss: the sum of the terms that are not only for the log."""
    return torch.stack([value.float() for name, value in terms.items() if not name.startswith("_")]).sum()


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
