"""Every loss against its closed form. What needs the real hand detector: tests/hands/test_hand_loss.py."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from diffusers import DDPMScheduler
from torch.nn import functional as F

from handi.core.types import Hands
from handi.method import losses

KINDS = ("epsilon", "v_prediction", "sample")


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def levels() -> tuple[torch.Tensor, torch.Tensor]:
    """alpha and sigma at t = 0, 300, 700 and 999 of Stable Diffusion's schedule."""
    scheduler = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    bar = scheduler.alphas_cumprod[[0, 300, 700, 999]]
    return bar.sqrt(), (1 - bar).sqrt()


# ------------------------------------------------------------------------------------------ diffusion


@pytest.mark.parametrize("kind", KINDS)
def test_the_right_answer_of_each_kind_gives_x0_back(kind, levels):
    alpha, sigma = levels
    x0, noise = drawn(4, 3, 2, 4, 5), drawn(4, 3, 2, 4, 5, seed=1)
    x_t = alpha.view(-1, 1, 1, 1, 1) * x0 + sigma.view(-1, 1, 1, 1, 1) * noise
    target = losses.target_of(x0, noise, alpha, sigma, kind)
    found = losses.predict_x0(target, x_t, alpha, sigma, kind)
    torch.testing.assert_close(found, x0, atol=3e-5, rtol=1e-4)
    assert found.dtype == torch.float32


@pytest.mark.parametrize("kind", KINDS)
def test_targets_and_x0_are_those_of_diffusers(kind, levels):
    betas = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    scheduler = DDPMScheduler(**betas, prediction_type=kind, clip_sample=False)
    alpha, sigma = levels
    x0, noise = drawn(4, 3, 2, 4, 5), drawn(4, 3, 2, 4, 5, seed=1)
    t = torch.tensor([0, 300, 700, 999])
    x_t, answer = scheduler.add_noise(x0, noise, t), drawn(4, 3, 2, 4, 5, seed=2)
    if kind == "v_prediction":
        velocity = scheduler.get_velocity(x0, noise, t)
        torch.testing.assert_close(losses.target_of(x0, noise, alpha, sigma, kind), velocity)
    found = losses.predict_x0(answer, x_t, alpha, sigma, kind)
    for row in range(4):
        expected = scheduler.step(answer[row], int(t[row]), x_t[row]).pred_original_sample
        torch.testing.assert_close(found[row], expected, atol=2e-4, rtol=1e-4)


def test_x0_depends_on_the_network():
    """With the paper's ε for the predicted one its gradient would be zero."""
    answer = drawn(1, 1, 1, 2, 2).requires_grad_()
    losses.predict_x0(
        answer, drawn(1, 1, 1, 2, 2), torch.tensor([0.6]), torch.tensor([0.8]), "epsilon"
    ).sum().backward()
    torch.testing.assert_close(answer.grad, torch.full_like(answer, -0.8 / 0.6))


def test_half_precision_answers_become_float32_before_they_are_amplified():
    answer, x_t = drawn(1, 1, 1, 2, 2).bfloat16(), drawn(1, 1, 1, 2, 2)
    found = losses.predict_x0(answer, x_t, torch.tensor([0.1]), torch.tensor([0.99]), "epsilon")
    torch.testing.assert_close(found, (x_t - 0.99 * answer.float()) / 0.1)


@pytest.mark.parametrize("function", [losses.target_of, losses.predict_x0])
def test_another_kind_of_prediction_is_refused(function):
    with pytest.raises(ValueError, match="score"):
        function(drawn(1, 1, 1, 1, 1), drawn(1, 1, 1, 1, 1), torch.ones(1), torch.ones(1), "score")
    with pytest.raises(ValueError, match="score"):
        losses.snr_weight(torch.ones(1), torch.ones(1), "score", 5.0)


