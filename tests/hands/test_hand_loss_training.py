"""The paper's two losses reach the networks' weights: gradients against finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from handi.models import fresh
from handi.training.batch import Batch
from handi.training.recipe import HandLossRecipe, LossRecipe
from handi.training.step import Networks, stage1_step, stage2_step


@pytest.fixture(scope="module")
def frame(clips) -> torch.Tensor:
    """A picture with two hands, 3×H×W in [-1, 1]."""
    return torch.from_numpy(clips["cut"][0].copy()).permute(2, 0, 1).float() / 127.5 - 1


def networks(frame, detector=None) -> Networks:
    """A tiny model whose basis knows the picture well."""
    sizes = fresh.Preset(144, (4, 4, 8, 8), 96, 16, 2, 1, 1, 16, 1, 50, 16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(fresh.PRESETS, "probe", sizes)
        parts = fresh.from_preset("probe", ["cut the carrot"])
    parts.vae.basis.fit(torch.stack([frame, frame.flip(-1)]))
    return Networks(
        backbone=parts.backbone(),
        vae=parts.vae.requires_grad_(False),
        text_encoder=parts.text_encoder,
        unet=parts.unet,
        area_unet=parts.area_unet,
        prior_mask=torch.full(frame.shape[1:], 0.5),
        detector=detector,
    )


def batch(frames: torch.Tensor, area: torch.Tensor, rois: torch.Tensor) -> Batch:
    """frames 3×F×H×W in [-1, 1], area H×W, rois 2×4: one clip."""
    count = frames.shape[1]
    pixels = ((frames + 1) * 127.5).round().to(torch.uint8)
    return Batch(
        names=["probe"],
        frames=pixels.permute(1, 2, 3, 0)[None],
        frame_index=torch.arange(count)[None],
        area=area[None],
        texts=["cut the carrot"],
        joints=torch.zeros(1, count, 42, 2),
        visible=torch.ones(1, count, 2, dtype=torch.bool),
        rois=rois.expand(1, count, 2, 4),
    )


def slope(loss, weights: torch.Tensor, direction: torch.Tensor, reach: float) -> float:
    """Central difference of a loss along a direction in the weights."""
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            weights += sign * reach * direction
            values.append(float(loss()))
            weights -= sign * reach * direction
    return (values[0] - values[1]) / (2 * reach)


def test_the_hand_loss_moves_stage_2(frame, detector, clips):
    """The true frame shows the hands 3 px further left than the network's."""
    model = networks(frame, detector)
    rois = detector.detect(clips["cut"][:1]).rois[0]
    moved = frame.roll(-3, dims=-1)
    rois[:, 0] -= 3
    given = batch(torch.stack([frame, moved], 1), torch.ones(frame.shape[1:]), rois)
    hand = HandLossRecipe(weight=1.0, frames=1, noise_limit=1e6, jitter=0)
    recipe = LossRecipe(hand=hand)

    def loss() -> torch.Tensor:
        return stage2_step(model, given, recipe, torch.Generator().manual_seed(0))["hand"]

    with torch.no_grad():  # a fresh output layer is zero, and lets no gradient through
        model.unet.residual.conv.weight.normal_(std=1e-4, generator=torch.Generator().manual_seed(0))
        for block in model.unet.mover.blocks:
            block.mlp[-1].weight.normal_(std=1e-2, generator=torch.Generator().manual_seed(1))
    loss().backward()
    reached = [name for name, p in model.unet.named_parameters() if p.grad is not None and p.grad.any()]
    assert {name.partition(".")[0] for name in reached} == {"reader", "mover", "residual"}

    # The difference is taken along a pattern added to every cell of the answer, in steps of less than a
    # level: further out the loss bends (docs/hand_loss.md).
    weights = model.unet.residual.conv.bias
    gradient = weights.grad.clone()
    direction = gradient / gradient.norm()
    pattern = model.vae.basis.to_pictures(direction[None, :, None, None])
    pattern = pattern - model.vae.basis.to_pictures(torch.zeros_like(direction)[None, :, None, None])
    level = 2 / 255 / float(pattern.square().mean().sqrt())
    found = [slope(loss, weights.data, direction, reach * level) for reach in (0.25, 0.3, 0.4)]
    assert np.mean(found) == pytest.approx(float(gradient.norm()), rel=0.3)


def test_the_area_loss_moves_stage_1(frame):
    model = networks(frame)
    area = torch.zeros(frame.shape[1:])
    area[40:90, 30:120] = 1
    given = batch(frame[:, None], area, torch.zeros(2, 4))

    def loss() -> torch.Tensor:
        return stage1_step(model, given, LossRecipe(miou=1.0), torch.Generator().manual_seed(0))["miou"]

    model.area_unet.zero_grad()
    loss().backward()
    weights = model.area_unet.residual.conv.bias
    gradient = weights.grad.clone()
    assert gradient.norm() > 1e-5
    assert slope(loss, weights.data, gradient / gradient.norm(), 1e-2) == pytest.approx(
        float(gradient.norm()), rel=0.05
    )
    assert all(p.grad is None for p in model.vae.parameters())
