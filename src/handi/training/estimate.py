"""What a recipe costs before it is run: parameters, memory and arithmetic of a step, time of the whole.

Where the machine can hold the model a few real steps are measured, on random clips of the recipe's size: on a
GPU torch's own peak, on a CPU the bytes of live tensors. Else the same step runs on tensors without content
(`counting.py`), which gives bytes and arithmetic but no time. Either way the most expensive step is taken:
every hand is there and every clip can be read. Not in it: the driver's context and libraries' workspaces
(about 1 GiB), fragments, DDP's buckets (once the gradients), clips in the making, sample sheets, checkpoints.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from handi.core.errors import ModelError
from handi.data.dataset import REQUESTS
from handi.models import fresh
from handi.models.base import base_shapes
from handi.models.folder import base_of
from handi.models.fresh import published_shapes
from handi.models.parts import Checkpoint
from handi.models.published import shapes_for
from handi.training import build, setup, step
from handi.training.batch import Batch
from handi.training.counting import PeakBytes, flop_counter, held, pretending
from handi.training.ema import Ema
from handi.training.module import StepModule, total_of
from handi.training.optim import choose_trained, make_optimizer
from handi.training.recipe import Recipe

CPU_LIMIT = 200_000_000  # parameters above which a step on a CPU would take minutes: it is counted
TIMED_STEPS = 3
WORDS = 32  # rows of a stored text state: what counts is to how many they are padded
PRECISIONS = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Estimate:
    """What one process needs for a recipe; sizes in bytes."""

    recipe: str
    stage: str
    device: str  # that was measured on, or "counted, not run"
    clips: int  # of a forward pass
    accumulate: int  # forward passes of a step
    frames: int
    height: int
    width: int
    precision: str
    checkpointing: bool
    parameters: int
    trained: int
    weights_bytes: int  # all networks and their buffers
    gradients_bytes: int
    optimizer_bytes: int
    average_bytes: int  # of the averaged weights
    peak_bytes: int  # the most that was held at once
    flops_per_step: int  # multiply-adds count as two
    seconds_per_step: float | None
    steps: int
    hours: float | None  # of all steps, without validation, samples and loading
    notes: tuple[str, ...]

    @property
    def work_bytes(self) -> int:
        """What the peak holds beside what a run keeps: activations and temporaries (less the gradients
        that are not yet there at that moment)."""
        kept = self.weights_bytes + self.gradients_bytes + self.optimizer_bytes + self.average_bytes
        return max(0, self.peak_bytes - kept)

    def as_dict(self) -> dict[str, Any]:
        """What JSON holds."""
        return asdict(self) | {"work_bytes": self.work_bytes}


def estimate(recipe: Recipe) -> Estimate:
    """Measure or count a recipe's step. Raises: HandiError.

    Its data need not be there; where its model folder is not, AnimateAnything's shapes are taken.
    """
    notes: list[str] = []
    parts = parts_of(recipe, notes)
    parameters = sum(
        _count(part) for part in (parts.unet, parts.area_unet, parts.pose_net, parts.vae, parts.text_encoder)
    )
    on_gpu = torch.cuda.is_available() and recipe.run.device != "cpu"
    there = parts.unet.device.type != "meta"
    if there and (on_gpu or parameters <= CPU_LIMIT):
        device = torch.device("cuda" if on_gpu else "cpu")
        try:
            trial = Trial(recipe, parts, device)
            return _result(recipe, trial, _describe(device), notes, *measured(trial))
        except torch.OutOfMemoryError:
            notes.append(f"a step does not fit this {_describe(device)}: counted instead")
            parts = parts_of(recipe, [])
    trial = Trial(recipe, parts, torch.device("cpu"), pretend=True)
    return _result(recipe, trial, "counted, not run", notes, *counted(trial), None)


def parts_of(recipe: Recipe, notes: list[str]) -> Checkpoint:
    """The recipe's model, its weights or at least its shapes: of a base of diffusers that is too large to be
    tried here, its configuration is read."""
    if recipe.model.preset is not None:
        parts = fresh.from_preset(recipe.model.preset, ["cut the carrot"], seed=recipe.run.seed)
        parts.vae.basis.fit(torch.rand(64, 3, parts.card.height, parts.card.width) * 2 - 1)
        return build.with_pose_net(recipe, parts)
    init = str(recipe.model.init)
    try:
        base = base_of(init)
    except ModelError:
        if setup.needs_finder(recipe):
            raise  # no published model has a finder
        name, parts = shapes_for(f"{init} {recipe.name}")
        notes.append(f"{init} is not here: taken for a model of {name}'s size")
    else:
        if base is None:
            return setup.open_model(recipe, Path())
        parts = base_shapes(base)
        if torch.cuda.is_available() or _count(parts.unet) + _count(parts.vae) <= CPU_LIMIT:
            parts = setup.open_model(recipe, Path(), text=False)
        else:
            build.add_pose_stem(recipe, parts)
    if parts.card.base is not None:
        notes.append("latents and text states are taken as stored: handi prepare --model BASE --text-states")
        parts = replace(parts, text_encoder=None)
    if recipe.stage == "stage1" and parts.area_unet is None:
        network = published_shapes().unet if parts.card.base is None else parts.unet
        blank = torch.zeros(parts.card.height, parts.card.width)
        parts = replace(parts, area_unet=network, prior_mask=blank)
    return parts


def _count(module: nn.Module | None) -> int:
    return 0 if module is None else sum(parameter.numel() for parameter in module.parameters())


def _describe(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def _result(
    recipe: Recipe, trial: Trial, device: str, notes: list[str], peak: int, flops: int, seconds: float | None
) -> Estimate:
    optim, run = recipe.optim, recipe.run
    if trial.eight_bit_counted:
        notes.append("the 8-bit optimiser is counted as 2 bytes per weight")
    if recipe.stage == "vae" and trial.frames > 1:
        notes.append("one frame of each clip is reconstructed")
    return Estimate(
        recipe=recipe.name,
        stage=recipe.stage,
        device=device,
        clips=optim.batch,
        accumulate=optim.accumulate,
        frames=trial.frames,
        height=trial.size[0],
        width=trial.size[1],
        precision=build.arithmetic(run).precision,
        checkpointing=run.checkpointing,
        parameters=_count(trial.module),
        trained=sum(p.numel() for p in trial.trained),
        weights_bytes=trial.kept["weights"],
        gradients_bytes=trial.kept["gradients"],
        optimizer_bytes=trial.kept["optimizer"],
        average_bytes=trial.kept["average"],
        peak_bytes=peak,
        flops_per_step=flops,
        seconds_per_step=seconds,
        steps=run.steps,
        hours=None if seconds is None else seconds * run.steps / 3600,
        notes=tuple(notes),
    )


# -------------------------------------------------------------------------------------------- a step


class Trial:
    """A recipe's networks and optimiser, set up as the loop does it, and a step on random clips.

    A pretended trial is set up when `pretending` begins, as its tensors live in there only.
    """

    def __init__(
        self, recipe: Recipe, parts: Checkpoint, device: torch.device, *, pretend: bool = False
    ) -> None:
        dearest = replace(recipe.loss, miou_noise_limit=None, hand=replace(recipe.loss.hand, noise_limit=1e9))
        self.recipe, self.device, self.pretend = recipe, device, pretend
        self.size, self.frames = recipe.data.size or (parts.card.height, parts.card.width), recipe.data.frames
        networks = build.networks_of(recipe, parts)
        networks.prior_mask = torch.zeros(self.size)
        self.clip_frames = parts.card.frames
        self.hands: list[nn.Module] = []
        if networks.detector is not None:
            self.hands = networks.detector.modules_on(device)
        self.module = StepModule(networks, recipe.stage, dearest)
        self.parts, self.drawn = parts, self._dearest_frames(networks.backbone.chunk)
        choose_trained(self.module, recipe.model, setup.NETWORK[recipe.stage], parts.adapter(recipe.stage))
        if recipe.run.checkpointing:
            build.enable_checkpointing(self.module)
        self.module.train()
        self.eight_bit_counted = pretend and recipe.optim.eight_bit
        self.kept: dict[str, int] = {}
        if not pretend:
            self._begin()

    def _begin(self) -> None:
        """The optimiser and the averaged weights, over the parameters as they are now."""
        if not self.pretend:
            self.module.to(self.device)
        optim = self.recipe.optim
        named = {name: p for name, p in self.module.named_parameters() if p.requires_grad}
        self.trained = list(named.values())
        if self.eight_bit_counted:
            self.optimizer: torch.optim.Optimizer = torch.optim.SGD(self.trained, lr=0.0)
        else:
            self.optimizer = make_optimizer(
                self.trained, optim, fused=self.pretend or self.device.type == "cuda"
            )
        self.ema = Ema(named, optim.ema) if optim.ema else None
        self.batch = self._clips().to(self.device)
        self.generator = torch.Generator(self.device).manual_seed(0)

    def step(self, passes: int) -> None:
        """One step of the loop, of this many forward and backward passes."""
        precision = PRECISIONS[build.arithmetic(self.recipe.run).precision]
        for _ in range(passes):
            with (
                torch.autocast(self.device.type, precision, enabled=precision != torch.float32),
                mock.patch.object(step, "sample_frames", return_value=self.drawn),
            ):
                terms = self.module(self.batch, self.generator)
            (total_of(terms) / passes).backward()
        torch.nn.utils.clip_grad_norm_(self.trained, self.recipe.optim.clip or float("inf"))
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.ema is not None:
            self.ema.update(1)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """After a first step, in which the optimiser makes its state: then `kept` is known."""
        with pretending(self.module, *self.hands) if self.pretend else nullcontext():
            if self.pretend:
                self._begin()
            yield

    def look(self) -> int:
        """Fill `kept`; gives the bytes that are held between two steps, the clips' included."""
        weights = held(self.module, self.hands)
        state = held([list(entries.values()) for entries in self.optimizer.state.values()])
        gradients = sum(p.numel() * p.element_size() for p in self.trained)
        if self.eight_bit_counted:
            state = 2 * sum(p.numel() for p in self.trained)
        average = 0 if self.ema is None else held(self.ema.values)
        self.kept = {"weights": weights, "gradients": gradients, "optimizer": state, "average": average}
        clips = held([value for value in vars(self.batch).values() if isinstance(value, Tensor)])
        return weights + state + average + clips

    def _dearest_frames(self, chunk: int) -> tuple[Tensor, Tensor]:
        """(clips, frames) for the hand loss: as many as the recipe asks for, in whole chunks, the last ones,
        which cost most where earlier chunks are decoded on the way. Made before anything is pretended."""
        if not build.reads_hands(self.recipe):
            return torch.zeros(0), torch.zeros(0)
        chunks = -(-self.recipe.loss.hand.frames // chunk)
        last = range(self.frames - 1, 0, -chunk)
        places = [(clip, end) for end in last for clip in range(self.recipe.optim.batch)][:chunks]
        rows = [(clip, end - n) for clip, end in places for n in reversed(range(chunk))]
        clips, frames = torch.tensor(rows).T
        return clips.to(self.device), frames.to(self.device)

    def _cached(self, count: int) -> dict[str, Any]:
        """Random latents and text states of a base, as they are stored."""
        if self.parts.card.base is None:
            return {}
        backbone, config = self.module.networks.backbone, self.parts.unet.config
        cell = backbone.multiple // getattr(backbone, "patch", 1)
        cells = [1 + (self.frames - 1) // backbone.chunk, *(side // cell for side in self.size)]
        latents, still = (torch.randn(count, config.out_channels, *cells).half() for _ in range(2))
        width = config.get("text_dim") or config.caption_channels
        states = torch.randn(count, WORDS, width).half()
        return {"latents": latents, "still": still, "embeddings": states, "has_blank": True}

    def _clips(self) -> Batch:
        """Random clips in which every hand is there, in the middle of the frame."""
        count, frames = self.recipe.optim.batch, self.frames
        together = REQUESTS if self.recipe.data.frames == 1 else 1  # of first frames
        height, width = self.size
        area = torch.zeros(count, height, width)
        area[:, height // 4 :, width // 4 :] = 1
        roi = torch.tensor([width / 2, height / 2, min(height, width) / 2, 0.0])
        joints = torch.rand(count, frames, 42, 2)
        return Batch(
            **self._cached(count),
            names=[f"picture {n // together}" for n in range(count)],
            frames=torch.randint(256, (count, frames, height, width, 3), dtype=torch.uint8),
            frame_index=torch.arange(frames).expand(count, -1).contiguous(),
            area=area,
            texts=["cut the carrot"] * count,
            joints=joints,
            poses=joints,
            way=torch.rand(count, self.clip_frames, 42, 2),
            visible=torch.ones(count, frames, 2, dtype=torch.bool),
            rois=roi.expand(count, frames, 2, 4).contiguous(),
            referents=area[:, None].expand(-1, 2, -1, -1).contiguous(),
        )


def counted(trial: Trial) -> tuple[int, int]:
    """Peak bytes and FLOPs of a step without content."""
    accumulate = trial.recipe.optim.accumulate
    passes = min(2, accumulate)  # from the second on there are gradients already
    with trial.at_work():
        with flop_counter() as flops:  # not together: its hooks keep what checkpointing computes again alive
            trial.step(1)
        held_before = trial.look()
        with PeakBytes() as count:
            trial.step(passes)
    return held_before + count.peak, flops.get_total_flops() * accumulate


def measured(trial: Trial) -> tuple[int, int, float]:
    """Peak bytes, FLOPs and seconds of real steps."""
    accumulate = trial.recipe.optim.accumulate
    passes = min(2, accumulate)
    with flop_counter() as flops:
        trial.step(1)
    held_before = trial.look()
    if trial.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(trial.device)
        trial.step(passes)
        peak = torch.cuda.max_memory_allocated(trial.device)
    else:
        with PeakBytes() as count:
            trial.step(passes)
        peak = held_before + count.peak
    seconds = min(_timed(trial, passes) for _ in range(TIMED_STEPS))
    return peak, flops.get_total_flops() * accumulate, seconds * accumulate / passes


def _timed(trial: Trial, passes: int) -> float:
    begin = time.perf_counter()
    trial.step(passes)
    if trial.device.type == "cuda":
        torch.cuda.synchronize(trial.device)
    return time.perf_counter() - begin
