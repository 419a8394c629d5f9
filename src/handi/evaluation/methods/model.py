"""A model folder as a method: HANDI itself, AnimateAnything, and the rows of the ablation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch

from handi.core.device import choose_device, choose_dtype
from handi.core.errors import InputError
from handi.core.reading import read_yaml
from handi.core.types import BinaryMask, Frames
from handi.data.sources.common import FRAMES
from handi.evaluation.methods.base import HANDI, GeneratedClip, Task, one_by_one
from handi.method.area import prior_area
from handi.method.latents import area_at
from handi.method.pipeline import HandiPipeline
from handi.models.folder import fingerprint

Mask = Literal["true", "generated", "prior", "full"]


class Handi:
    """A model through HandiPipeline.

    mask: where stage 2 may move things: "generated" (by its own stage 1), "full" (the whole frame), "prior"
    (the mean area of its training clips) or "true" (the ground truth).
    """

    def __init__(
        self, model: str, *, mask: Mask = "generated", steps: int | None = None,
        guidance: float | None = None, area_steps: int | None = None, area_guidance: float | None = None,
        pose_guidance: float | None = None,
        device: str = "auto", dtype: str = "auto",
    ) -> None:  # fmt: skip
        self.device = choose_device(device)
        self.pipe = HandiPipeline.from_pretrained(model, torch_dtype=choose_dtype(dtype, self.device))
        self.pipe.set_progress_bar_config(disable=True)
        if mask in ("generated", "prior") and self.pipe.prior_mask is None:
            raise InputError(f"this model has no stage 1, which mask {mask} needs", where=model)
        self.mask = mask
        self.calls: dict[str, Any] = {
            "num_inference_steps": steps,
            "guidance_scale": guidance,
            "area_inference_steps": area_steps,
            "area_guidance_scale": area_guidance,
            "pose_guidance_scale": pose_guidance,
        }
        used = [self.pipe.unet, self.pipe.vae, self.pipe.text_encoder]
        used += [self.pipe.area_unet] if mask == "generated" else []
        self.parameters: int | None = sum(p.numel() for part in used for p in part.parameters())
        self.uses_ground_truth = "the true motion area" if mask == "true" else ""
        weights = fingerprint(self.pipe.checkpoint)
        self.config: Mapping[str, Any] = {"kind": "handi", "weights": weights, "mask": mask, **self.calls}
        self.origin = replace(
            HANDI, weights=f"{model}, SHA-256 {weights[:12]}", trained_on=_trained_on(Path(model))
        )
        self.pipe.to(self.device)
        chunk = self.pipe.backbone.chunk
        self._frames = 1 + -(-(FRAMES - 1) // chunk) * chunk  # what is too long is cut off
        self._stages: Mapping[str, float] = {}
        self._area: BinaryMask | None = None

    def generate(self, tasks: Iterable[Task]) -> Iterator[GeneratedClip]:
        for clip in one_by_one(tasks, self._generate):
            yield replace(clip, stages=self._stages, area=self._area)

    def _generate(self, task: Task) -> Frames:
        output = self.pipe(
            task.context,
            task.prompt,
            mask=self._mask_of(task),
            num_frames=self._frames,
            **self.calls,
            generator=torch.Generator().manual_seed(task.seed),
        )
        self._stages = dict(output.seconds)
        area = output.motion_area[0].astype(np.uint8)
        self._area = cv2.resize(area, task.context.shape[1::-1], interpolation=cv2.INTER_NEAREST) > 0
        return output.frames[0][:FRAMES]

    def _mask_of(self, task: Task) -> Any:
        if self.mask == "full":
            return "full"
        if self.mask == "prior":
            assert self.pipe.prior_mask is not None
            like = torch.empty(1, *task.context.shape[:2])  # as in training
            return prior_area(area_at(self.pipe.prior_mask.cpu(), like)[0].numpy())
        if self.mask == "true":
            if task.area is None:
                raise InputError("has no true motion area", where=task.id)
            return task.area
        return None


def _trained_on(model: Path) -> str:
    """What the run that wrote a model folder trained on, by the recipe beside it; "" without one."""
    with suppress(InputError, KeyError, TypeError):
        recipe = read_yaml(model.expanduser().parent / "recipe.yaml")
        clips = recipe["optim"]["batch"] * recipe["optim"]["accumulate"]
        return f"{recipe['data']['path']}, {recipe['run']['steps']:,} steps of {clips} clips"
    return ""
