"""Camera motion: against the world's true cameras, and against homographies that we chose."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from experiments.motion.stabilise import measure as measure_world  # experiments/motion/stabilise.py
from handi.core.errors import InputError
from handi.motion.stabilise import CameraMotion, measure_camera, stabilise

SIDE = 96


def scene(seed: int, side: int = SIDE) -> np.ndarray:
    """A picture with blobs and lines of many sizes, H×W×3."""
    rng = np.random.default_rng(seed)
    picture = np.full((2 * side, 2 * side, 3), 128, np.uint8)
    for _ in range(120):
        x, y, w, h = (int(v) for v in rng.integers(0, 2 * side, 4))
        colour = tuple(int(v) for v in rng.integers(30, 226, 3))
        cv2.rectangle(picture, (x, y), (x + w // 8 + 3, y + h // 8 + 3), colour, -1)
        cv2.circle(picture, (y, x), w // 20 + 2, colour[::-1], -1)
    return cv2.GaussianBlur(picture, (0, 0), 0.8)


def filmed(
    picture: np.ndarray,
    homographies: list[np.ndarray],
    side: int = SIDE,
    thing: tuple[np.ndarray, list[tuple[float, float]]] | None = None,
) -> np.ndarray:
    """F×side×side×3: the middle of the picture, each frame moved so that its homography brings it back.

    `thing`: another picture and where its corner lies in each frame (x, y), in front of the first one.
    """
    centre = np.array([[1, 0, -side / 2], [0, 1, -side / 2], [0, 0, 1]])
    rng = np.random.default_rng(0)
    frames = []
    for n, homography in enumerate(homographies):
        frame = cv2.warpPerspective(picture, np.linalg.inv(homography) @ centre, (side, side))
        if thing is not None:
            place = np.array([[1, 0, thing[1][n][0]], [0, 1, thing[1][n][1]]], float)
            layer, there = (
                cv2.warpAffine(x, place, (side, side)) for x in (thing[0], np.ones(thing[0].shape[:2]))
            )
            frame = np.where(there[..., None] > 0.5, layer, frame)
        frames.append(frame + rng.normal(0, 2, frame.shape))
    return np.stack(frames).clip(0, 255).astype(np.uint8)


def turned(angle: float, zoom: float, x: float, y: float, side: int = SIDE) -> np.ndarray:
    about = cv2.getRotationMatrix2D((side / 2, side / 2), np.degrees(angle), zoom)
    about[:, 2] += (x, y)
    return np.vstack([about, [2e-5 * x, -2e-5 * y, 1]])


def error(measured: np.ndarray, true: np.ndarray, side: int = SIDE) -> float:
    grid = np.stack(np.meshgrid(np.arange(12.0, side, 12), np.arange(12.0, side, 12)), -1).reshape(1, -1, 2)
    found, wanted = (cv2.perspectiveTransform(grid, h) for h in (measured, true))
    return float(np.linalg.norm(found - wanted, axis=-1).mean())


@pytest.mark.parametrize("seed", [101, 106])
def test_a_hand_held_world_clip_is_brought_to_rest(seed):
    result = measure_world(seed, 128)
    assert result.before > 0.5  # px: there was something to undo
    assert result.drop >= 0.8
    assert result.overlap >= 0.9
    assert result.overlap > result.overlap_raw


def test_turns_zooms_and_shifts_are_measured_to_a_fraction_of_a_pixel():
    true = [np.eye(3), turned(0.02, 1.01, 1.5, -1), turned(0.15, 1.1, 9, 6), turned(-0.25, 0.9, -14, 10)]
    motion = measure_camera(filmed(scene(0), true))
    assert motion.reliable.all()
    np.testing.assert_array_equal(motion.homographies[0], np.eye(3))
    for found, wanted in zip(motion.homographies, true, strict=True):
        assert error(found, wanted) < 0.3
    assert motion.amount == motion.shifts.max() == motion.shifts[3]
    still = measure_camera(filmed(scene(0), [np.eye(3)] * 3))
    assert still.amount * SIDE < 0.1


def test_a_thing_that_moves_over_much_of_the_picture_is_not_taken_for_the_camera():
    true = [turned(0, 1, 0.4 * n, -0.3 * n) for n in range(5)]
    places = [(8 + 3.3 * n, 36 - 2.6 * n) for n in range(5)]
    frames = filmed(scene(11), true, thing=(scene(21)[:60, :56], places))  # 36 % of the picture
    motion = measure_camera(frames)
    for found, wanted in zip(motion.homographies, true, strict=True):
        assert error(found, wanted) < 0.3


def test_what_cannot_be_measured_is_said_and_not_made_up():
    cut = np.concatenate([filmed(scene(3), [np.eye(3)] * 2), filmed(scene(4), [np.eye(3)])])
    motion = measure_camera(cut)
    assert motion.reliable.tolist() == [True, True, False]
    np.testing.assert_array_equal(motion.homographies[2], np.eye(3))
    with pytest.raises(InputError, match="1 of 3 frames"):
        stabilise(cut, motion)
    plain = measure_camera(np.full((3, 64, 80, 3), 90, np.uint8))
    assert not plain.reliable.any()
    with pytest.raises(ValueError, match="F×H×W×3"):
        measure_camera(np.zeros((4, 8, 8), np.uint8))


def test_stabilised_frames_lie_on_the_context_frame_and_know_what_they_could_not_see():
    true = [np.eye(3), turned(0, 1, 12, 0), np.eye(3)]
    frames = filmed(scene(5), true)
    before = frames.copy()
    motion = measure_camera(frames)
    steady, valid = stabilise(frames, motion)
    np.testing.assert_array_equal(frames, before)
    np.testing.assert_array_equal(steady[[0, 2]], frames[[0, 2]])  # nothing to undo: to the bit
    assert valid[[0, 2]].all()
    assert not valid[1, :, :11].any()  # came into view from the left only in the context frame
    assert valid[1, :, 14:-2].mean() > 0.97
    np.testing.assert_array_equal(steady[1][~valid[1]], frames[0][~valid[1]])
    seen = valid[1]
    off = np.abs(steady[1].astype(int) - frames[0])[seen].mean()
    assert off < 6 < np.abs(frames[1].astype(int) - frames[0])[seen].mean()


@pytest.mark.parametrize("shift", [(3.5, 0), (-2.3, 4.6), (0.4, -0.4)])
def test_nothing_from_beyond_the_border_is_mixed_into_the_rim(shift):
    """A grey wall stays one: black that a cubic picks up outside would darken or brighten the rim."""
    frames = np.full((2, 40, 56, 3), 200, np.uint8)
    homographies = np.stack([np.eye(3), turned(0.02, 1, *shift, side=48)])
    steady, valid = stabilise(frames, CameraMotion(homographies, np.ones(2), (40, 56)))
    assert 0.5 < valid[1].mean() < 1
    np.testing.assert_array_equal(steady, frames)


def test_points_are_carried_with_the_frame_and_absent_ones_stay_zero():
    true = [np.eye(3), turned(0, 1, 9.6, -4.8)]
    motion = measure_camera(filmed(scene(6), true))
    points = np.zeros((2, 42, 2))
    points[:, :21] = (0.5, 0.5)
    carried = motion.carry(points)
    np.testing.assert_allclose(carried[0, :21], 0.5)
    (x, y, depth) = true[1] @ (SIDE / 2, SIDE / 2, 1)
    np.testing.assert_allclose(carried[1, :21], [[x / depth / SIDE, y / depth / SIDE]] * 21, atol=0.004)
    assert not carried[:, 21:].any()
