"""The diffusion process: schedule, noise, guidance and the sampling loop, on tensors and callables."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from torch import Tensor
from torch.nn import functional as F

# (x_t: B×C×F×h×w, t: scalar) → the network's prediction, B×C×F×h×w
Predictor = Callable[[Tensor, Tensor], Tensor]
# (step index, t, x: B×C×F×h×w) → x to go on with, or None to stop here
StepHook = Callable[[int, Tensor, Tensor], Tensor | None]

STEP_STREAM = 0  # of the noise that some schedulers draw in their steps; the stages' start is 1 and 2


def dpm_solver(config: Mapping[str, Any]) -> DPMSolverMultistepScheduler:
    """DPM-Solver++ (2M) over the betas and the prediction type of a checkpoint's own scheduler config.

    It ends at the schedule's smallest noise level, not at zero: so did the version of the solver that
    AnimateAnything was published with, and ending at zero moves its latents by up to 2.4 % of their std.
    """
    return DPMSolverMultistepScheduler.from_config(dict(config), final_sigmas_type="sigma_min")


def clip_seeds(generator: torch.Generator | Sequence[torch.Generator] | None, batch: int) -> list[int]:
    """One seed a clip. A generator a clip, or one that gives all of them in order; None: random seeds.

    A clip's noise then depends on its seed alone, so it is the same alone and at any place of a batch.
    Raises: ValueError where the number of generators is not the batch.
    """
    if isinstance(generator, Sequence):
        if len(generator) != batch:
            raise ValueError(f"{len(generator)} generators for {batch} clips")
        generators: Sequence[torch.Generator | None] = generator
    else:
        generators = [generator] * batch
    return [_draw_seed(g) for g in generators]


def _draw_seed(generator: torch.Generator | None) -> int:
    device = generator.device if generator is not None else "cpu"
    return int(torch.randint(2**62, (), generator=generator, device=device))


def clip_noise(shape: Sequence[int], seeds: Sequence[int], stream: int) -> Tensor:
    """B×`shape` of standard normal noise, float32 on the CPU, each clip from its own (seed, stream).

    The stages draw from different streams, so stage 2 has the same noise whether stage 1 ran or not.
    """
    return torch.stack([torch.randn(tuple(shape), generator=_generator(seed, stream)) for seed in seeds])


def _generator(seed: int, stream: int) -> torch.Generator:
    # torch's CPU generator reads 32 bits of its seed: seed and stream are hashed into them, not packed
    mixed = np.random.SeedSequence([seed, stream]).generate_state(1)
    return torch.Generator().manual_seed(int(mixed[0]))


def set_timesteps(
    scheduler: SchedulerMixin, steps: int, device: torch.device | str, strength: float = 1.0
) -> Tensor:
    """Timesteps to run, high noise first. `strength` < 1 leaves out the first ones: a later start keeps
    more of the context image."""
    scheduler.set_timesteps(steps, device=device)
    order = getattr(scheduler, "order", 1)
    kept = max(1, min(steps, round(steps * strength)))
    return scheduler.timesteps[(steps - kept) * order :]


def latent_mask(area: Tensor, size: Sequence[int], mode: str | None = None) -> Tensor:
    """The motion area in a network's mask channel: B×H×W in [0, 1] → B×1×1×h×w.

    mode "area": the share of each latent cell that is in the area. None, or "bilinear": as AnimateAnything
    resizes its masks, without antialiasing and not made binary again. Raises: ValueError for another mode.
    """
    if mode not in (None, "bilinear", "area"):
        raise ValueError(f'mask_mode must be "bilinear" or "area", not {mode!r}')
    return F.interpolate(area[:, None].float(), tuple(size), mode=mode or "bilinear")[:, :, None]


def area_at(area: Tensor, like: Tensor) -> Tensor:
    """One soft area H×W, such as the prior mask, for each row and at the size of `like`, B×H'×W'."""
    area = area[None, None].to(like.device, torch.float32)
    if area.shape[-2:] != like.shape[-2:]:
        area = F.interpolate(area, like.shape[-2:], mode="bilinear")
    return area[0].expand(len(like), *like.shape[-2:])


def conditions(
    config: Any,
    context: Tensor,
    area: Tensor,
    motion: Tensor | None,
    frame_index: Tensor,
    poses: Tensor | None = None,
) -> dict[str, Tensor]:
    """What a noise predictor is given beside x_t, t and the text. Training and sampling both ask here.

    config: the network's. context B×C×1×h×w latents; area B×H×W in [0, 1], soft values stay soft; motion B
    strengths (None: not known); frame_index B×F, which of a clip's frames these are; poses B×F×42×2, the
    hands' joints in them (None: not known). What the network has no
    use for is left out.
    """
    mask = latent_mask(area.to(context.device), context.shape[-2:], getattr(config, "mask_mode", None))
    given = {"condition_latent": context, "mask": mask}
    if reads_motion(config) and motion is not None:
        given["motion"] = motion.to(context.device)
    if hasattr(config, "clip_frames"):
        given["frame_index"] = frame_index.to(context.device)
    if getattr(config, "poses", False) and poses is not None:
        given["poses"] = poses.to(context.device)
    return given


def reads_motion(config: Any) -> bool:
    """Whether a network of this config is conditioned on the motion strength."""
    return bool(getattr(config, "motion_strength", False))


def start(scheduler: SchedulerMixin, context: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
    """x_t to start from: the context latent B×C×1×h×w repeated over the noise's frames, noised to t.

    Not pure noise: with Stable Diffusion's betas 6.8 % of the context is left at t = 999.
    """
    context = context.expand_as(noise)
    return scheduler.add_noise(context, noise, timestep.reshape(1).expand(len(noise)))


def guide(
    model: Callable[..., Tensor], text: Tensor, null_text: Tensor | None, scale: float, **conditions: Tensor
) -> Predictor:
    """Classifier-free guidance: null + scale · (text − null), both branches in one call of the model.

    text, null_text B×N×D; the conditions, batch B each, are the same in both branches. At scale ≤ 1 the
    null branch is not computed.
    """
    if scale <= 1:
        return lambda x, t: model(x, t, text, **conditions).float()
    if null_text is None:
        raise ValueError("guidance above 1 needs the null text")
    both_texts = torch.cat([null_text, text])
    twice = {name: torch.cat([value, value]) for name, value in conditions.items()}

    def predict(x: Tensor, t: Tensor) -> Tensor:
        null, full = model(torch.cat([x, x]), t, both_texts, **twice).float().chunk(2)
        return null + scale * (full - null)

    return predict


def sample(
    predict: Predictor,
    x: Tensor,
    scheduler: SchedulerMixin,
    timesteps: Tensor,
    *,
    seeds: Sequence[int] = (),
    on_step: StepHook | None = None,
) -> Tensor:
    """Denoise x, B×C×F×h×w, over the timesteps; float32 throughout, whatever the network runs in.

    `seeds` (one a clip) feed the schedulers that draw noise in their steps; the others ignore them.
    """
    extra = {}
    if seeds and "generator" in inspect.signature(scheduler.step).parameters:
        extra["generator"] = [_generator(seed, STEP_STREAM) for seed in seeds]
    for index, t in enumerate(timesteps):
        prediction = predict(scheduler.scale_model_input(x, t), t)
        x = scheduler.step(prediction, t, x, **extra, return_dict=False)[0]
        if on_step is not None:
            replaced = on_step(index, t, x)
            if replaced is None:
                break
            x = replaced
    return x
