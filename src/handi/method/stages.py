"""The two stages of a call in latents: conditions in, soft motion areas or a clip's latents out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from handi.core.errors import InputError
from handi.method import diffusion
from handi.method.latents import area_at, as_video, unit
from handi.models.backbone import Backbone, Given, Layout
from handi.models.folder_pipeline import FolderPipeline
from handi.models.parts import BACKBONES, StageSettings
from handi.models.pose_net import predict_poses

# (pipeline, step, timestep, {"latents", "stage"}) → None, or {"latents": …} to continue with
Callback = Callable[[Any, int, Tensor, dict[str, Any]], dict[str, Any] | None]


@dataclass(frozen=True)
class Conditions:
    """What both stages of one call share."""

    context: Tensor  # B×C×1×h×w
    pictures: Tensor | None  # B×1×H×W×3 uint8, which the context is of
    text: Tensor  # B×N×D
    null_text: Tensor | None  # B×N×D, where either stage is guided
    motions: list[float | None]  # B
    seeds: list[int]  # B
    frames: int
    poses: Tensor | None  # B×F×42×2, given or predicted
    callback: Callback | None
    guided: tuple[float, float] = (0.0, 1.0)  # from which to which share of the steps guidance acts


class StagesPipeline(FolderPipeline):
    """What HandiPipeline does between its arguments and its output: encode, sample each stage, decode."""

    _interrupt = False

    @property
    def backbone(self) -> Backbone:
        """How the networks are run; with the scheduler that the pipeline has now."""
        return BACKBONES[self.card.backbone](self.vae, self.text_encoder, self.tokenizer, self.scheduler)

    def enable_model_cpu_offload(self, *arguments: Any, **options: Any) -> None:
        """diffusers' own; a network that serves both stages is moved once, and not for each of them."""
        stage1 = self.area_unet
        self.area_unet = None if stage1 is self.unet else stage1
        try:
            super().enable_model_cpu_offload(*arguments, **options)
        finally:
            self.area_unet = stage1

    def interrupt(self) -> None:
        """Stop after the current step; to be called from a callback. The call returns what there is."""
        self._interrupt = True

    def sample_stage1(
        self, conditions: Conditions, settings: StageSettings, size: tuple[int, int]
    ) -> np.ndarray:
        """Soft motion areas B×H×W in [0, 1]: the decoded masks' mean over channels and frames."""
        assert self.prior_mask is not None
        prior = area_at(self.prior_mask, torch.empty(len(conditions.seeds), *size))
        given = self._given(conditions, settings, settings.frames or conditions.frames)
        layout = self.backbone.area(self.area_unet, given, prior)
        masks = self.backbone.masks(self._denoise(1, self.area_unet, settings, layout, conditions))
        return unit(masks).mean(dim=(1, 2)).clamp(0, 1).cpu().numpy()

    def sample_stage2(
        self, conditions: Conditions, settings: StageSettings, area: np.ndarray, strength: float
    ) -> Tensor:
        """Latents B×C×f×h×w of clips with the motion area B×H×W."""
        given = self._given(conditions, settings, conditions.frames)
        layout = self.backbone.clip(self.unet, given, torch.from_numpy(area))
        return self._denoise(2, self.unet, settings, layout, conditions, strength)

    def _given(self, conditions: Conditions, settings: StageSettings, frames: int) -> Given:
        motions = [settings.motion if motion is None else motion for motion in conditions.motions]
        return Given(
            conditions.context,
            torch.arange(frames).expand(len(motions), frames),
            conditions.pictures,
            torch.tensor(motions),
            conditions.poses,
        )

    def _denoise(
        self,
        stage: int,
        network: Any,
        settings: StageSettings,
        layout: Layout,
        conditions: Conditions,
        strength: float = 1.0,
    ) -> Tensor:
        """Latents B×C×f×h×w of a stage's task."""
        backbone, (_, *shape) = self.backbone, layout.z.shape
        noise = diffusion.clip_noise(shape, conditions.seeds, stream=stage).to(layout.z.device)
        cells = math.prod(shape[1:])
        timesteps = backbone.process.schedule(settings.steps, cells, noise.device, strength)
        first, last = (round(share * len(timesteps)) for share in conditions.guided)
        predict = diffusion.guide(
            partial(backbone.predict, network),
            layout,
            conditions.text,
            conditions.null_text,
            settings.guidance,
            settings.pose_guidance,
            set(timesteps[first:last].tolist()),
        )
        with self.progress_bar(total=len(timesteps)) as bar:
            bar.set_description(f"stage {stage}")

            def on_step(step: int, t: Tensor, x: Tensor) -> Tensor | None:
                bar.update()
                if conditions.callback is not None:
                    given = conditions.callback(self, step, t, {"latents": x, "stage": stage}) or {}
                    x = given.get("latents", x)
                return None if self._interrupt else x

            x = backbone.process.start(layout.z, noise, timesteps[0])
            x = diffusion.sample(
                predict, x, self.scheduler, timesteps, seeds=conditions.seeds, on_step=on_step
            )
            return layout.clamp(x) if backbone.clamps else x

    def need_poses(self) -> None:
        """Raises: InputError for a model whose stage 2 cannot be given poses."""
        if not self.backbone.traits(self.unet).poses:
            what = "this model's stage 2 cannot be given poses"
            raise InputError(what, where=self.source, hint="train it with them: --model.poses true")

    def predict_poses(
        self, context: Tensor, text: Tensor, seeds: Sequence[int], frames: int, steps: int = 1
    ) -> Tensor:
        """P, B×F×42×2, of B clips that are encoded. Raises: InputError for a model without a pose_net."""
        if self.pose_net is None:
            raise InputError("this model has no pose_net: it predicts no poses", where=self.source)
        finder = self.area_unet.finder
        return predict_poses(
            self.pose_net, finder, self.backbone.process, context, text, seeds, frames=frames, steps=steps
        )

    def encode_images(self, pictures: np.ndarray) -> Tensor:
        """Latents of B×H×W×3 uint8 pictures: B×C×1×h×w float32, the posterior's mode, scaled."""
        writable = np.require(pictures, requirements=("C", "W"))  # torch has no other tensors
        video = as_video(torch.from_numpy(writable)[:, None].to(self._execution_device))
        # The strides of pictures, not of videos: kernels choose by them, and results differ in the last bit.
        return self.backbone.encode(video)[:, :, 0][:, :, None]

    def decode(self, latents: Tensor) -> Tensor:
        """Pixels of latents B×C×f×h×w: B×3×F×H×W float32 in [0, 1]."""
        return unit(self.backbone.decode(latents))

    def encode_text(self, prompts: Sequence[str], notes: list[str] | None = None) -> Tensor:
        """E_text of the prompts: B×N×D. Truncation is noted."""
        return self.backbone.text(prompts, self._execution_device, notes)

    @contextmanager
    def timed(self, name: str, seconds: dict[str, float]) -> Iterator[None]:
        """Record the wall seconds of a block; waits for the GPU where there is one."""

        def now() -> float:
            if self._execution_device.type == "cuda":
                torch.cuda.synchronize(self._execution_device)
            return time.perf_counter()

        begin = now()
        yield
        seconds[name] = now() - begin
