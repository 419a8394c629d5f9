"""The Hand Refinement Loss through the real detector: from joints down to pixels."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from handi.core.types import Hands
from handi.method.losses import hand_refinement, jitter_rois, read_hands


@pytest.fixture(scope="module")
def frames(clips) -> torch.Tensor:
    """One frame with two hands, 1×3×H×W in [-1, 1]."""
    return torch.from_numpy(clips["cut"][:1].copy()).permute(0, 3, 1, 2).float() / 127.5 - 1


@pytest.fixture(scope="module")
def rois(detector, clips) -> torch.Tensor:
    return detector.detect(clips["cut"][:1]).rois


@pytest.fixture(scope="module")
def shifted(frames) -> torch.Tensor:
    """What a network might have made of it: the same picture, 3 px off."""
    return frames.roll(3, dims=-1)


@pytest.mark.parametrize("form", ["roi", "literal"])
def test_the_true_frame_itself_costs_nothing(detector, frames, rois, form):
    found = hand_refinement(*read_hands(detector, frames, frames, rois, form=form), form)
    assert found["_hands"] == 2
    assert found["hand"] < 1e-6


@pytest.mark.parametrize("form", ["roi", "literal"])
def test_the_gradient_on_pixels_is_that_of_finite_differences(detector, clips, form):
    """Along the gradient smoothed over 5 px, by 0.6 levels: single pixels drown in the crop's 8 bits, and at
    2.5 levels ReLU's kinks have bent the loss away already."""
    ratios = []
    for picture in clips["cut"]:
        frame = torch.from_numpy(picture[None].copy()).permute(0, 3, 1, 2).float() / 127.5 - 1
        leaf = frame.roll(3, dims=-1).requires_grad_()
        first, truth = read_hands(detector, leaf, frame, detector.detect(picture[None]).rois, form=form)
        hand_refinement(first, truth, form)["hand"].backward()
        assert leaf.grad.isfinite().all()
        uphill = torch.nn.functional.avg_pool2d(leaf.grad, 5, 1, 2)
        uphill = 0.005 * uphill / uphill.abs().max()

        def value(pixels: torch.Tensor, first: Hands = first, truth: Hands = truth) -> float:
            """The loss with regions and weights held: what Υ finds and how sure it is have no gradient."""
            read = detector.landmarks((pixels / 2 + 0.5).clamp(0, 1), first.rois)
            read = replace(read, presence_logits=first.presence_logits.detach(), visible=first.visible)
            return hand_refinement(read, truth, form)["hand"].item()

        with torch.no_grad():
            difference = value(leaf + uphill) - value(leaf - uphill)
        ratios.append(difference / (2 * (leaf.grad * uphill).sum().item()))
    assert ratios == pytest.approx([1] * 4, abs=0.2)
    assert sum(ratios) / 4 == pytest.approx(1, abs=0.1)


def test_only_the_generated_side_and_only_its_regions_get_a_gradient(detector, frames, shifted, rois):
    one = rois.clone()
    one[:, 1] = 0
    leaf, true = shifted.clone().requires_grad_(), frames.clone().requires_grad_()
    found = hand_refinement(*read_hands(detector, leaf, true, one, features=True), features=True)
    (found["hand"] + found["hand_features"]).backward()
    assert true.grad is None
    x, y, side = one[0, 0, :3].round().int().tolist()
    reach = int(0.75 * side) + 2  # half the diagonal of a rotated square
    outside = torch.ones_like(leaf, dtype=torch.bool)
    outside[..., max(0, y - reach) : y + reach, max(0, x - reach) : x + reach] = False
    assert outside.any()
    assert (leaf.grad[outside] == 0).all()
    assert leaf.grad.any()


def test_jittered_regions_read_the_same_hands(detector, frames, rois):
    shaken = jitter_rois(rois, torch.Generator().manual_seed(0))
    still, truth = detector.landmarks(frames / 2 + 0.5, shaken), detector.landmarks(frames / 2 + 0.5, rois)
    assert still.visible.equal(truth.visible)
    assert hand_refinement(still, truth)["_hand_error"] < 0.06
    assert hand_refinement(*read_hands(detector, frames, frames, shaken))["hand"] < 1e-6


def test_grey_frames_are_gated_out(detector, frames, rois):
    grey = torch.zeros_like(frames).requires_grad_()
    read, truth = read_hands(detector, grey, frames, rois, features=True)
    found = hand_refinement(read, truth, features=True)
    assert found["_presence"] < 0.1
    assert found["hand"] == 0
    found["hand"].backward(retain_graph=True)
    assert (grey.grad == 0).all()
    found["hand_features"].backward()
    assert grey.grad.any()


def test_literal_has_no_gradient_where_nothing_is_detected(detector, frames, rois):
    grey = torch.zeros_like(frames).requires_grad_()
    found = hand_refinement(*read_hands(detector, grey, frames, rois, form="literal"), "literal")
    assert found["hand"] > 0.1
    assert not found["hand"].requires_grad
