"""Small videos that need no camera, and a stand-in for Υ, for tests of preparing clips in any process."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import av
import numpy as np
import torch

from handi.core.types import Hands
from handi.data.sources.common import Clip
from handi.data.stages import Tools
from helpers.lossless import lossless

FPS = 10.0
DEADLY = 30  # brightness of a video on which `Deadly`'s workers die


def movie(path: Path, frames: int = 24, size: tuple[int, int] = (48, 64), brightness: int = 200) -> Path:
    """Frames of one brightness whose green tells their number, at 10 a second."""
    clip = np.full((frames, *size, 3), brightness, np.uint8)
    clip[..., 1] = np.minimum(brightness, np.arange(frames) * 6)[:, None, None]
    return lossless(path, clip, fps=FPS)


def sound_only(path: Path) -> Path:
    """A file with a track of sound and no pictures."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        for packet in [*stream.encode(frame), *stream.encode()]:
            container.mux(packet)
    return path


def clip_of(video: Path | None, name: str = "", **entries) -> Clip:
    """The whole of a video as a clip."""
    about = {"start": 0.0, "end": None, "action": "Cut the carrot.", **entries}
    return Clip(id=name or (video.stem if video else "none"), video=video, **about)


def read_hands(frames: np.ndarray) -> Hands:
    """A left hand in the middle of every frame that is not dark."""
    count, height, width = frames.shape[:3]
    there = torch.from_numpy(frames.reshape(count, -1).mean(1) > 20)
    visible = torch.stack([there, torch.zeros_like(there)], 1)
    joints = torch.zeros(count, 2, 21, 2)
    joints[:, 0, :, 0] = 0.25 + 0.5 * torch.arange(21) / 20
    joints[:, 0, :, 1] = 0.25 + 0.5 * (torch.arange(21) % 5) / 4
    joints = (joints * visible[..., None, None]).reshape(count, 42, 2)
    rois = torch.tensor([width / 2, height / 2, width / 2, 0.0]) * visible[..., None]
    return Hands(joints, torch.zeros(count, 2), torch.zeros(count, 2), rois, visible, (height, width), "test")


def simple_tools(number: int) -> Tools:
    """Hands without a network; what `encode` gives stands for latents."""
    return Tools(read_hands, lambda frames: frames[:, ::8, ::8].transpose(0, 3, 1, 2).astype(np.float16))


def deadly_tools(number: int) -> Tools:
    """Those of `simple_tools`, but a worker that sees a video of brightness DEADLY dies as by the kernel."""

    def detect(frames: np.ndarray) -> Hands:
        if abs(float(frames[..., 0].mean()) - DEADLY) < 6:
            os.kill(os.getpid(), signal.SIGKILL)
        return read_hands(frames)

    return Tools(detect)


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
