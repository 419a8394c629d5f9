"""Sample sheets of a run: its model, as it is now, on the first held-out clips, unpicked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from handi.data.dataset import PreparedClips, TrainingClip
from handi.hands import HandDetector
from handi.hands.joints import draw_hands
from handi.method.pipeline import HandiPipeline
from handi.models.parts import Checkpoint
from handi.training.sheets import Sample, sample_sheet


@torch.no_grad()
def write_samples(
    stage: str,
    parts: Checkpoint,
    clips: PreparedClips,
    path: Path,
    *,
    count: int,
    detector: HandDetector | None = None,
    text: str = "short",
) -> list[Path]:
    """Write `path`.png and .mp4: what a stage makes of the first `count` clips; gives both paths.

    vae: the reconstruction. stage1: the motion area.
    poses: the hands' paths over the context image. stage2: the clip, given the true area and poses, so that
    the sheet shows this stage's mistakes and not the other's. Each clip has its own fixed noise.
    Raises: OutputError.
    """
    pipe = HandiPipeline.from_checkpoint(parts)
    pipe.set_progress_bar_config(disable=True)
    kinds = {"vae": _reconstruction, "stage1": _area, "poses": _way, "stage2": _clip}
    pictured = kinds[stage]
    chosen = range(min(count, len(clips)))
    samples = [pictured(pipe, _with_text(clips[index], text), index) for index in chosen]
    return sample_sheet(samples, path, detector=detector if stage in ("vae", "stage2") else None)


def _with_text(clip: TrainingClip, text: str) -> TrainingClip:
    """The clip with one of its texts, where it has it, as its short one."""
    return replace(clip, texts={"short": clip.texts.get(text) or clip.texts["short"]})


def _reconstruction(pipe: HandiPipeline, clip: TrainingClip, seed: int) -> Sample:
    latents = pipe.encode_images(clip.frames)  # F×C×1×h×w
    frames = pipe.decode(latents)[:, :, 0].permute(0, 2, 3, 1)
    generated = (frames * 255).round().to(torch.uint8).cpu().numpy()
    return Sample(clip.texts["short"][0], clip.frames, generated, joints=clip.joints)


def _area(pipe: HandiPipeline, clip: TrainingClip, seed: int) -> Sample:
    height, width = clip.frames.shape[1:3]
    output = pipe(
        clip.frames[0],
        clip.texts["short"][0],
        height=height,
        width=width,
        num_inference_steps=1,  # of stage 2, whose result is not used
        guidance_scale=1.0,
        output_type="latent",
        generator=torch.Generator().manual_seed(seed),
    )
    return Sample(
        clip.texts["short"][0],
        clip.frames,
        area=clip.area,
        stage1=output.motion_area_soft[0],
        joints=clip.joints,
    )


def _clip(pipe: HandiPipeline, clip: TrainingClip, seed: int) -> Sample:
    height, width = clip.frames.shape[1:3]
    output = pipe(
        clip.frames[0],
        clip.texts["short"][0],
        mask=clip.area,
        poses=clip.joints if pipe.backbone.traits(pipe.unet).poses else None,
        height=height,
        width=width,
        num_frames=len(clip.frames),
        generator=torch.Generator().manual_seed(seed),
    )
    return Sample(clip.texts["short"][0], clip.frames, output.frames[0], area=clip.area, joints=clip.joints)


def _way(pipe: HandiPipeline, clip: TrainingClip, seed: int) -> Sample:
    """The hands' true and predicted paths, over the context image."""
    text, context = clip.texts["short"][0], np.array(clip.frames[:1])
    latents, states = pipe.encode_images(context), pipe.encode_text([text])
    poses = pipe.predict_poses(latents, states, [seed], len(clip.way))[0].cpu().numpy()
    true, predicted = (
        np.stack([draw_hands(context[0], hands) for hands in way]) for way in (clip.way, poses)
    )
    return Sample(text, true, predicted, area=clip.area)
