"""The hands' poses P as stage 1 predicts them: PoseNet sampled on a schedule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from handi.method import diffusion
from handi.method.diffusion import Betas
from handi.models.pose_net import JOINTS, PoseNet, centred

STREAM = 3  # of a clip's noise; the stages' are 1 and 2


@torch.no_grad()
def predict_poses(
    network: PoseNet,
    finder: Any,
    process: Betas,
    context: Tensor,
    text: Tensor,
    seeds: Sequence[int],
    *,
    frames: int,
    steps: int = 1,
) -> Tensor:
    """P for context latents B×C×1×h×w and text B×N×D: B×F×42×2 float32, zeros for a hand that is not there.

    In one step every seed gives the same, the middle of what may happen. A clip of fewer frames than the
    network knows is its beginning; in a longer one the hands stay where they are at its end.
    """
    latents = context[:, :, 0].permute(0, 2, 3, 1)
    looking = next(finder.parameters())  # offloaded, a network is moved when it is called as a whole only
    cells = finder.see(latents.to(looking))
    scores = finder.answer(cells, text.to(looking)).to(context)
    cells = cells.to(context)
    found: list[Tensor] = []

    def predict(x: Tensor, t: Tensor) -> Tensor:
        signal = process.levels(t.reshape(1).long().to(x.device))[0].expand(len(x))
        guess = network(latents, cells, scores, text, noisy=x, signal=signal)
        found[:] = [guess.poses()]
        return centred(found[0])

    size = (network.config.frames, JOINTS, 2)
    noise = diffusion.clip_noise(size, seeds, stream=STREAM).to(context.device)
    timesteps = process.schedule(steps, noise[0].numel(), context.device)
    diffusion.sample(predict, noise, process.scheduler, timesteps, seeds=seeds)
    index = torch.arange(frames, device=context.device).clamp(max=network.config.frames - 1)
    return found[0][:, index]
