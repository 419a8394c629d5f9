"""The model under test, as the sections of `score.py` call it: areas, videos, reconstructions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from handi import HandiPipeline
from handi.method.finish import restore
from handi.models.folder import fingerprint
from handi.models.parts import StageSettings
from handi.world import WorldClip

NULL = "(no prompt)"  # stands for the empty text, which the pipeline refuses from a user


class Model(Protocol):
    """What is measured. The tests put the truth, or a still, in a model's place."""

    name: str
    sha256: str
    steps: tuple[int, int]  # of stage 1 and 2, as the model's card says
    guidance: float  # of stage 2
    pose_guidance: float  # of stage 2
    reads_poses: bool  # stage 2 is told where the hands are

    def reconstruct(self, clips: Sequence[WorldClip]) -> np.ndarray:
        """N×F×H×W×3 uint8: the frames through the autoencoder, nothing restored."""
        ...

    def areas(
        self, clips: Sequence[WorldClip], prompts: Sequence[str], steps: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Stage 1: soft N×H×W in [0, 1] and binary N×H×W."""
        ...

    def grounding(self, clips: Sequence[WorldClip], prompts: Sequence[str]) -> np.ndarray | None:
        """Stage 1's scores N×2×h×w of cells that show a thing, or a hand, that is meant; None: no layer."""
        ...

    def videos(
        self,
        clips: Sequence[WorldClip],
        prompts: Sequence[str],
        areas: np.ndarray,
        steps: int | None = None,
        guidance: float | None = None,
        poses: np.ndarray | None = None,
        pose_guidance: float | None = None,
    ) -> np.ndarray:
        """Stage 2 in the given areas, N×H×W, told the given poses N×F×42×2, else its own: N×F×H×W×3 uint8,
        background restored."""
        ...


class _Pipeline(HandiPipeline):
    """The pipeline, that can be given no prompt at all."""

    def encode_text(self, prompts: Sequence[str], notes: list[str] | None = None) -> torch.Tensor:
        return super().encode_text(["" if text == NULL else text for text in prompts], notes)


class PipelineModel:
    """A model folder through `HandiPipeline`. Noise is seeded by each clip's own seed."""

    def __init__(self, folder: str, *, device: str = "cpu", batch: int = 8) -> None:
        self.pipe = _Pipeline.from_pretrained(folder)
        self.name, self.batch = folder, batch
        self.sha256 = fingerprint(self.pipe.checkpoint)
        self.pipe.to(device)
        self.pipe.set_progress_bar_config(disable=True)
        card = self.pipe.card
        if card.stage1 is None:
            raise SystemExit(f"{folder} has no stage 1")
        self.stage1: StageSettings = card.stage1
        self.steps = (card.stage1.steps, card.stage2.steps)
        self.guidance, self.pose_guidance = card.stage2.guidance, card.stage2.pose_guidance
        self.reads_poses = self.pipe.backbone.traits(self.pipe.unet).poses

    def reconstruct(self, clips: Sequence[WorldClip]) -> np.ndarray:
        out = []
        for clip in clips:
            latents = self.pipe.encode_images(clip.frames)  # F×C×1×h×w
            pixels = self.pipe.decode(latents.transpose(0, 2))[0]  # 3×F×H×W
            out.append((pixels * 255).round().to(torch.uint8).permute(1, 2, 3, 0).cpu().numpy())
        return np.stack(out)

    def areas(
        self, clips: Sequence[WorldClip], prompts: Sequence[str], steps: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        def stop(pipe: HandiPipeline, step: int, t: Any, state: dict[str, Any]) -> None:
            if step + 1 == (steps or self.steps[0]):  # stage 1 is done; stage 2 is not wanted here
                pipe.interrupt()

        soft, binary = [], []
        for part, texts in self._batches(clips, prompts):
            out = self.pipe(**self._given(part, texts), area_inference_steps=steps, callback_on_step_end=stop)
            soft.append(out.motion_area_soft)
            binary.append(out.motion_area)
        return np.concatenate(soft), np.concatenate(binary)

    @torch.no_grad()
    def grounding(self, clips: Sequence[WorldClip], prompts: Sequence[str]) -> np.ndarray | None:
        pipe, finder = self.pipe, getattr(self.pipe.area_unet, "finder", None)
        if finder is None:
            return None
        scores = []
        for part, texts in self._batches(clips, prompts):
            context = pipe.encode_images(np.stack([clip.frames[0] for clip in part]))  # B×C×1×h×w
            found = finder(context[:, :, 0].permute(0, 2, 3, 1), pipe.encode_text(list(texts)))
            scores.append(found.permute(0, 3, 1, 2).float().cpu().numpy())
        return np.concatenate(scores)

    def videos(
        self,
        clips: Sequence[WorldClip],
        prompts: Sequence[str],
        areas: np.ndarray,
        steps: int | None = None,
        guidance: float | None = None,
        poses: np.ndarray | None = None,
        pose_guidance: float | None = None,
    ) -> np.ndarray:
        out, done = [], 0
        for part, texts in self._batches(clips, prompts):
            place = slice(done, done + len(part))
            done += len(part)
            result = self.pipe(
                **self._given(part, texts),
                mask=[area.astype(np.uint8) * 255 for area in areas[place]],
                poses=None if poses is None else poses[place],
                num_inference_steps=steps,
                guidance_scale=guidance,
                pose_guidance_scale=pose_guidance,
            )
            out.append(result.frames)
        return np.concatenate(out)

    def _batches(
        self, clips: Sequence[WorldClip], prompts: Sequence[str]
    ) -> Iterator[tuple[Sequence[WorldClip], Sequence[str]]]:
        for first in range(0, len(clips), self.batch):
            yield clips[first : first + self.batch], prompts[first : first + self.batch]

    @staticmethod
    def _given(clips: Sequence[WorldClip], prompts: Sequence[str]) -> dict[str, Any]:
        return {
            "image": [clip.frames[0] for clip in clips],
            "prompt": list(prompts),
            "generator": [torch.Generator().manual_seed(clip.seed) for clip in clips],
        }


def restored(frames: np.ndarray, clips: Sequence[WorldClip], areas: np.ndarray) -> np.ndarray:
    """Frames N×F×H×W×3 with the context put back outside the areas N×H×W, as the pipeline does it."""
    return restore(frames, np.stack([clip.frames[0] for clip in clips]), areas)


def still(clips: Sequence[WorldClip]) -> np.ndarray:
    """N×F×H×W×3: the context image, standing."""
    return np.stack([np.repeat(clip.frames[:1], len(clip.frames), axis=0) for clip in clips])


def smear(clips: Sequence[WorldClip]) -> np.ndarray:
    """N×F×H×W×3: the context image with the true area in its own mean colour, from the second frame on."""
    videos = still(clips)
    for clip, video in zip(clips, videos, strict=True):
        video[1:, clip.area_moved] = np.rint(clip.frames[0][clip.area_moved].mean(0))
    return videos


def ghost(clips: Sequence[WorldClip]) -> np.ndarray:
    """N×F×H×W×3: the mean of the true clip's frames, standing, from the second frame on."""
    videos = still(clips)
    for clip, video in zip(clips, videos, strict=True):
        video[1:] = np.rint(clip.frames[1:].mean(0))
    return videos
