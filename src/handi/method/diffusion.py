"""The diffusion process: schedule, noise, guidance and the sampling loop, on tensors and callables."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from torch import Tensor

from handi.core.errors import InputError
from handi.method.losses import PredictionKind

# (x_t: B×C×F×h×w, t: scalar) → the network's prediction, B×C×F×h×w
Predictor = Callable[[Tensor, Tensor], Tensor]
# (step index, t, x: B×C×F×h×w) → x to continue with, or None to stop here
StepHook = Callable[[int, Tensor, Tensor], Tensor | None]

STEP_STREAM = 0  # of the noise that some schedulers draw in their steps; the stages' start is 1 and 2


def dpm_solver(config: Mapping[str, Any]) -> DPMSolverMultistepScheduler:
    """DPM-Solver++ (2M) over the betas and the prediction type of a checkpoint's own scheduler config.

    It ends at the schedule's smallest noise level, not at zero: so did the version of the solver that
    AnimateAnything was published with, and ending at zero moves its latents by up to 2.4 % of their std.
    """
    return scheduler_of(DPMSolverMultistepScheduler, config, final_sigmas_type="sigma_min")


def scheduler_of(kind: Any, config: Mapping[str, Any], **changes: Any) -> Any:
    """A scheduler of diffusers from a config, its own or another one's, with some entries changed.

    As `kind.from_config`, which imports every scheduler there is to know whose entries are whose.
    """
    names = inspect.signature(kind.__init__).parameters.keys() - set(config.get("_use_default_values", ()))
    entries = {name: value for name, value in config.items() if name in names} | changes
    scheduler = kind(**entries)
    others = {name: value for name, value in config.items() if name not in entries and name[0] != "_"}
    others["_class_name"] = kind.__name__
    scheduler.register_to_config(**others)  # so that a scheduler made of its config has them again
    return scheduler


def clip_seeds(generator: torch.Generator | Sequence[torch.Generator] | None, batch: int) -> list[int]:
    """One seed per clip. generator: one per clip, or one that gives all of them in order; None: random seeds.

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


