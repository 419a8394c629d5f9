"""The judges give the known answer on known cases."""

from __future__ import annotations

import numpy as np
import pytest

from handi.core.errors import InputError
from handi.world.judges import same_context, state_change


@pytest.fixture
def truth():
    clip = np.full((4, 8, 8, 3), 100, np.uint8)
    clip[1:, 2:4] = 150
    clip[2:, 2:6] = 200
    return clip


def test_state_change_knows_truth_stillness_and_half(truth):
    assert state_change(truth, truth) == 1
    assert state_change(np.repeat(truth[:1], 4, 0), truth) == 0
    half = np.repeat(truth[:1], 4, 0)
    half[-1, 2:4] = 190
    assert state_change(half, truth) == 0.5
    grey = np.repeat(truth[:1], 4, 0)
    grey[-1, 2:6] = 150  # as near to the one as to the other
    assert state_change(grey, truth) == 0.5


def test_state_change_ignores_what_does_not_change(truth):
    elsewhere = truth.copy()
    elsewhere[:, 7] = 0
    assert state_change(elsewhere, truth) == 1


def test_state_change_allows_other_frame_counts_but_not_sizes(truth):
    assert state_change(truth[::3], truth) == 1
    with pytest.raises(InputError, match="4×4"):
        state_change(truth[:, :4, :4], truth)
    with pytest.raises(InputError, match="nothing to judge"):
        state_change(truth, np.repeat(truth[:1], 4, 0))
    with pytest.raises(InputError, match="uint8"):
        state_change(truth.astype(np.float32), truth)


def test_same_context_counts_the_right_ones(truth):
    other = truth.copy()
    other[1:, 2:6] = 20
    third = truth.copy()
    third[1:, 6:] = 20
    clips = [truth, other, third]
    assert same_context(clips, clips) == 1
    assert same_context([other, truth, third], clips) == pytest.approx(1 / 3)
    assert same_context([truth] * 3, clips) == pytest.approx(1 / 3)  # deaf to the prompt: chance


def test_same_context_shares_ties(truth):
    other = truth.copy()
    other[1:, 2:6] = 20
    middle = ((truth.astype(int) + other) // 2).astype(np.uint8)
    assert same_context([middle, middle], [truth, other]) == pytest.approx(0.5)


def test_same_context_refuses_what_it_cannot_compare(truth):
    with pytest.raises(InputError, match="2 generated clips for 1"):
        same_context([truth, truth], [truth])
    with pytest.raises(InputError, match="lengths"):
        same_context([truth, truth[:2]], [truth, truth])
