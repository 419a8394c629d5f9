"""The flow by which bones carry a picture, and where flesh is."""

from __future__ import annotations

import math

import pytest
import torch

from handi.losses import joint_transport
from handi.models.skeleton import ELBOW, LIMBS, POINTS, JointReader, Skeletons, carry, nearness

SIZE, GRID = (128, 128), (64, 64)


@pytest.fixture
def start() -> torch.Tensor:
    """Two hands of 40 px, 1×2×22×2."""
    rest = JointReader(8, 8).rest
    return (rest * 128)[None]


def moved(start: torch.Tensor, joints: torch.Tensor) -> torch.Tensor:
    """The flow 2×2×64×64 of one frame."""
    skeletons = Skeletons(start, joints[:, None], torch.zeros(1, 2))
    return carry(skeletons, SIZE, GRID)[0, 0]


def places() -> torch.Tensor:
    """2×64×64 px."""
    at = torch.arange(64) * 2.0 + 1
    return torch.stack(torch.meshgrid(at, at, indexing="xy"))


def test_joints_that_stay_carry_nothing(start):
    assert not moved(start, start.clone()).any()


def test_a_rigid_motion_of_all_joints_is_the_flow_of_all_places(start):
    turn, shift = math.radians(25), torch.tensor([7.0, -4.0])
    rotation = torch.tensor([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    big = start * 20  # bones so long that none points nowhere
    joints = big @ rotation.T + shift
    skeletons = Skeletons(big, joints[:, None], torch.zeros(1, 2))
    flow = carry(skeletons, (2560, 2560), GRID)[0, 0]
    at = places() * 20
    back = torch.einsum("ji,jhw->ihw", rotation, at - shift[:, None, None])  # where each place came from
    torch.testing.assert_close(flow, (back - at).expand_as(flow), atol=1.0, rtol=0)


def test_a_bent_finger_shows_what_it_showed_before(start):
    """A place half way along a bone that turned comes from half way along it in the context image."""
    joints = start.clone()
    pip, tip = 6, 7
    span = start[0, 0, tip] - start[0, 0, pip]
    joints[0, 0, tip] = joints[0, 0, pip] + torch.stack([-span[1], span[0]])  # by a right angle
    half = (joints[0, 0, pip] + joints[0, 0, tip]) / 2
    flow = moved(start, joints)[0]
    sampled = torch.nn.functional.grid_sample(
        flow[None], (half / 64 - 1).view(1, 1, 1, 2), align_corners=False
    )
    wanted = (start[0, 0, pip] + start[0, 0, tip]) / 2 - half
    torch.testing.assert_close(sampled.flatten(), wanted, atol=1.0, rtol=0)
    assert not moved(start, joints)[1].any()  # the other hand


def test_the_gradient_reaches_every_joint(start):
    joints = (start + torch.randn(start.shape, generator=torch.Generator().manual_seed(0))).requires_grad_()
    moved(start, joints).square().sum().backward()
    assert joints.grad is not None
    assert (joints.grad.abs().sum(-1) > 0).all()
    folded = torch.zeros(1, 2, POINTS, 2, requires_grad=True)  # all joints in one place
    moved(start, folded).sum().backward()
    assert torch.isfinite(folded.grad).all()


def test_flesh_is_on_the_bones_and_nowhere_else(start):
    near = nearness(start, SIZE, (128, 128))[0]
    for hand in range(2):
        for first, second in LIMBS:
            middle = ((start[0, hand, first] + start[0, hand, second]) / 2).floor().long()
            if (middle >= 0).all() and (middle < 128).all():
                assert near[hand, middle[1], middle[0]] > 0.5
    assert near[:, 0].max() < 0


def test_the_joint_loss_is_zero_for_the_truth_and_counts_hands_that_are_there(start):
    truth = torch.zeros(1, 3, 42, 2)
    truth[..., :21, :] = ((start[:, :1, :ELBOW] - 0.5) / 128).expand(1, 3, -1, -1)  # the left hand only
    joints = start[:, None].expand(-1, 3, -1, -1, -1).clone()
    presence = torch.tensor([[20.0, -20.0]])
    exact, whole = joint_transport(joints, start, presence, truth, SIZE)
    assert float(exact) < 1e-9
    assert float(whole) < 1e-6
    joints[:, 1, 0, :, 0] += 16  # Huber at two units: 1.5, in one of three frames
    joints[:, :, 1] += 100  # of a hand that is not there
    away, _ = joint_transport(joints, start, presence, truth, SIZE)
    assert float(away) == pytest.approx(0.5)
    _, unseen = joint_transport(joints, start, -presence, truth, SIZE)
    assert float(unseen) == pytest.approx(20, rel=1e-3)