def test_flow_gives_x0_back_and_its_weight_is_that_of_x0():
    sigma = torch.tensor([0.0, 0.3, 0.9, 1.0])
    alpha, wide = 1 - sigma, sigma.view(-1, 1, 1, 1, 1)
    x0, noise = drawn(4, 2, 3, 2, 2), drawn(4, 2, 3, 2, 2, seed=1)
    x_t = (1 - wide) * x0 + wide * noise
    answer = losses.target_of(x0, noise, alpha, sigma, "flow")
    torch.testing.assert_close(losses.predict_x0(answer, x_t, alpha, sigma, "flow"), x0)
    # an error e of the answer is sigma·e of x0, which weighs min(SNR, γ)
    error = sigma.square() * losses.snr_weight(alpha, sigma, "sample", 5.0)
    torch.testing.assert_close(losses.snr_weight(alpha, sigma, "flow", 5.0), error)


def test_min_snr_weights_are_the_published_ones(levels):
    alpha, sigma = levels
    snr, gamma = (alpha / sigma) ** 2, 5.0
    least = snr.clamp(max=gamma)
    assert snr[0] > gamma > snr[-1]  # both branches are exercised
    for kind, expected in zip(KINDS, (least / snr, least / (snr + 1), least), strict=True):
        torch.testing.assert_close(
            losses.snr_weight(alpha, sigma, kind, gamma), expected, rtol=1e-4, atol=1e-6
        )
        assert (losses.snr_weight(alpha, sigma, kind, None) == 1).all()


def test_min_snr_is_one_weight_on_x0_whatever_the_kind(levels):
    """min(SNR, γ)·|x0 error|² in each kind: that is where the three formulae come from."""
    alpha, sigma = levels
    x_t, x0, wrong = drawn(4, 3, 2, 4, 5), drawn(4, 3, 2, 4, 5, seed=1), drawn(4, 3, 2, 4, 5, seed=2)
    a, s = alpha.view(-1, 1, 1, 1, 1), sigma.view(-1, 1, 1, 1, 1)
    expected = (alpha / sigma).square().clamp(max=5) * (wrong - x0).square().mean((1, 2, 3, 4))
    for kind in KINDS:
        truth, answer = (losses.target_of(x, (x_t - a * x) / s, alpha, sigma, kind) for x in (x0, wrong))
        weight = losses.snr_weight(alpha, sigma, kind, 5.0)
        each = weight * (answer - truth).square().mean((1, 2, 3, 4))
        torch.testing.assert_close(each, expected, rtol=2e-3, atol=1e-5)


def test_min_snr_at_the_ends_of_the_schedule():
    alpha, sigma = torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0])
    assert losses.snr_weight(alpha, sigma, "epsilon", 5.0).tolist() == [1, 0]
    assert losses.snr_weight(alpha, sigma, "v_prediction", 5.0).tolist() == [0, 0]
    assert losses.snr_weight(alpha, sigma, "sample", 5.0).tolist() == [0, 5]


def test_noise_level_weight_is_a_step_in_the_noise_per_signal(levels):
    alpha, sigma = levels
    gains = sigma / alpha
    assert gains[-1] == pytest.approx(14.6, abs=0.1)
    assert (
        losses.noise_level_weight(alpha, sigma, 2.0).tolist() == (gains <= 2).float().tolist() == [1, 1, 0, 0]
    )
    pure = losses.noise_level_weight(torch.zeros(1), torch.ones(1), 1e6)
    assert pure.tolist() == [0]


def test_the_noise_loss_is_the_mean_squared_error():
    answer, target = drawn(3, 4, 2, 5, 6), drawn(3, 4, 2, 5, 6, seed=1)
    assert losses.noise_loss(answer, target)["noise"] == pytest.approx(F.mse_loss(answer, target).item())
    weight = torch.tensor([1.0, 0.0, 0.5])
    each = (answer - target).square().mean((1, 2, 3, 4))
    expected = (each[0] + 0.5 * each[2]) / 3
    assert losses.noise_loss(answer, target, weight)["noise"].item() == pytest.approx(expected.item())


