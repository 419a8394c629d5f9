from __future__ import annotations

import math

import numpy as np
import pytest

from handi.hands.regions import (
    ANCHORS,
    F32,
    WHOLE_FRAME,
    Palm,
    Region,
    associate,
    find_palms,
    palm_region,
    project,
    tracked_region,
)

HEIGHT, WIDTH = 256, 448


def region(x: float, y: float, size: float, rotation: float = 0.0) -> Region:
    """From px."""
    return Region(F32(x / WIDTH), F32(y / HEIGHT), F32(size / WIDTH), F32(size / HEIGHT), F32(rotation))


def network_output(palms: list[tuple]) -> tuple[np.ndarray, np.ndarray]:
    """Palms as (anchor, score, (x, y, width, height) in px of the 192 px picture)."""
    boxes, logits = np.zeros((2016, 18), np.float32), np.full(2016, -20, np.float32)
    for anchor, score, (x, y, width, height) in palms:
        logits[anchor] = math.log(score / (1 - score))
        offset = np.array([x, y]) - ANCHORS[anchor] * 192
        boxes[anchor, :4] = (*offset, width, height)
        boxes[anchor, 4:] = np.tile(offset, 7)
    return boxes, logits


def test_a_palm_is_decoded_into_the_frame():
    (palm,) = find_palms(*network_output([(500, 0.9, (96, 96, 24, 48))]), HEIGHT, WIDTH, 0.5)
    assert palm.score == pytest.approx(0.9, abs=1e-6)
    side = 448 / 192  # px of the frame in a px of the network's picture
    np.testing.assert_allclose(palm.box[2:] * (WIDTH, HEIGHT), (24 * side, 48 * side), rtol=1e-5)
    np.testing.assert_allclose(palm.points, np.full((7, 2), 0.5), atol=1e-6)


def test_overlapping_palms_are_blended_by_their_scores():
    output = network_output(
        [(500, 0.9, (96, 96, 40, 40)), (502, 0.6, (100, 96, 40, 40)), (10, 0.7, (30, 90, 40, 40))]
    )
    first, second = find_palms(*output, HEIGHT, WIDTH, 0.5)
    assert (first.score, second.score) == (pytest.approx(0.9), pytest.approx(0.7))
    assert first.points[0, 0] * 192 == pytest.approx((96 * 0.9 + 100 * 0.6) / 1.5, abs=1e-3)


def test_at_most_two_palms_above_the_confidence():
    palms = [(10 * n, 0.5 + 0.1 * n, (20 + 45 * n, 96, 20, 20)) for n in range(4)]
    assert [round(p.score, 1) for p in find_palms(*network_output(palms), HEIGHT, WIDTH, 0.55)] == [0.8, 0.7]
    assert find_palms(*network_output(palms), HEIGHT, WIDTH, 0.9) == []
    flat = network_output([(500, 0.9, (96, 96, 0, 40))])
    assert find_palms(*flat, HEIGHT, WIDTH, 0.5) == []


def test_the_region_of_a_palm_points_along_the_middle_finger():
    points = np.zeros((7, 2), F32)
    points[0], points[2] = (0.5, 0.5), (0.5 + 50 / WIDTH, 0.5)  # wrist, and the middle finger to its right
    palm = Palm(0.9, np.array([0.5 - 20 / WIDTH, 0.5 - 20 / HEIGHT, 40 / WIDTH, 40 / HEIGHT], F32), points)
    square = palm_region(palm, HEIGHT, WIDTH).square(HEIGHT, WIDTH)
    # upright means fingers up: turned by 90° clockwise, half a box height to the right, 2.6 times as large
    np.testing.assert_allclose(square, (224 + 20, 128, 40 * 2.6, math.pi / 2), rtol=1e-5)


def test_the_tracked_region_holds_the_hand():
    upright = np.array([0.5, 0.5], F32) + np.random.default_rng(0).uniform(-0.1, 0.1, (21, 2)).astype(F32)
    upright[0], upright[[5, 9, 13]] = (0.5, 0.65), (0.5, 0.45)
    for turn in (0.0, 0.8, -2.0):
        offset = (upright - 0.5) * (WIDTH, HEIGHT)
        rotated = offset @ np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
        landmarks = (0.5 + rotated / (WIDTH, HEIGHT)).astype(F32)
        found = tracked_region(landmarks, HEIGHT, WIDTH)
        assert found.rotation == pytest.approx(turn, abs=1e-4)
        x, y, side, _ = found.square(HEIGHT, WIDTH)
        assert np.linalg.norm(landmarks * (WIDTH, HEIGHT) - (x, y), axis=1).max() < side * 0.75
        straight = tracked_region(upright, HEIGHT, WIDTH).square(HEIGHT, WIDTH)
        assert side == pytest.approx(straight[2], rel=1e-3)


def test_landmarks_go_back_to_the_frame():
    square = region(200, 100, 80, math.pi / 2)
    landmarks = np.array([[112, 112], [112, 0], [224, 112]], F32)  # the middle, its top, its right
    points = project(np.pad(landmarks, ((0, 18), (0, 0))), square, HEIGHT, WIDTH)[:3] * (WIDTH, HEIGHT)
    np.testing.assert_allclose(points, [[200, 100], [240, 100], [200, 140]], atol=1e-3)


def test_of_two_regions_of_one_hand_the_later_stays():
    old, other, new = region(100, 100, 80), region(300, 100, 80), region(110, 105, 84)
    assert associate([old, other, new]) == [other, new]
    assert associate([old, other]) == [old, other]
    half = region(100 + 80 / 3 + 2, 100, 80)  # an overlap of a bit less than one half
    assert len(associate([old, half])) == 2


def test_the_whole_frame_is_a_square_around_it():
    np.testing.assert_allclose(WHOLE_FRAME.square(HEIGHT, WIDTH), (224, 128, 448, 0))
    np.testing.assert_allclose(WHOLE_FRAME.padding(HEIGHT, WIDTH), (0, (1 - 256 / 448) / 2))
    np.testing.assert_allclose(WHOLE_FRAME.padding(WIDTH, HEIGHT), ((1 - 256 / 448) / 2, 0))
