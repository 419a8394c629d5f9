"""What a video network asks of training and sampling, so that one step and one loop serve all of them.

A backbone says how frames become latents and come back, how sentences are encoded, which noise its network
was trained with, and how the network is called. Both stages are one kind of task to it: some cells of a
clip's latents are known, and the others are to be generated (`Layout`). Nothing outside a backbone asks what
kind of network it runs. CONTRIBUTING.md, "A backbone", shows how to add one.

Sizes: B clips of F frames H×W; latents have C channels and f frames of h×w cells. f is F for autoencoders of
single frames, and 1 + (F - 1) / `chunk` for those that compress time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from handi.core.errors import InputError
from handi.method.losses import PredictionKind


@dataclass(frozen=True)
class Given:
    """What is known of B clips before a stage runs: the true clips in training, else their context images."""

    latents: Tensor  # B×C×f×h×w of the true clips, or B×C×1×h×w of their first frames
    frame_index: Tensor  # B×F int64: which frames of the whole clip the task has; 0 is the context image
    frames: Tensor | None = None  # B×F×H×W×3 uint8 (or the first frame alone); None or empty: not kept
    motion: Tensor | None = None  # B, AnimateAnything's motion strength; None: not known
    poses: Tensor | None = None  # B×F×42×2, the hands' joints in [0, 1]; None: not known
    still: Tensor | None = None  # B×C×f×h×w of the context image as a still clip; None: to be encoded


@dataclass(frozen=True)
class Layout:
    """The latents of one task, which of their cells are to be generated, and the conditions beside them."""

    z: Tensor  # B×C×f×h×w clean: the true clip, or the still context in sampling; known cells as given
    free: Tensor  # B×1×(f or 1)×h×w in {0, 1}: 1 for cells to be generated
    area: Tensor  # B×1×1×h×w in [0, 1]: the mask channel, for networks that have one
    context: Tensor  # B×C×1×h×w of the context image
    frame_index: Tensor  # B×f' int64, as in `Given`
    motion: Tensor | None = None  # B
    poses: Tensor | None = None  # B×F×42×2
    cells: Tensor | None = (
        None  # B×P int64: the cells to compute, h·w in row order; None: all that are needed
    )
    condition: Tensor | None = None  # B×C'×f×h×w, channels that the network takes beside the noisy ones
    image: Tensor | None = None  # B×N×D, states of the context image that it attends to
    adapter: str | None = None  # of a network that serves both stages: "area" or "clip"

    def clamp(self, x: Tensor) -> Tensor:
        """x, B×C×f×h×w, with the known cells as they were given."""
        return self.z * (1 - self.free) + x * self.free

    @staticmethod
    def joined(layouts: Sequence[Layout]) -> Layout:
        """Several tasks of the same kind in one batch, such as the branches of guidance."""
        names = [
            field.name for field in fields(Layout) if isinstance(getattr(layouts[0], field.name), Tensor)
        ]
        more: dict[str, Any] = {
            name: torch.cat([getattr(layout, name) for layout in layouts]) for name in names
        }
        return replace(layouts[0], **more)


@dataclass(frozen=True)
class Traits:
    """What a step or a pipeline must know of a network before it calls it."""

    mask: bool = True  # it is conditioned on the motion area
    motion: bool = False  # and on the motion strength
    poses: bool = False  # and on the hands' poses
    one_mask: bool = False  # as stage 1 it makes one mask per clip, not one per frame
    cells: bool = False  # it computes `Layout.cells` alone


class Process(Protocol):
    """The noise that a network was trained with: x_t = alpha·x0 + sigma·noise."""

    scheduler: Any  # of diffusers, which does the steps of a sampling run

    @property
    def kind(self) -> PredictionKind:
        """What the network answers."""
        ...

    @property
    def last(self) -> float:
        """The timestep of the most noise."""
        ...

    def timesteps(
        self, count: int, high: float, pure: float, generator: torch.Generator, low: float = 0.0
    ) -> Tensor:
        """`count` random timesteps for training: a share `high` with much noise, a share `pure` at `last`,
        and a share `low` with no more noise than signal."""
        ...

    def levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(alpha, sigma), each B float32, of timesteps B."""
        ...

    def schedule(self, steps: int, cells: int, device: torch.device, strength: float = 1.0) -> Tensor:
        """The timesteps of a sampling run, most noise first, set in its scheduler.

        cells: latent cells of a clip, for schedules that shift with them. strength < 1 leaves out the first
        steps: a later start keeps more of the context image.
        """
        ...

    def start(self, still: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """What sampling starts from at timestep t: the still context and noise, both B×C×f×h×w, mixed."""
        ...


class Backbone(Protocol):
    """How to run one family of video networks; made of a model's parts, holds no state of a run."""

    vae: Any  # its parts, whose weights a run may train
    text_encoder: Any
    tokenizer: Any
    clamps: bool  # known cells enter the network clean: they are put back after sampling and bear no loss
    chunk: int  # frames of a latent frame after the first, decoded together: a clip has 1 + chunk·k
    multiple: int  # of which height and width must be multiples, in pixels

    @property
    def process(self) -> Process:
        """The noise of its networks."""
        ...

    def traits(self, network: Any) -> Traits:
        """What to know of a network of this family."""
        ...

    def encode(self, video: Tensor) -> Tensor:
        """Latents B×C×f×h×w float32 of B×3×F×H×W in [-1, 1], as the network expects them; no gradient."""
        ...

    def decode(self, z: Tensor) -> Tensor:
        """All frames of latents B×C×f×h×w: B×3×F×H×W float32 about [-1, 1], with little memory."""
        ...

    def frames(self, z: Tensor, clips: Tensor, frames: Tensor) -> Tensor:
        """Chosen frames of chosen clips, N×3×H×W about [-1, 1], with a gradient: for losses on pixels.

        clips and frames are N each: of the batch, and of F (not of f).
        """
        ...

    def masks(self, z: Tensor, frames: Tensor | None = None) -> Tensor:
        """The mask pictures in stage 1's latents, B×3×n×H×W about [-1, 1], with a gradient.

        frames: which n of them (default: all). A network of the trait `one_mask` has one, others F.
        """
        ...

    def text(self, texts: Sequence[str], device: torch.device, notes: list[str] | None = None) -> Tensor:
        """States B×N×D of sentences; notes: to which a truncated sentence is reported."""
        ...

    def clip(self, network: Any, given: Given, area: Tensor) -> Layout:
        """Stage 2's task: the clip, of which what lies outside the area B×H×W in [0, 1] is known (§3)."""
        ...

    def area(self, network: Any, given: Given, prior: Tensor, masks: Tensor | None = None) -> Layout:
        """Stage 1's task: a mask video, or one mask, for the prior B×H×W in [0, 1].

        masks: the true ones in {0, 1}, B×1×H×W or one per frame, B×F×H×W; None in sampling.
        """
        ...

    def predict(self, network: Any, x_t: Tensor, t: Tensor, text: Tensor, layout: Layout, **more: Any) -> Any:
        """The network's answer, B×C×f×h×w in the process's `kind`, for x_t at timesteps t (B, or one).

        more: arguments of this family's own networks, for their auxiliary losses.
        """
        ...


def check_frames(frames: int, chunk: int, where: str = "") -> None:
    """That a clip can have so many frames. Raises: InputError naming the nearest numbers that it can have."""
    if over := (frames - 1) % chunk:
        less, more = frames - over, frames - over + chunk
        nearest = f"{less} or {more}" if less > 1 else f"{more}"
        hint = f"use {nearest}: clips of this model have 1 + {chunk}·k"
        raise InputError(f"a clip of {frames} frames", where=where, hint=hint)