def test_the_noise_loss_in_an_area_counts_each_clip_alike_and_nothing_outside():
    answer, target = torch.zeros(3, 2, 2, 4, 4, requires_grad=True), torch.ones(3, 2, 2, 4, 4)
    mask = torch.zeros(3, 1, 1, 4, 4)
    mask[0, ..., 0, 0] = 1  # one cell; the second clip has twelve, the third none
    mask[1, ..., 1:, :] = 1
    loss = losses.noise_loss(answer, target, mask=mask)["noise"]
    assert loss.item() == pytest.approx(2 / 3)
    loss.backward()
    assert (answer.grad.expand_as(target)[mask.expand_as(target) == 0] == 0).all()
    per_clip = answer.grad.abs().sum((1, 2, 3, 4))
    torch.testing.assert_close(per_clip, torch.tensor([2 / 3, 2 / 3, 0]))


def test_the_motion_loss_compares_one_score_a_clip():
    still, moving = torch.zeros(1, 2, 3, 4, 4), torch.zeros(1, 2, 3, 4, 4)
    moving[:, 0, 1:] = 0.5  # one of two steps moves one channel by a half: its mean is a quarter
    assert losses.motion_loss(still, moving)["motion"].item() == pytest.approx((10 * 0.25) ** 2)
    assert losses.motion_loss(moving, moving.roll(1, dims=-1))["motion"] == 0


# ---------------------------------------------------------------------------------------- motion area


def test_soft_miou_of_binary_masks_is_the_ordinary_one():
    masks = [drawn(5, 8, 8, seed=seed) > 0 for seed in (0, 1)]
    masks[0][4], masks[1][4] = False, False  # both empty: they agree
    expected = [
        ((a & b).sum() / (a | b).sum()).item() if (a | b).any() else 1.0 for a, b in zip(*masks, strict=True)
    ]
    found = losses.soft_miou(masks[0].float(), masks[1])["miou"].item()
    assert found == pytest.approx(1 - sum(expected) / 5)
    assert losses.soft_miou(masks[0].float(), masks[0])["miou"].item() == pytest.approx(0, abs=1e-6)
    assert losses.soft_miou(masks[0].float()[:4], ~masks[0][:4])["miou"].item() == pytest.approx(1)


def test_soft_miou_pulls_every_pixel_towards_the_truth():
    truth = torch.zeros(1, 6, 6)
    truth[:, :3] = 1
    mask = torch.full((1, 6, 6), 0.5, dtype=torch.float64, requires_grad=True)
    losses.soft_miou(mask, truth)["miou"].backward()
    assert (mask.grad[:, :3] < 0).all()
    assert (mask.grad[:, 3:] > 0).all()
    # By hand: I = 9 and U = 18 + 18 - 9 = 27. A true pixel has dI = 1, dU = 0; another dI = 0, dU = 1.
    assert mask.grad[0, 0, 0].item() == pytest.approx(-1 / 27, rel=1e-5)
    assert mask.grad[0, 5, 0].item() == pytest.approx(9 / 27**2, rel=1e-5)


