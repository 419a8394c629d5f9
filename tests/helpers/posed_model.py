"""A tiny model that predicts poses and can be told them, and poses to tell it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from handi import HandiPipeline
from handi.models import fresh
from handi.models.lite import LiteTransformer
from handi.models.pose_net import PoseNet

FRAMES = 16


def posed_model(folder: Path) -> Path:
    """Write the model, 32×32, into a folder."""
    parts = fresh.from_preset("tiny", ["cut the carrot"])
    parts.vae.basis.fit(torch.rand(64, 3, 32, 32) * 2 - 1)
    torch.manual_seed(0)
    config = {name: value for name, value in parts.unet.config.items() if not name.startswith("_")}
    pose_net = PoseNet(latent_channels=8, cross_attention_dim=16, width=16, heads=2, depth=1, hidden=16)
    torch.nn.init.constant_(pose_net.leave[-1].bias, 0.5)  # all hands are there
    unet = LiteTransformer(**{**config, "poses": True})
    parts = replace(parts, unet=unet.eval(), pose_net=pose_net.eval())
    HandiPipeline.from_checkpoint(parts).save_pretrained(folder)
    return folder


def hand(x: float, y: float, size: float = 0.1) -> np.ndarray:
    """21 joints around a wrist at x, y."""
    spread = np.random.default_rng(0).uniform(-1, 1, (21, 2))
    spread[0] = 0
    return np.array([x, y]) + size * spread


def moving(
    left: np.ndarray | None = None, right: np.ndarray | None = None, frames: int = FRAMES, shift: float = 0.2
) -> np.ndarray:
    """P of hands that go `shift` to the right, F×42×2."""
    poses = np.zeros((frames, 2, 21, 2), np.float32)
    for side, own in enumerate((left, right)):
        if own is not None:
            poses[:, side] = own + np.linspace(0, shift, frames)[:, None, None] * (1, 0)
    return poses.reshape(frames, 42, 2)
