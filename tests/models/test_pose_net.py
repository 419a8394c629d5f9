"""PoseNet: poses of every frame, the regression as its one-step case, pictures looked at once."""

from __future__ import annotations

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler

from handi.method import losses
from handi.method.diffusion import Betas
from handi.method.poses import present
from handi.models.finder import Finder
from handi.models.fresh import SCHEDULER
from handi.models.pose_net import PoseNet, centred, middles, predict_poses


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = PoseNet(
        latent_channels=4, cross_attention_dim=16, width=16, heads=2, depth=1, looks=2, hidden=32
    )
    torch.nn.init.normal_(network.leave[-1].weight, std=0.2)
    return network.eval()


@pytest.fixture(scope="module")
def finder():
    torch.manual_seed(1)
    return Finder(4, 16).eval()


def inputs(finder, clips=3, height=4, width=6):
    torch.manual_seed(2)
    context, text = torch.randn(clips, height, width, 4), torch.randn(clips, 5, 16)
    cells = finder.see(context)
    return context, cells, finder.answer(cells, text), text


@torch.no_grad()
def test_one_look_at_a_picture_answers_any_number_of_sentences(network, finder):
    context, cells, scores, text = inputs(finder)
    alone = network(context, cells, scores, text)
    assert alone.joints.shape == (3, 16, 42, 2)
    assert alone.presence_logits.shape == (3, 16, 2)
    order = [2, 0, 0]
    asked = network(context, cells, scores[order], text[order], picture=order)
    torch.testing.assert_close(asked.joints, alone.joints[order])
    torch.testing.assert_close(asked.start, alone.start[order])


@torch.no_grad()
def test_at_the_last_step_noise_says_nothing_and_before_it_the_poses_do(network, finder):
    given = inputs(finder)
    plain = network(*given).joints
    noisy = torch.randn(3, 16, 42, 2)
    assert torch.equal(network(*given, noisy=noisy, signal=torch.zeros(3)).joints, plain)
    assert not torch.allclose(network(*given, noisy=noisy, signal=torch.full((3,), 0.5)).joints, plain)


def sampled(network, finder, seeds, *, steps, frames=16):
    context, _, _, text = inputs(finder, len(seeds))
    process = Betas(DPMSolverMultistepScheduler.from_config(SCHEDULER))
    latents = context.permute(0, 3, 1, 2)[:, :, None]
    return predict_poses(network, finder, process, latents, text, seeds, frames=frames, steps=steps)


def test_one_step_is_the_regression_and_more_steps_ask_the_seed(network, finder):
    one = sampled(network, finder, [1, 2], steps=1)
    regression = network(*inputs(finder, 2)).poses().detach()
    torch.testing.assert_close(one, regression, atol=1e-3, rtol=0)  # 2⁻²⁴ of the signal's power is left
    torch.testing.assert_close(sampled(network, finder, [3, 4], steps=1), one, atol=1e-3, rtol=0)
    more = sampled(network, finder, [1, 2], steps=3)
    assert torch.equal(more, sampled(network, finder, [1, 2], steps=3))
    assert not torch.allclose(more, sampled(network, finder, [3, 4], steps=3), atol=1e-2)


def test_a_shorter_clip_is_the_beginning_and_a_longer_one_ends_still(network, finder):
    whole = sampled(network, finder, [1], steps=1)
    assert torch.equal(sampled(network, finder, [1], steps=1, frames=5), whole[:, :5])
    longer = sampled(network, finder, [1], steps=1, frames=18)
    assert torch.equal(longer[:, :16], whole)
    assert torch.equal(longer[:, 16:], whole[:, 15:].expand(-1, 2, -1, -1))


def test_cells_are_told_apart_by_where_they_are():
    grid = middles((2, 4), torch.zeros(1))
    assert grid[0].tolist() == [0.125, 0.25]
    assert grid[5].tolist() == [0.375, 0.75]


def test_a_hand_that_is_not_there_costs_nothing_but_its_presence():
    way = torch.rand(2, 3, 42, 2) + 0.1
    way[:, :, :21] = 0
    wrong = way.clone()
    wrong[:, :, :21] = 5.0
    sure = torch.tensor([-30.0, 30.0]).expand(2, 3, 2)
    terms = losses.pose_loss(wrong, sure, wrong[:, 0], way)
    assert sum(float(value) for value in terms.values()) < 1e-6
    assert float(losses.pose_loss(way, -sure, way[:, 0], way)["there"]) > 10
    off = losses.pose_loss(way + 0.1, sure, way[:, 0], way)
    assert float(off["_pose_error"]) == pytest.approx(0.1 * 2**0.5, rel=1e-4)
    assert float(off["way"]) > 1
    assert float(off["start"]) < 1e-6


def test_poses_are_zero_exactly_where_a_hand_is_said_to_be_absent(network, finder):
    guess = network(*inputs(finder))
    there = guess.presence_logits > 0
    assert there.any()
    assert not there.all()
    assert torch.equal(present(guess.poses()), there)
    assert centred(torch.full((2,), 0.5)).abs().max() == 0