def test_grounding_asks_for_the_cells_of_what_is_meant():
    share = torch.zeros(3, 2, 4, 4)
    share[0, 0, 0, 0], share[0, 0, 0, 1] = 1, 1  # a thing on two cells
    share[1, 0, 3, 3] = 0.2  # a smaller one
    share[0, 1, 2] = 1  # a hand; the third clip means nothing
    blank = losses.grounding(torch.zeros(3, 2, 4, 4), share)
    # KL of an even guess over 16 cells: log(16 / cells of the truth), mean over the clips that have one.
    assert blank["things"].item() == pytest.approx((math.log(8) + math.log(16)) / 2, rel=1e-5)
    assert blank["hands"].item() == pytest.approx(math.log(4), rel=1e-5)
    sure = losses.grounding(40 * (share > 0), share)
    assert sure["things"].item() == pytest.approx(0, abs=1e-5)
    assert sure["hands"].item() == pytest.approx(0, abs=1e-5)
    scores = torch.zeros(3, 2, 4, 4, requires_grad=True)
    sum(losses.grounding(scores, share).values()).backward()
    assert (scores.grad[:2, 0][share[:2, 0] > 0] < 0).all()
    assert (scores.grad[:2, 0][share[:2, 0] == 0] > 0).all()
    assert not scores.grad[2].any()
    nothing = losses.grounding(scores, torch.zeros(3, 2, 4, 4))
    assert (nothing["things"].item(), nothing["hands"].item()) == (0, 0)


# ----------------------------------------------------------------------------------------------- hands

SIZE = (64, 128)  # H, W
SIDE = 32.0  # px of every region


def hands(frames: int = 2, seed: int = 0, *, logit: float = 8.0) -> Hands:
    """Two hands in each frame, all plainly visible."""
    joints = 0.25 + 0.5 * torch.rand(frames, 42, 2, generator=torch.Generator().manual_seed(seed))
    rois = torch.tensor([64.0, 32.0, SIDE, 0.3]).repeat(frames, 2, 1)
    logits = torch.full((frames, 2), logit)
    return Hands(joints, logits, torch.tensor([0.0, 1.0]).repeat(frames, 1), rois, logits > 0, SIZE, "test")


def moved(base: Hands, pixels: float, side: int | None = None) -> Hands:
    """The same hands, so many px further right; one side of them or both."""
    shift = torch.zeros(2, 21, 2)
    shift[slice(None) if side is None else side, :, 0] = pixels / SIZE[1]
    return replace(base, joints=base.joints + shift.view(42, 2))


def without(base: Hands, frame: int, side: int) -> Hands:
    """The same hands, but one that Υ does not see. `landmarks` leaves its joints as they are."""
    logits, visible = base.presence_logits.clone(), base.visible.clone()
    logits[frame, side], visible[frame, side] = -8.0, False
    return replace(base, presence_logits=logits, visible=visible)


@pytest.mark.parametrize("form", ["roi", "literal"])
def test_equal_hands_cost_nothing(form):
    found = losses.hand_refinement(hands(), hands(), form)
    assert found["hand"] == 0
    assert found["_hands"] == 4
    assert found["_presence"] == pytest.approx(1, abs=1e-3)
    assert found["_hand_error"] == 0


def test_roi_is_huber_in_sides_of_the_region():
    truth = hands()
    near, far = (losses.hand_refinement(moved(truth, px), truth, huber=0.1) for px in (1.6, 16.0))
    assert near["hand"].item() == pytest.approx(0.5 * (1.6 / SIDE) ** 2, rel=1e-4)
    assert far["hand"].item() == pytest.approx(0.1 * (16 / SIDE - 0.05), rel=1e-4)
    assert far["_hand_error"].item() == pytest.approx(16 / SIDE, rel=1e-4)
    larger = replace(truth, rois=truth.rois * torch.tensor([1, 1, 2, 1]))  # a hand of twice the size
    twice = losses.hand_refinement(moved(truth, 3.2), larger)["hand"]
    torch.testing.assert_close(twice, near["hand"], rtol=1e-4, atol=0)


def test_roi_weighs_by_generated_presence_without_rewarding_to_hide():
    truth = hands(1)
    read = moved(moved(truth, 1.6, side=0), 3.2, side=1)
    logits = torch.tensor([[math.log(0.6 / 0.4), math.log(0.9 / 0.1)]], requires_grad=True)
    joints = read.joints.clone().requires_grad_()
    found = losses.hand_refinement(replace(read, presence_logits=logits, joints=joints), truth)
    each = [0.5 * (px / SIDE) ** 2 for px in (1.6, 3.2)]
    assert found["hand"].item() == pytest.approx((0.6 * each[0] + 0.9 * each[1]) / 1.5, rel=1e-4)
    assert found["_presence"].item() == pytest.approx(0.75)
    found["hand"].backward()
    assert logits.grad is None
    assert joints.grad.any()


