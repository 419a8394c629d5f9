"""What is trained is what is sampled: every argument that a network is called with, in both."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from helpers.tiny_training import SIZE, tiny_shards

from handi.data.dataset import PreparedClips
from handi.method import losses
from handi.method.latents import as_video
from handi.method.pipeline import HandiPipeline
from handi.models import fresh
from handi.models.fresh import random_checkpoint
from handi.models.parts import Checkpoint
from handi.training.batches import Batches, Sampling
from handi.training.module import STEPS
from handi.training.recipe import HandLossRecipe, LossRecipe
from handi.training.step import Networks

LAST = LossRecipe(pure_noise=1.0, miou=0.0, hand=HandLossRecipe(weight=0.0))  # t is always the last


@dataclass(frozen=True)
class Case:
    """A clip as training has it, and a model that has seen it."""

    stage: str
    parts: Checkpoint
    batch: Any  # of one clip
    frames: Any

    @property
    def network(self) -> Any:
        return self.parts.area_unet if self.stage == "stage1" else self.parts.unet


@pytest.fixture(scope="module")
def batches(tmp_path_factory):
    folder = tiny_shards(tmp_path_factory.mktemp("clips"), 2)
    return Batches(PreparedClips(folder), Sampling(), 0, shuffle=False)


@pytest.fixture(params=["HandiUNet", "LiteTransformer"])
def parts(request, batches) -> Checkpoint:
    if request.param == "HandiUNet":
        parts = random_checkpoint(size=SIZE)
    else:
        parts = fresh.from_preset("tiny", ["push the square 2"])
    # The mean of many areas that seldom meet: nowhere above one half.
    prior = torch.linspace(0, 0.47, SIZE)[:, None].expand(SIZE, SIZE).contiguous()
    return replace(parts, prior_mask=prior)


@pytest.fixture(params=["stage1", "stage2"])
def case(request, batches, parts) -> Case:
    batch = batches.at(0, 1)
    # The card's motion strength is what sampling uses; this card's is the clip's own.
    z = parts.backbone().encode(as_video(batch.frames))
    share = torch.nn.functional.interpolate(
        batch.area[:, None],
        z.shape[-2:],
        mode=parts.unet.mask_mode,
    )[:, :, None]
    inside = (share > 0 if parts.unet.mask_mode == "area" else share >= 0.5).float()
    motion = losses.motion_score(z[:, :, :1] * (1 - inside) + z * inside).item()
    assert motion > 0
    stages = {name: replace(getattr(parts.card, name), motion=motion) for name in ("stage1", "stage2")}
    parts = replace(parts, card=replace(parts.card, **stages))
    return Case(request.param, parts, batch, batch.frames[0].numpy())


def calls_of(network: Any, run: Any) -> list[dict[str, Any]]:
    """The arguments by name of every call of a network in `run`."""
    calls = []

    def record(module: Any, args: Any, kwargs: Any) -> None:
        names = ("sample", "timestep", "encoder_hidden_states")
        calls.append(dict(zip(names, args, strict=True)) | kwargs)

    hook = network.register_forward_pre_hook(record, with_kwargs=True)
    try:
        run()
    finally:
        hook.remove()
    return calls


def trained_with(case: Case) -> dict[str, Any]:
    parts = case.parts
    networks = Networks(
        parts.backbone(), parts.vae, parts.text_encoder, parts.unet, parts.area_unet, parts.prior_mask
    )
    generator = torch.Generator().manual_seed(0)
    (call,) = calls_of(case.network, lambda: STEPS[case.stage](networks, case.batch, LAST, generator))
    return call


def sampled_with(case: Case, guidance: float) -> dict[str, Any]:
    pipe = HandiPipeline.from_checkpoint(case.parts)
    pipe.set_progress_bar_config(disable=True)
    run = lambda: pipe(  # noqa: E731
        case.frames[0], case.batch.texts[0], height=SIZE, width=SIZE, output_type="latent",
        mask=None if case.stage == "stage1" else case.batch.area[0].numpy() > 0.5,
        num_inference_steps=1, guidance_scale=guidance, area_guidance_scale=guidance,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    return calls_of(case.network, run)[0]


def same(given: dict[str, Any], wanted: dict[str, Any]) -> None:
    """All arguments but the noise: the same names, shapes, kinds and values."""
    assert given.keys() == wanted.keys()
    for name, value in wanted.items():
        other = given[name]
        if value is None or other is None:
            assert value is other
            continue
        if name == "sample":
            assert (other.shape, other.dtype) == (value.shape, value.dtype)
            assert other.std().item() == pytest.approx(value.std().item(), rel=0.3)
            continue
        if name == "timestep":
            other = other.reshape(-1).expand(len(value))
        torch.testing.assert_close(
            other, value, rtol=1e-5, atol=1e-6, msg=lambda why, name=name: f"{name}: {why}"
        )


def test_a_training_step_and_a_sampling_step_give_a_network_the_same(case):
    wanted = trained_with(case)
    same(sampled_with(case, guidance=1.0), wanted)
    mask = wanted["mask"]
    if case.stage == "stage1":  # soft, not made binary: this prior would be nothing at all
        assert 0.3 < mask.max() <= 0.47
    if "motion_strength" in case.network.config:
        assert wanted["motion"].shape == (1,)
        assert (wanted["motion"] > 0).all()


def test_guidance_gives_its_other_branch_what_a_step_without_words_gives(case):
    both = sampled_with(case, guidance=3.0)
    halves = [
        {k: v if v is None or k == "timestep" else v.chunk(2)[n] for k, v in both.items()} for n in range(2)
    ]
    same(halves[0], trained_with(replace(case, batch=replace(case.batch, texts=[""]))))
    same(halves[1], trained_with(case))
