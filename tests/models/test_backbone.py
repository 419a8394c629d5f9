"""The protocol holds for a backbone unlike today's: the same steps train it, the same pipeline samples it."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from helpers.pairs_backbone import Mixer, Pairs

from handi.core.errors import InputError, ModelError
from handi.method.pipeline import HandiPipeline
from handi.models.backbone import Given
from handi.models.fresh import from_preset
from handi.models.parts import BACKBONES, ModelCard
from handi.training.batch import Batch
from handi.training.noise import Noised
from handi.training.recipe import HandLossRecipe, LossRecipe
from handi.training.step import Networks, sample_frames, stage1_step, stage2_step

SIZE, FRAMES = 32, 5


@pytest.fixture
def parts(monkeypatch):
    """A model of two Mixers, whose card names the backbone."""
    monkeypatch.setitem(BACKBONES, "pairs", Pairs)
    parts = from_preset("tiny", ["cut the carrot"])
    parts.vae.basis.fit(torch.rand(64, 3, SIZE, SIZE) * 2 - 1)
    torch.manual_seed(0)
    unet, area_unet = (Mixer(8, 16).eval() for _ in range(2))
    card = replace(parts.card, backbone="pairs", frames=FRAMES)
    scheduler = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}
    return replace(parts, unet=unet, area_unet=area_unet, card=card, scheduler_config=scheduler)


@pytest.fixture
def batch():
    rng = torch.Generator().manual_seed(1)
    area = torch.zeros(2, SIZE, SIZE)
    area[:, 8:20, 4:28] = 1
    return Batch(
        names=["a", "b"],
        frames=torch.randint(256, (2, FRAMES, SIZE, SIZE, 3), dtype=torch.uint8, generator=rng),
        frame_index=torch.arange(FRAMES).expand(2, -1),
        area=area,
        texts=["cut the carrot", ""],
        joints=torch.rand(2, FRAMES, 42, 2, generator=rng),
        visible=torch.ones(2, FRAMES, 2, dtype=torch.bool),
        rois=torch.tensor([16.0, 16.0, 20.0, 0.0]).expand(2, FRAMES, 2, 4),
    )


def networks_of(parts):
    return Networks(
        parts.backbone(),
        parts.vae,
        parts.text_encoder,
        parts.unet,
        parts.area_unet,
        parts.prior_mask,
    )


def test_both_stages_train_and_known_cells_bear_no_loss(parts, batch):
    networks, loss = networks_of(parts), LossRecipe(miou_noise_limit=None, hand=HandLossRecipe(weight=0))
    for step, network in ((stage1_step, parts.area_unet), (stage2_step, parts.unet)):
        terms = step(networks, batch, loss, torch.Generator().manual_seed(0))
        assert {"noise"} <= terms.keys()
        sum(term for name, term in terms.items() if not name.startswith("_")).backward()
        assert all(bool(p.grad.any()) for p in network.parameters())
    backbone = networks.backbone
    given = Given(backbone.encode(torch.rand(2, 3, FRAMES, SIZE, SIZE)), batch.frame_index)
    layout = backbone.clip(parts.unet, given, batch.area)
    assert layout.z.shape[2] == 3
    assert not layout.free[:, :, 0].any()
    noisy = Noised(backbone.process, layout.z, loss, torch.Generator().manual_seed(0))
    wrong_where_known = noisy.noise - layout.z + 7 * (1 - layout.free)
    assert noisy.loss(wrong_where_known, layout.free)["noise"] == 0


def test_the_hand_loss_draws_whole_chunks_and_its_gradient_reaches_them_alone(parts):
    candidates = torch.ones(2, FRAMES, dtype=torch.bool)
    candidates[:, 0] = False
    clips, frames = sample_frames(candidates, 2, 2, torch.Generator().manual_seed(0))
    assert len(set(clips.tolist())) == 1
    assert frames.tolist() in ([1, 2], [3, 4])
    z = torch.randn(2, 8, 3, 4, 4, requires_grad=True)
    parts.backbone().frames(z, clips, frames).square().sum().backward()
    reached = z.grad.flatten(3).any(-1).any(1)  # B×f
    assert reached.nonzero().tolist() == [[int(clips[0]), (int(frames[0]) + 1) // 2]]


@torch.no_grad()
def test_chosen_frames_are_those_of_the_whole_clip(parts):
    backbone = parts.backbone()
    z = torch.randn(2, 8, 3, 4, 4)
    clips, frames = torch.tensor([1, 0, 1, 1]), torch.tensor([4, 0, 1, 3])
    whole = backbone.decode(z)
    torch.testing.assert_close(backbone.frames(z, clips, frames), whole[clips, :, frames])


def test_the_pipeline_samples_both_stages_and_keeps_what_is_known(parts):
    pipe = HandiPipeline.from_checkpoint(parts)
    pipe.set_progress_bar_config(disable=True)
    picture = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    mask = np.zeros((SIZE, SIZE), bool)
    mask[8:16, 8:24] = True
    options = {"guidance_scale": 2.0, "height": SIZE, "width": SIZE}
    z = pipe(picture, "cut", mask=mask, output_type="latent", **options).frames
    still = pipe.encode_images(picture[None]).expand_as(z)
    assert torch.equal(z[:, :, 0], still[:, :, 0])
    assert torch.equal(z[..., :1, :], still[..., :1, :])
    assert not torch.equal(z[:, :, 1:, 1, 1:3], still[:, :, 1:, 1, 1:3])
    output = pipe(picture, "cut", area_guidance_scale=1.5, **options)
    assert output.frames.shape == (1, FRAMES, SIZE, SIZE, 3)
    assert output.motion_area_soft.shape == (1, SIZE, SIZE)
    with pytest.raises(InputError, match="4 frames; use 3 or 5"):
        pipe(picture, "cut", num_frames=4, **options)


def test_a_card_names_its_backbone_and_an_unknown_one_is_refused(parts, tmp_path):
    text = json.dumps(asdict(parts.card))
    assert ModelCard.from_json(text, tmp_path) == parts.card
    with pytest.raises(ModelError, match="backbone"):
        ModelCard.from_json(text.replace('"pairs"', '"unheard"'), tmp_path)