def test_roi_leaves_out_what_either_side_cannot_read():
    truth = hands()
    read = moved(moved(truth, 1.6, side=0), 9.6, side=1)
    alone = 0.5 * (1.6 / SIDE) ** 2
    for hidden in (
        (without(without(read, 0, 1), 1, 1), truth),
        (read, without(without(truth, 0, 1), 1, 1)),
    ):
        found = losses.hand_refinement(*hidden)
        assert found["hand"].item() == pytest.approx(alone, rel=1e-4)
        assert found["_hands"] == 2
    # Below the gate nothing counts, however small the sum that the loss is divided by.
    faint = replace(read, presence_logits=torch.full((2, 2), math.log(0.05 / 0.95)))
    assert losses.hand_refinement(faint, truth)["hand"] == 0
    assert losses.hand_refinement(faint, truth, readable=0.01)["hand"] > 0


@pytest.mark.parametrize("form", ["roi", "literal"])
def test_a_batch_without_hands_costs_nothing_and_pulls_nowhere(form):
    nothing = without(without(hands(1), 0, 0), 0, 1)
    for truth in (nothing, replace(nothing, rois=torch.zeros(1, 2, 4), joints=torch.zeros(1, 42, 2))):
        joints = moved(nothing, 5).joints.requires_grad_()
        found = losses.hand_refinement(replace(nothing, joints=joints), truth, form)
        assert found["hand"] == 0
        found["hand"].backward()
        assert (joints.grad == 0).all()
        assert found["_hands"] == 0
        assert found["_presence"].isnan()
        assert found["_hand_error"].isnan()


def test_roi_ties_hands_to_the_true_slots_whatever_their_label():
    truth = hands()
    collided = replace(truth, handedness=torch.ones(2, 2))
    assert losses.hand_refinement(collided, truth)["hand"] == 0
    swapped = replace(truth, joints=truth.joints.view(2, 2, 21, 2).flip(1).reshape(2, 42, 2))
    assert losses.hand_refinement(swapped, truth)["hand"] > 0


def test_literal_is_equation_2():
    truth, read = hands(), hands(seed=1)
    expected = (
        sum((read.joints[frame] - truth.joints[frame]).square().sum().item() / 42 for frame in range(2)) / 2
    )
    assert losses.hand_refinement(read, truth, "literal")["hand"].item() == pytest.approx(expected)


def test_literal_fills_missing_joints_with_zeros_on_either_side():
    truth = hands()
    corner = truth.joints[1, 21:].square().sum().item() / 42 / 2
    joints = truth.joints.clone().requires_grad_()
    missed = losses.hand_refinement(replace(without(truth, 1, 1), joints=joints), truth, "literal")
    assert missed["hand"].item() == pytest.approx(corner)
    missed["hand"].backward()
    assert (joints.grad == 0).all()  # nothing brings the hand back
    assert missed["_hands"] == 3
    extra = losses.hand_refinement(replace(truth, joints=joints), without(truth, 1, 1), "literal")
    assert extra["hand"].item() == pytest.approx(corner)
    extra["hand"].backward()
    assert (joints.grad[1, 21:] > 0).all()  # a hand that should not be there is pulled to the corner


@pytest.mark.parametrize("form", ["roi", "literal"])
def test_the_gradient_on_joints_is_that_of_finite_differences(form):
    truth = without(hands(2), 1, 0)
    read = without(hands(2, seed=1), 0, 1)
    logits = torch.tensor([[1.0, -2.0], [0.5, 3.0]])

    def value(joints: torch.Tensor) -> torch.Tensor:
        record = replace(read, joints=joints, presence_logits=logits.double())
        return losses.hand_refinement(record, truth, form, huber=0.3)["hand"]

    joints = read.joints.double().requires_grad_()
    assert torch.autograd.gradcheck(value, joints, eps=1e-6, atol=1e-7)
    value(joints).backward()
    assert joints.grad.any()