class Betas:
    """The noise of Stable Diffusion and its like: a schedule of betas over whole timesteps.

    The scheduler's betas and kind of prediction count in training; in sampling it does the steps, too.
    """

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler

    @property
    def kind(self) -> PredictionKind:
        """What the network answers."""
        return self.scheduler.config.prediction_type

    @property
    def last(self) -> int:
        """The timestep of the most noise."""
        return self.scheduler.config.num_train_timesteps - 1

    def timesteps(
        self, count: int, high: float, pure: float, generator: torch.Generator, low: float = 0.0
    ) -> Tensor:
        """`count` timesteps: uniform, but for a share `high` among the upper 40 %, a share `pure` at the
        last, where one-step sampling and the layout of a clip are decided, and a share `low` with no more
        noise than signal, where losses on pixels are computed."""
        steps = self.last + 1
        u, kind = torch.rand((2, count), generator=generator, device=generator.device)
        t = (u * steps).long()
        upper = (0.6 * steps + u * 0.4 * steps).long()
        t = torch.where(kind < high + pure, upper, t)
        if low:
            lower = (u * int((self.scheduler.alphas_cumprod >= 0.5).sum())).long()
            t = torch.where(kind >= 1 - low, lower, t)
        return torch.where(kind < pure, self.last, t).clamp(max=self.last)

    def levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """√ᾱ and √(1−ᾱ) at timesteps B."""
        signal = self.scheduler.alphas_cumprod.to(t.device, torch.float32)[t]
        return signal.sqrt(), (1 - signal).sqrt()

    def schedule(self, steps: int, cells: int, device: torch.device, strength: float = 1.0) -> Tensor:
        """Timesteps to run, most noise first; the number of cells changes nothing."""
        return set_timesteps(self.scheduler, steps, device, strength)

    def start(self, still: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """The still context noised to t: with Stable Diffusion's betas 6.8 % of it is left at t = 999."""
        return self.scheduler.add_noise(still, noise, t.reshape(1).expand(len(noise)))


class Flow:
    """Rectified flow, as video transformers learn it: x_t = (1 − σ)·x0 + σ·noise with σ = t/1000.

    The network answers noise − x0. A shift s > 1 moves levels towards much noise: σ = s·u / (1 + (s − 1)·u)
    for u in [0, 1]. It is the scheduler's; where the scheduler shifts with a clip's size (`mu`), training
    uses the shift of `usual_cells`.
    """

    kind: PredictionKind = "flow"
    last = 1000.0

    def __init__(self, scheduler: Any, usual_cells: int = 2048) -> None:
        self.scheduler, self.usual_cells = scheduler, usual_cells

    @property
    def shift(self) -> float:
        """s, for levels drawn in training."""
        config = self.scheduler.config
        if config.get("use_dynamic_shifting", False):
            return math.exp(self._mu(self.usual_cells))
        return float(config.get("flow_shift") or config.get("shift") or 1.0)

    def _mu(self, cells: int) -> float:
        """The logarithm of the shift for a clip of so many latent cells: linear between two sizes."""
        config = self.scheduler.config
        least, most = config["base_image_seq_len"], config["max_image_seq_len"]
        slope = (config["max_shift"] - config["base_shift"]) / (most - least)
        return config["base_shift"] + slope * (cells - least)

    def timesteps(
        self, count: int, high: float, pure: float, generator: torch.Generator, low: float = 0.0
    ) -> Tensor:
        """`count` timesteps, real numbers: of uniform u, shifted; a share `high` of u in the upper 40 %, a
        share `pure` at the last, a share `low` uniform with no more noise than signal (σ ≤ ½)."""
        u, kind = torch.rand((2, count), generator=generator, device=generator.device)
        raised = torch.where(kind < high + pure, 0.6 + 0.4 * u, u)
        shifted = self.shift * raised / (1 + (self.shift - 1) * raised)
        sigma = torch.where(kind >= 1 - low, u / 2, shifted)
        return self.last * torch.where(kind < pure, 1.0, sigma)

    def levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """1 − σ and σ at timesteps B."""
        sigma = t.float() / self.last
        return 1 - sigma, sigma

    def schedule(self, steps: int, cells: int, device: torch.device, strength: float = 1.0) -> Tensor:
        """Timesteps to run, most noise first; shifted by the number of cells where the scheduler does so."""
        options: dict[str, Any] = {}
        if self.scheduler.config.get("use_dynamic_shifting", False):
            if steps < 2 and self.scheduler.config.get("shift_terminal"):
                hint = "use 2 or more: this model's schedule stretches from its first step to its last"
                raise InputError("1 denoising step", hint=hint)
            options = {"mu": self._mu(cells), "sigmas": np.linspace(1.0, 1 / steps, steps)}
        return set_timesteps(self.scheduler, steps, device, strength, **options)

    def start(self, still: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """The still context noised to t; pure noise at a schedule's first timestep, which schedulers round
        down from 1000."""
        if t >= self.scheduler.timesteps[0]:
            return noise
        alpha, sigma = self.levels(t)
        return alpha * still + sigma * noise


def set_timesteps(
    scheduler: SchedulerMixin,
    steps: int,
    device: torch.device | str,
    strength: float = 1.0,
    **options: Any,
) -> Tensor:
    """Timesteps to run, high noise first. `strength` < 1 leaves out the first ones: a later start keeps
    more of the context image. options: the scheduler's own, such as `mu`."""
    scheduler.set_timesteps(steps, device=device, **options)
    order = getattr(scheduler, "order", 1)
    kept = max(1, min(steps, round(steps * strength)))
    return scheduler.timesteps[(steps - kept) * order :]


def guide(
    predict: Callable[[Tensor, Tensor, Tensor, Any], Tensor],
    layout: Any,
    text: Tensor,
    null_text: Tensor | None,
    scale: float,
    pose_scale: float = 1.0,
    guided_at: Collection[float] | None = None,
) -> Predictor:
    """Classifier-free guidance on the text, and on the hands' poses where the task has them.

    null + scale · (full − null) + (pose_scale − 1) · (full − unposed), all branches in one call: `null` is
    without the text, `unposed` without the poses. predict(x, t, text, layout): the network's answer; layout:
    the task (`models.backbone.Layout`). text, null_text B×N×D. At scale ≤ 1 the null branch is not computed,
    at pose_scale 1 the unposed one is not. guided_at: the timesteps with guidance (None: all); at the others
    the network's own answer counts, by one branch. Raises: ValueError where null_text is needed and missing.
    """
    texts, layouts = [text], [layout]
    by_text, by_poses = scale > 1, pose_scale != 1 and layout.poses is not None
    if by_text:
        if null_text is None:
            raise ValueError("guidance above 1 needs the null text")
        texts, layouts = [null_text, text], [layout, layout]
    if by_poses:
        texts, layouts = [*texts, text], [*layouts, replace(layout, poses=torch.zeros_like(layout.poses))]
    count, states, task = len(texts), torch.cat(texts), layout.joined(layouts)

    def guided(x: Tensor, t: Tensor) -> Tensor:
        if guided_at is not None and float(t) not in guided_at:
            return predict(x, t, text, layout).float()
        answers = predict(torch.cat([x] * count), t, states, task).float().chunk(count)
        full = answers[1] if by_text else answers[0]
        result = answers[0] + scale * (full - answers[0]) if by_text else full
        return result + (pose_scale - 1) * (full - answers[-1]) if by_poses else result

    return guided


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

    `seeds` (one per clip) feed the schedulers that draw noise in their steps; the others ignore them.
    """
    extra = {}
    if seeds and "generator" in inspect.signature(scheduler.step).parameters:
        extra["generator"] = [_generator(seed, STEP_STREAM) for seed in seeds]
    for index, t in enumerate(timesteps):
        scaled = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        prediction = predict(scaled, t)
        x = scheduler.step(prediction, t, x, **extra, return_dict=False)[0]
        if on_step is not None:
            replaced = on_step(index, t, x)
            if replaced is None:
                break
            x = replaced
    return x
