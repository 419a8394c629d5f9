"""Eq. 6 as printed: the overlap of each frame's mask, its mean over L; the union or each frame's own mask."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.tiny_training import SIZE, tiny_shards

from handi.core.errors import InputError
from handi.data.dataset import PreparedClips
from handi.method.area import hull_masks
from handi.method.pipeline import HandiPipeline
from handi.models.fresh import random_checkpoint
from handi.training import setup, step
from handi.training.batches import Batches, Sampling
from handi.training.recipe import LossRecipe, parse_recipe

ALPHA = 0.1


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return tiny_shards(tmp_path_factory.mktemp("clips"), 0, 1)


@pytest.fixture(scope="module")
def networks():
    parts = random_checkpoint(size=SIZE)
    return step.Networks(
        parts.backbone(), parts.vae, parts.text_encoder, parts.unet, parts.area_unet, parts.prior_mask
    )


@pytest.fixture
def batch(world):
    """Two clips of four frames with each frame's own masks, which are smaller than their union."""
    batch = Batches(PreparedClips(world), Sampling(frames=4), 0, shuffle=False).at(0, 2)
    areas = np.stack([hull_masks(joints, SIZE, SIZE) for joints in batch.joints.numpy()])
    return replace(
        batch, frame_areas=torch.from_numpy(areas).float(), area=torch.from_numpy(areas.any(1)).float()
    )


@pytest.fixture
def answers(monkeypatch, networks):
    """Masks B×F×H×W in [0, 1] that the network's answer decodes to, and latents that it learns, by name."""
    drawn = torch.rand(2, 4, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    seen = {"masks": drawn}
    noised = step.Noised

    class Known(noised):
        def __init__(self, process, z, recipe, generator):
            super().__init__(process, z, recipe, generator)
            seen["z"] = z

        def x0(self, prediction):
            """Latents that name their clip and frame."""
            clips, frames = self.z.shape[0], self.z.shape[2]
            number = torch.arange(clips)[:, None] * frames + torch.arange(frames)
            return number[:, None, :, None, None].expand(self.z.shape).float()

    def masks(latents, frames):
        flat = drawn.flatten(0, 1)[latents[:, 0, frames, 0, 0].long()]
        return (2 * flat - 1)[:, None].expand(-1, 3, -1, -1, -1)

    monkeypatch.setattr(step, "Noised", Known)
    monkeypatch.setattr(networks.backbone, "masks", masks)
    return seen


def miou_of(networks, batch, seed=0, **entries):
    loss = LossRecipe(**{"miou": ALPHA, **entries})
    terms = step.stage1_step(networks, batch, loss, torch.Generator().manual_seed(seed))
    return terms["miou"].item() if "miou" in terms else None


def overlaps(masks, truth):
    """IoU of soft masks, B×F."""
    both = (masks * truth).sum((2, 3))
    return both / ((masks + truth).sum((2, 3)) - both)


@pytest.mark.parametrize("target", ["union", "per_frame"])
def test_the_overlap_is_taken_frame_by_frame(networks, batch, answers, target):
    truth = batch.frame_areas if target == "per_frame" else batch.area[:, None].expand(-1, 4, -1, -1)
    batch = batch if target == "per_frame" else replace(batch, frame_areas=None)
    each = overlaps(answers["masks"], truth)[:, 1:]  # the context image's frame is none of the L
    assert miou_of(networks, batch) == pytest.approx(ALPHA * (1 - each.mean().item()), rel=1e-4)
    z = answers["z"]
    expected = networks.backbone.encode((2 * truth - 1)[:, None].expand(-1, 3, -1, -1, -1))
    torch.testing.assert_close(z, expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(z[:, :, 1], z[:, :, 3]) == (target == "union")
    # A few of the frames, drawn anew in every step: the mean is the same.
    single = [ALPHA * (1 - one) for one in each.mean(0).tolist()]
    found = {min(single, key=lambda one: abs(one - value)) for value in
             (miou_of(networks, batch, seed, miou_frames=1) for seed in range(12))}  # fmt: skip
    assert found == set(single)


def test_where_the_noise_is_too_strong_there_is_no_overlap(networks, batch, answers):
    assert miou_of(networks, batch, pure_noise=1.0, miou_noise_limit=5.0) is None
    assert miou_of(networks, batch, pure_noise=1.0) is not None
    # Of Stable Diffusion's betas the limit of the full-size recipes is near t = 790.
    alpha, sigma = networks.backbone.process.levels(torch.tensor([780, 800]))
    assert (sigma / alpha)[0] < 5 < (sigma / alpha)[1]


def test_what_has_no_masks_of_frames_is_refused(world, tmp_path):
    recipe = {
        "stage": "stage1",
        "model": {"preset": "tiny"},
        "data": {"path": str(world), "target": "per_frame"},
    }
    with pytest.raises(InputError, match="not known frame by frame; use areas that are hulls"):
        setup.open_data(parse_recipe(recipe))
    with pytest.raises(InputError, match="it is what stage 1 learns"):
        parse_recipe({**recipe, "stage": "stage2"})
    model = tmp_path / "model"
    HandiPipeline.from_checkpoint(setup.fresh.from_preset("tiny", ["cut"])).save_pretrained(model)
    lean = parse_recipe({**recipe, "model": {"init": str(model)}})
    with pytest.raises(InputError, match="makes one mask per clip"):
        setup.open_model(lean, tmp_path)
