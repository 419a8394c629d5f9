from __future__ import annotations

import cv2
import numpy as np
import pytest

from handi.method.area import PriorMask, clean_area, hull_area, hull_masks

HEIGHT, WIDTH = 60, 100


def hand_at(x: float, y: float, radius: float = 0.1) -> np.ndarray:
    """21 joints on and in a square of half side `radius` (x, y in [0, 1])."""
    inside = np.random.default_rng(0).uniform(-1, 1, (17, 2))
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    return np.array([x, y]) + radius * np.concatenate([corners, inside])


def frame(left: np.ndarray | None = None, right: np.ndarray | None = None) -> np.ndarray:
    nothing = np.zeros((21, 2))
    return np.concatenate([nothing if left is None else left, nothing if right is None else right])


def test_a_hull_holds_its_joints_and_nothing_far_away():
    joints = frame(left=hand_at(0.3, 0.5))[None]
    masks = hull_masks(joints, HEIGHT, WIDTH)
    assert masks.shape == (1, HEIGHT, WIDTH)
    assert masks.dtype == bool
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[24:37, 20:41] = True  # the square with its border: x 0.2..0.4 of 100, y 0.4..0.6 of 60
    np.testing.assert_array_equal(masks[0], expected)


def test_one_hull_a_hand_or_one_over_all():
    joints = frame(hand_at(0.2, 0.5), hand_at(0.8, 0.5))[None]
    apart, joined = hull_area(joints, HEIGHT, WIDTH), hull_area(joints, HEIGHT, WIDTH, hull="all")
    assert not apart[30, 50]
    assert joined[30, 50]
    assert (joined | apart).sum() == joined.sum()
    one_hand = frame(hand_at(0.2, 0.5))[None]
    np.testing.assert_array_equal(
        hull_area(one_hand, HEIGHT, WIDTH), hull_area(one_hand, HEIGHT, WIDTH, hull="all")
    )
    with pytest.raises(ValueError, match="'hand' or 'all'"):
        hull_area(joints, HEIGHT, WIDTH, hull="both")


def test_the_area_of_a_clip_is_the_union_over_frames():
    joints = np.stack([frame(hand_at(0.2, 0.5)), frame(), frame(right=hand_at(0.5, 0.3))])
    masks = hull_masks(joints, HEIGHT, WIDTH)
    assert not masks[1].any()
    np.testing.assert_array_equal(hull_area(joints, HEIGHT, WIDTH), masks.any(axis=0))


def test_no_hand_gives_an_empty_area_and_a_hand_off_the_frame_is_cut():
    assert not hull_area(np.zeros((4, 42, 2)), HEIGHT, WIDTH).any()
    assert not hull_area(np.zeros((4, 42, 2)), HEIGHT, WIDTH, hull="all").any()
    half_out = hull_area(frame(hand_at(1.0, 0.5))[None], HEIGHT, WIDTH)
    assert half_out[30, 99]
    assert half_out.sum() == 13 * 10
    assert not hull_area(frame(hand_at(1e12, 0.5))[None], HEIGHT, WIDTH).any()


@pytest.mark.parametrize("joints", [np.zeros((42, 2)), np.zeros((1, 40, 2)), np.full((1, 42, 2), np.nan)])
def test_joints_of_another_shape_are_refused(joints):
    with pytest.raises(ValueError, match="joints"):
        hull_area(joints, HEIGHT, WIDTH)


def test_the_prior_is_exact_whatever_the_order():
    rng = np.random.default_rng(1)
    areas = [rng.random((HEIGHT, WIDTH)) < 0.3 for _ in range(30)]
    areas[4] = np.zeros((HEIGHT, WIDTH), bool)
    whole, one, two = (PriorMask(HEIGHT, WIDTH) for _ in range(3))
    for area in areas:
        whole.add(area)
    for number in rng.permutation(30):
        (one if number % 3 else two).add(areas[number])
    two.merge(one)
    np.testing.assert_array_equal(whole.mean, two.mean)
    assert (two.clips, two.empty) == (29, 1)
    with_hand = np.stack([area for area in areas if area.any()])
    np.testing.assert_array_equal(whole.mean, (with_hand.sum(0) / 29).astype(np.float32))


def test_the_prior_refuses_what_it_cannot_count():
    prior = PriorMask(4, 4)
    prior.add(np.zeros((4, 4), bool))
    with pytest.raises(ValueError, match="no clip with a hand"):
        _ = prior.mean
    with pytest.raises(ValueError, match="threshold"):
        prior.add(np.ones((4, 4), np.float32))
    with pytest.raises(ValueError, match="area of"):
        prior.add(np.ones((4, 5), bool))
    with pytest.raises(ValueError, match="prior of"):
        prior.merge(PriorMask(5, 4))


def soft_mask(scale: int = 1) -> np.ndarray:
    """A disc with a slit and a hole in it, and a speck beside it; faint noise all over."""
    height, width = 128 * scale, 224 * scale
    mask = np.random.default_rng(0).uniform(0, 0.4, (height, width)).astype(np.float32)
    cv2.circle(mask, (80 * scale, 64 * scale), 30 * scale, 0.9, cv2.FILLED)
    cv2.circle(mask, (80 * scale, 74 * scale), 8 * scale, 0.1, cv2.FILLED)
    cv2.rectangle(mask, (78 * scale, 20 * scale), (80 * scale, 55 * scale), 0.1, cv2.FILLED)
    cv2.rectangle(mask, (190 * scale, 20 * scale), (193 * scale, 23 * scale), 0.9, cv2.FILLED)
    return mask


def test_cleaning_closes_fills_drops_and_grows():
    area = clean_area(soft_mask())
    assert area.dtype == bool
    assert area[74, 80]  # the hole
    assert area[50, 79]  # the slit
    assert not area[15:30, 180:210].any()  # the speck
    assert area[64, 80 + 31]  # grown beyond the disc
    assert not area[64, 80 + 36]
    count, _ = cv2.connectedComponents(area.astype(np.uint8))
    assert count == 2  # the background and one area


def test_cleaning_does_the_same_at_any_size():
    small, large = clean_area(soft_mask()), clean_area(soft_mask(scale=4))
    assert small.mean() == pytest.approx(large.mean(), rel=0.05)


def test_empty_stays_empty_full_stays_full_and_edges_hold():
    assert not clean_area(np.zeros((50, 70), np.float32)).any()
    assert not clean_area(np.full((50, 70), 0.5, np.float32)).any()
    assert clean_area(np.ones((50, 70), bool)).all()
    tiny = clean_area(np.ones((1, 1), np.float32))
    assert tiny.shape == (1, 1)
    assert tiny.all()
    edge = np.zeros((100, 100), np.float32)
    edge[:, :30] = 1
    area = clean_area(edge)
    assert area[:, :30].all()
    assert not area[:, 33:].any()


def test_masks_that_are_not_masks_are_refused():
    with pytest.raises(ValueError, match="H×W"):
        clean_area(np.zeros((3, 4, 4)))
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        clean_area(np.full((4, 4), 255, np.uint8))
