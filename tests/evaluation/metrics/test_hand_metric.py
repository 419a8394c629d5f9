"""HS-Err on joints made by hand, for which the numbers can be worked out on paper."""

from __future__ import annotations

import numpy as np
import pytest

from handi.evaluation.metrics.hand import hand_rate, literal_error, matched_error


def joints(*frames: dict[str, float]) -> np.ndarray:
    """L×42×2: each frame names its hands and the place of all 21 joints of each (x = y)."""
    made = np.zeros((len(frames), 2, 21, 2), np.float32)
    for frame, hands in zip(made, frames, strict=True):
        for side, place in hands.items():
            frame[("left", "right").index(side)] = place
    return made.reshape(len(frames), 42, 2)


BOTH = {"left": 0.25, "right": 0.75}


def test_the_truth_has_no_error_and_all_hands():
    true = joints(BOTH, BOTH)
    assert literal_error(true, true) == 0
    assert matched_error(true, true) == (0, 1)
    assert hand_rate(true) == 1


def test_eq_2_by_hand():
    # Both hands off by 0.1 in x and y in one frame of two: 0.02 a joint, 42 joints / J = 42, 0.02 / L = 2.
    true, made = joints(BOTH, BOTH), joints({"left": 0.35, "right": 0.85}, BOTH)
    assert literal_error(made, true) == pytest.approx(0.01, rel=1e-5)
    assert matched_error(made, true) == (pytest.approx(0.01, rel=1e-5), 1)
    # One hand of two: 21 of 42 joints.
    made = joints({"left": 0.35, "right": 0.75}, BOTH)
    assert literal_error(made, true) == pytest.approx(0.005, rel=1e-5)


def test_a_missing_hand_costs_its_distance_from_the_corner_or_nothing():
    true, made = joints(BOTH), joints({"left": 0.25})
    assert literal_error(made, true) == pytest.approx(21 / 42 * 2 * 0.75**2, rel=1e-5)  # 0.5625
    error, share = matched_error(made, true)
    assert error == 0
    assert share == 0.5
    # A hand too many costs the literal error as much, the matched one nothing.
    assert literal_error(true, made) == pytest.approx(literal_error(made, true))
    assert matched_error(true, made) == (0, 1)


def test_swapped_labels_are_no_wrong_hands():
    true, made = joints(BOTH), joints({"left": 0.75, "right": 0.25})
    assert literal_error(made, true) == pytest.approx(2 * 0.5**2)
    assert matched_error(made, true) == (0, 1)
    # The single hand of a frame takes the nearer of two.
    assert matched_error(joints({"left": 0.7}), true)[0] == pytest.approx(2 * 0.05**2, rel=1e-4)


def test_nothing_to_pair_is_not_zero():
    nothing, true = joints({}, {}), joints(BOTH, {})
    error, share = matched_error(nothing, true)
    assert np.isnan(error)
    assert share == 0
    assert all(np.isnan(value) for value in matched_error(true, nothing))
    assert literal_error(nothing, nothing) == 0
    assert hand_rate(true) == 0.5
    assert hand_rate(nothing) == 0