def test_records_of_other_frames_and_other_forms_are_refused():
    with pytest.raises(ValueError, match=r"of 2 frames .* and of 3"):
        losses.hand_refinement(hands(2), hands(3))
    with pytest.raises(ValueError, match="32"):
        losses.hand_refinement(replace(hands(), size=(32, 32)), hands())
    with pytest.raises(ValueError, match="l2"):
        losses.hand_refinement(hands(), hands(), "l2")


# -------------------------------------------------------------------------------------------- features


def with_features(base: Hands, *maps: torch.Tensor) -> Hands:
    return replace(base, features=maps)


def test_feature_distance_is_error_over_power_of_each_true_hand():
    truth = with_features(without(hands(1), 0, 1), drawn(2, 3, 4, 4), drawn(2, 5, 2, 2, seed=1))
    half = [m / 2 for m in truth.features]
    half[0][1] = 100  # of the hand that is not there
    found = losses.hand_refinement(with_features(hands(1), *half), truth, features=True)
    assert found["hand_features"].item() == pytest.approx(0.25)
    assert losses.hand_refinement(truth, truth, features=True)["hand_features"] == 0


def test_features_reach_hands_that_presence_gates_out():
    truth = with_features(hands(1), drawn(2, 3, 4, 4))
    mine, theirs = drawn(2, 3, 4, 4, seed=1).requires_grad_(), truth.features[0].requires_grad_()
    faint = without(without(hands(1), 0, 0), 0, 1)
    found = losses.hand_refinement(with_features(faint, mine), truth, features=True)
    assert found["hand"] == 0
    found["hand_features"].backward()
    assert mine.grad.any()
    assert theirs.grad is None


def test_features_must_be_of_the_same_regions():
    truth = with_features(hands(1), drawn(2, 3, 4, 4))
    fewer = replace(truth, rois=truth.rois * torch.tensor([1.0, 0.0])[None, :, None])
    with pytest.raises(ValueError, match="different regions"):
        losses.hand_refinement(fewer, truth, features=True)
    with pytest.raises(ValueError, match="without features"):
        losses.hand_refinement(hands(1), truth, features=True)
    empty = replace(hands(1), rois=torch.zeros(1, 2, 4))
    assert losses.hand_refinement(empty, empty, features=True)["hand_features"] == 0


# ---------------------------------------------------------------------------------------------- jitter


def test_jitter_stays_within_its_bounds_and_leaves_empty_slots():
    rois = torch.tensor([[64.0, 32.0, SIDE, 0.3], [0, 0, 0, 0]]).repeat(500, 1, 1)
    generator = torch.Generator().manual_seed(0)
    shaken = losses.jitter_rois(rois, generator, shift=0.1, scale=0.25, rotation=0.2)
    assert (shaken[:, 1] == 0).all()
    offset = (shaken - rois)[:, 0]
    assert 0.095 * SIDE < offset[:, :2].abs().max() <= 0.1 * SIDE
    assert 0.19 < offset[:, 3].abs().max() <= 0.2
    factor = shaken[:, 0, 2] / SIDE
    assert factor.min() >= 1 / 1.25 - 1e-6
    assert factor.max() <= 1.25 + 1e-6
    assert abs(factor.log().mean()) < 0.02
    assert abs(offset[:, 0].mean()) < 0.2
    again = losses.jitter_rois(rois, torch.Generator().manual_seed(0), shift=0.1, scale=0.25, rotation=0.2)
    assert shaken.equal(again)
    assert losses.jitter_rois(rois, generator, shift=0, scale=0, rotation=0).equal(rois)
