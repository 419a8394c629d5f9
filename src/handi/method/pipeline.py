"""HandiPipeline: a context image and a sentence in, a clip out, in two stages.

Stage 1 denoises the latents of a mask video into the motion area; stage 2 denoises the clip with that
area in its mask channel, and what lies outside the area is put back from the context image (paper §2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import diffusers
import numpy as np
import torch
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from torch import Tensor
from transformers import CLIPTokenizer

from handi.core.errors import InputError, ModelError
from handi.core.inputs import (
    ImageInput,
    broadcast,
    check_clip,
    check_names,
    check_numbers,
    check_prompt,
    fit_inputs,
    repeated,
)
from handi.core.types import SoftMask
from handi.method import diffusion
from handi.method.area import clean_area, hull_area
from handi.method.finish import convert, restore, to_uint8
from handi.method.stages import Callback, Conditions, StagesPipeline
from handi.models.backbone import check_frames
from handi.models.parts import ModelCard, StageSettings

AreaFrom = Literal["mask", "poses"]


@dataclass
class HandiPipelineOutput:
    """What a call gives, one entry a clip in each list or leading dimension."""

    frames: Any  # B×F×H×W×3 uint8, or by output_type: lists of PIL, B×3×F×H×W in [0, 1], latents
    motion_area: np.ndarray  # B×H×W bool
    motion_area_soft: np.ndarray  # B×H×W float32 in [0, 1]
    context: np.ndarray  # B×H×W×3 uint8, the context images as the model saw them
    notes: list[str] = field(default_factory=list)  # what was changed or is worth knowing, in words
    seconds: dict[str, float] = field(default_factory=dict)  # encode, stage1, stage2, decode
    poses: np.ndarray | None = None  # B×F×42×2, the hands; None: not known
    poses_by: str = ""  # who says so: given, predicted
    interrupted: bool = False  # a callback stopped the run; frames are None if that was in stage 1


class HandiPipeline(StagesPipeline):
    """Hand-centric text-and-image conditioned video generation; see `__call__` and `from_pretrained`.

    `area_unet` (stage 1) may be None: then a mask is given, or the whole frame is the area. `pose_net` may be
    None: then the hands' poses are given, or stage 2 does without.
    """

    model_cpu_offload_seq = "text_encoder->pose_net->area_unet->unet->vae"
    _optional_components = ["area_unet", "pose_net"]  # noqa: RUF012 (the name and type that diffusers reads)

    def __init__(
        self,
        vae: Any,
        text_encoder: Any,
        tokenizer: CLIPTokenizer,
        unet: Any,
        scheduler: SchedulerMixin,
        area_unet: Any = None,
        pose_net: Any = None,
        prior_mask: Tensor | None = None,
        card: ModelCard | None = None,
        source: str = "",
    ) -> None:
        super().__init__()
        self.register_modules(
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            unet=unet,
            scheduler=scheduler,
            area_unet=area_unet,
            pose_net=pose_net,
        )
        self.prior_mask = prior_mask
        self.card = card or ModelCard(stage1=StageSettings() if area_unet is not None else None)
        self.source = source
        self._interrupt = False

    # ------------------------------------------------------------------------------------ generate

    @torch.no_grad()
    def __call__(
        self,
        image: ImageInput | Sequence[ImageInput],
        prompt: str | Sequence[str],
        *,
        mask: ImageInput | Sequence[ImageInput | None] | None = None,
        negative_prompt: str | Sequence[str] | None = None,
        motion: float | Sequence[float | None] | None = None,
        poses: np.ndarray | Sequence[np.ndarray] | None = None,
        area_from: AreaFrom = "mask",
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        area_inference_steps: int | None = None,
        area_guidance_scale: float | None = None,
        pose_inference_steps: int = 1,
        pose_guidance_scale: float | None = None,
        guidance_interval: tuple[float, float] = (0.0, 1.0),
        strength: float = 1.0,
        num_videos_per_prompt: int = 1,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        restore_background: bool = True,
        area_only: bool = False,
        output_type: str = "np",
        return_dict: bool = True,
        callback_on_step_end: Callback | None = None,
        **unknown: Any,
    ) -> HandiPipelineOutput:
        """Generate clips from context images and sentences; a batch shares everything given once.

        image: path, PIL or H×W×3 uint8. prompt: the action, "Julienne carrot.". mask: motion area to use
        instead of stage 1's (path, PIL, or H×W / H×W×3 array; its bright part is the area), or "full".
        poses: where the hands are, F×42×2 in [0, 1] as `types.Hands` counts (or B of them), frame 0 first,
        zeros for a hand that is not there; for models that read them. Default: as the model's own
        `pose_net` predicts them, where it has one, in pose_inference_steps; with more than one step the seed
        chooses the way. area_from: the motion area is stage 1's "mask", joined with the hulls of poses that
        are given, or the hulls of the "poses" alone (paper §2.1).
        motion: AnimateAnything's motion strength. num_frames: of the clip, context included.
        height, width: exact size in pixels, cropped to; default: the picture's aspect at the model's area.
        num_inference_steps, guidance_scale: of stage 2; area_…: of stage 1. What is not given is the model
        card's. At guidance ≤ 1 no unconditional branch is computed. pose_guidance_scale: guidance of stage 2
        on the poses, above 1 to follow them more closely; another branch in each step.
        guidance_interval: from which to which share of a stage's steps guidance acts; the other steps need
        one branch, so that (0.0, 0.5) saves a quarter of the work, and gives another clip (docs/speed.md).
        strength < 1: stage 2 starts later, nearer to the context. negative_prompt: one, or one per
        clip; None: none.
        num_videos_per_prompt: clips of each picture and sentence, one after the other.
        generator: one per clip, or one for all; a clip is the same alone and in a batch.
        restore_background: the context image itself outside the motion area, and as frame 0.
        area_only: stop before stage 2: the motion area and the poses alone; frames is None.
        output_type: "np" (uint8), "pil", "pt" (in [0, 1]) or "latent".
        callback_on_step_end(pipe, step, timestep, {"latents", "stage"}) after each step of either stage; it
        may return {"latents": …}, and stops the run by `pipe.interrupt()`.
        return_dict: False gives the tuple (frames, motion_area, motion_area_soft).
        Raises: InputError naming the argument or file.
        """
        check_names(unknown, HandiPipeline.__call__)
        stage1 = (self.card.stage1 or self.card.stage2).changed(area_inference_steps, area_guidance_scale)
        stage2 = self.card.stage2.changed(num_inference_steps, guidance_scale, pose_guidance_scale)
        frames = self.card.frames if num_frames is None else num_frames
        check_numbers(frames=frames, strength=strength, interval=guidance_interval)
        check_frames(frames, self.backbone.chunk, self.source)
        check_numbers(steps=pose_inference_steps, stage="poses")
        if area_from not in ("mask", "poses"):
            raise InputError(f"area_from {area_from!r}", hint="use mask or poses")
        check_numbers(steps=stage1.steps, guidance=stage1.guidance, stage="stage 1")
        check_numbers(steps=stage2.steps, guidance=stage2.guidance, stage="stage 2")
        check_numbers(guidance=stage2.pose_guidance, stage="the poses")
        if output_type not in ("np", "pil", "pt", "latent"):
            raise InputError(f"output_type {output_type!r}", hint="use np, pil, pt or latent")
        given = broadcast(image=image, prompt=prompt, mask=mask, motion=motion, negative=negative_prompt)
        given = repeated(given, num_videos_per_prompt)
        for text in given["prompt"]:
            check_prompt(text)
        negative = ["" if text is None else text for text in given["negative"]]
        if not all(isinstance(text, str) for text in negative):
            raise InputError("negative_prompt is no text", hint="give a text, a list of texts, or None")
        pictures, masks, notes = fit_inputs(
            given["image"],
            given["mask"],
            height=height,
            width=width,
            area=self.card.height * self.card.width,
            multiple=self.backbone.multiple,
        )
        check_clip(frames * len(pictures), *pictures.shape[1:3])
        if self.card.weights == "random":
            notes.append("this model's weights are random: its pixels mean nothing")
        if not self.backbone.traits(self.unet).mask:
            notes.append("this model's UNet does not read a motion area (motion_mask is not in its config)")

        self._interrupt = False
        seconds: dict[str, float] = {}
        prompts = given["prompt"]
        guided = max(stage1.guidance, stage2.guidance) > 1
        seeds = diffusion.clip_seeds(generator, len(prompts))
        hands = self._given_poses(poses, len(prompts), frames)
        with self.timed("encode", seconds):
            context, text = self.encode_images(pictures), self.encode_text(prompts, notes)
            null_text = self.encode_text(negative, notes) if guided else None
        if hands is None and self.pose_net is not None:
            with self.timed("poses", seconds):
                hands = self.predict_poses(context, text, seeds, frames, pose_inference_steps)
        conditions = Conditions(
            context=context,
            pictures=torch.from_numpy(pictures)[:, None],
            text=text,
            null_text=null_text,
            motions=given["motion"],
            seeds=seeds,
            frames=frames,
            poses=hands,
            callback=callback_on_step_end,
            guided=guidance_interval,
        )
        size = pictures.shape[1:3]
        if area_from == "poses" and masks[0] is None:
            soft, area = self._pose_area(hands, size, notes)
        else:
            soft, area = self._motion_area(conditions, stage1, masks, size, notes, seconds)
            if poses is not None and hands is not None and masks[0] is None:
                area = area | _hulls(hands, size)
        output: Any = None
        if not (self._interrupt or area_only):
            with self.timed("stage2", seconds):
                output = self.sample_stage2(conditions, stage2, area, strength)
            if output_type != "latent":
                with self.timed("decode", seconds):
                    video = to_uint8(self.decode(output))
                    output = convert(
                        restore(video, pictures, area) if restore_background else video, output_type
                    )
        self.maybe_free_model_hooks()
        if not return_dict:
            return output, area, soft  # type: ignore[return-value]  # as all of diffusers' pipelines
        return HandiPipelineOutput(
            frames=output,
            motion_area=area,
            motion_area_soft=soft,
            context=pictures,
            notes=notes,
            seconds=seconds,
            poses=None if hands is None else hands.cpu().numpy(),
            poses_by="given" if poses is not None else "predicted",
            interrupted=self._interrupt,
        )

    def _given_poses(self, poses: Any, clips: int, frames: int) -> Tensor | None:
        """Poses of a call as B×F×42×2 on the device. Raises: InputError."""
        if poses is None:
            return None
        self.need_poses()
        given = torch.from_numpy(np.array(poses, np.float32))
        given = given.expand(clips, *given.shape[-3:]) if given.ndim in (3, 4) else given
        if given.shape != (clips, frames, 42, 2) or not given.isfinite().all():
            raise InputError(
                f"poses of shape {tuple(given.shape)}",
                hint=f"give finite numbers, {clips}×{frames}×42×2 or {frames}×42×2",
            )
        return given.to(self._execution_device)

    def _motion_area(
        self,
        conditions: Conditions,
        settings: StageSettings,
        masks: list[SoftMask | None],
        size: tuple[int, int],
        notes: list[str],
        seconds: dict[str, float],
    ) -> tuple[np.ndarray, np.ndarray]:
        """Stage 1, or the masks that were given: soft B×H×W in [0, 1] and binary B×H×W."""
        if all(mask is not None for mask in masks):
            soft = np.stack(masks)  # type: ignore[arg-type]
            return soft, soft >= 0.5
        if any(mask is not None for mask in masks):
            raise InputError("some clips of the batch have a mask and some have none", hint="run them apart")
        if self.area_unet is None:
            notes.append(
                "this model has no stage 1 and no mask was given: the whole frame is the motion area"
            )
            soft = np.ones((len(masks), *size), np.float32)
            return soft, soft > 0
        if self.prior_mask is None:
            raise ModelError("a model with a stage 1 needs its prior mask", where=self.source)
        with self.timed("stage1", seconds):
            soft = self.sample_stage1(conditions, settings, size)
            area = np.stack([clean_area(one) for one in soft])
        for empty in np.flatnonzero(~area.any(axis=(1, 2))):
            notes.append(f"stage 1 found no motion area for clip {empty}: the whole frame is used")
            area[empty] = True
        return soft, area

    def _pose_area(
        self, poses: Tensor | None, size: tuple[int, int], notes: list[str]
    ) -> tuple[np.ndarray, np.ndarray]:
        """The hulls of poses B×F×42×2 as the motion area: soft B×H×W and binary B×H×W. Raises: InputError."""
        if poses is None:
            raise InputError(
                "area_from poses: there are none", where=self.source, hint="give poses, or use mask"
            )
        area = _hulls(poses, size)
        for empty in np.flatnonzero(~area.any(axis=(1, 2))):
            notes.append(f"no hand is in the picture in clip {empty}: the whole frame is the motion area")
            area[empty] = True
        return area.astype(np.float32), area

    @torch.no_grad()
    def soft_areas(
        self,
        context: Tensor,
        prompts: Sequence[str],
        size: tuple[int, int],
        *,
        steps: int | None = None,
        guidance: float | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
    ) -> np.ndarray:
        """Stage 1 alone: soft areas B×H×W in [0, 1] for latents B×C×1×h×w of context images of `size` pixels.

        The same as `__call__` makes of the same seeds. Raises: InputError for a model without stage 1.
        """
        if self.area_unet is None or self.card.stage1 is None:
            raise InputError("this model has no stage 1", where=self.source)
        settings = self.card.stage1.changed(steps, guidance)
        check_numbers(steps=settings.steps, guidance=settings.guidance, stage="stage 1")
        guided = settings.guidance > 1
        conditions = Conditions(
            context=context,
            pictures=None,
            text=self.encode_text(prompts),
            null_text=self.encode_text([""] * len(prompts)) if guided else None,
            motions=[None] * len(prompts),
            seeds=diffusion.clip_seeds(generator, len(prompts)),
            frames=self.card.frames,
            poses=None,
            callback=None,
        )
        return self.sample_stage1(conditions, settings, size)


def _hulls(poses: Tensor, size: tuple[int, int]) -> np.ndarray:
    """Motion areas B×H×W of poses B×F×42×2."""
    return np.stack([hull_area(one, *size) for one in poses.cpu().numpy()])


# `DiffusionPipeline.from_pretrained(folder)` looks up the class that model_index.json names in diffusers.
diffusers.HandiPipeline = HandiPipeline
