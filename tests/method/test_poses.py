"""Pose maps: hands where they are, none where there is none, the same alone and in a batch."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch

from handi.method.poses import FINGERS, MAPS, PALM, pose_maps, present


def hand(x: float = 0.3, y: float = 0.7, size: float = 0.3) -> torch.Tensor:
    """21 joints: an open hand that points upwards, its wrist at x, y."""
    joints = torch.zeros(21, 2)
    joints[0] = torch.tensor([x, y])
    for finger, line in enumerate(FINGERS):
        for step, joint in enumerate(line[1:] if line[0] == 0 else line):
            reach = size * (0.4 + 0.2 * step)
            joints[joint] = torch.tensor([x + (finger - 2) * 0.2 * size, y - reach])
    return joints


def both(left: torch.Tensor | None = None, right: torch.Tensor | None = None) -> torch.Tensor:
    nothing = torch.zeros(21, 2)
    return torch.cat([nothing if left is None else left, nothing if right is None else right])


def test_a_map_shows_each_finger_on_its_bones_and_nowhere_else():
    joints = hand()
    maps = pose_maps(both(left=joints), (64, 64))
    assert maps.shape == (MAPS, 64, 64)
    for channel, finger in enumerate(FINGERS, 1):
        for start, end in pairwise(finger):
            across, down = (64 * (joints[start] + joints[end]) / 2).long().tolist()
            assert maps[channel, down, across] > 0.4
        rows, columns = torch.nonzero(maps[channel], as_tuple=True)
        far = torch.stack([columns, rows], -1)[:, None] + 0.5 - 64 * joints[list(finger)][None]
        assert far.norm(dim=-1).min(1).values.max() < 64 * 0.3  # no pixel is far from every joint
    middle = 64 * joints[list(PALM)].mean(0)
    assert maps[0, int(middle[1]), int(middle[0])] == 1


def test_a_hand_that_is_not_there_leaves_its_channels_empty():
    joints = torch.stack([both(), both(left=hand()), both(right=hand())])
    assert present(joints).tolist() == [[False, False], [True, False], [False, True]]
    maps = pose_maps(joints, (32, 32))
    assert maps.flatten(2).any(-1).view(3, 2, 6).all(-1).tolist() == present(joints).tolist()
    assert torch.equal(maps[1, :6], maps[2, 6:])


def test_maps_follow_the_joints_and_are_the_same_in_a_batch():
    joints = torch.stack([both(hand(0.3), hand(0.6, 0.5)), both(hand(0.3 + 8 / 64), hand(0.6 + 8 / 64, 0.5))])
    maps = pose_maps(joints, (64, 64))
    np.testing.assert_allclose(maps[1, :, :, 8:], maps[0, :, :, :-8], atol=1e-5)
    assert torch.equal(pose_maps(joints[1], (64, 64)), maps[1])


def test_a_hand_outside_the_picture_or_folded_to_a_point_gives_finite_maps():
    for joints in (hand(3.0), hand(-2.0, 5.0), hand(size=0.0)):
        maps = pose_maps(both(left=joints), (32, 32))
        assert maps.isfinite().all()
    assert not pose_maps(both(left=hand(3.0)), (32, 32)).any()
