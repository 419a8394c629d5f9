from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from handi.motion.flow import MotionFlow, hsv_first_pair, motion_flow, share_inside


def texture(height: int, width: int) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def sliding_box(frames: int, step: float, *, height: int = 64, width: int = 112) -> np.ndarray:
    """A still scene in which the right half slides by `step` px per frame."""
    scene = texture(height, width)
    half = width // 2
    clip = np.repeat(scene[None], frames, axis=0)
    for number, frame in enumerate(clip):
        shift = np.float32([[1, 0, step * number], [0, 1, 0]])
        moved = cv2.warpAffine(scene, shift, (width, height), borderMode=cv2.BORDER_REFLECT)
        frame[:, half:] = moved[:, half:]
    return clip


def test_motion_flow_is_the_share_of_pairs_in_which_a_pixel_moves():
    clip = sliding_box(5, 1.5)
    clip = np.concatenate([clip, clip[-1:].repeat(4, axis=0)])  # 4 moving pairs, then 4 still ones
    flow = motion_flow(clip)
    assert flow.dtype == np.float32
    assert flow.shape == (64, 112)
    np.testing.assert_allclose(np.median(flow[10:-10, 76:100]), 0.5)
    assert flow[:, :40].max() == 0


def test_the_threshold_grows_with_the_width():
    # 0.5 px at 448 px is 0.125 px at 112: a slide of 0.2 px counts, one of 0.06 px does not.
    assert np.median(motion_flow(sliding_box(3, 0.2))[10:-10, 76:100]) == 1
    assert np.median(motion_flow(sliding_box(3, 0.06))[10:-10, 76:100]) == 0
    assert np.median(motion_flow(sliding_box(3, 0.2), threshold_px=1.5)[10:-10, 76:100]) == 0


def test_a_frame_at_a_time_gives_the_same_and_one_frame_gives_zeros():
    clip = sliding_box(4, 1.0)
    running = MotionFlow()
    for frame in clip:
        running.add(frame)
    np.testing.assert_array_equal(running.share, motion_flow(clip))
    assert motion_flow(clip[:1]).max() == 0
    with pytest.raises(ValueError, match="a frame of"):
        running.add(clip[0][:32])
    with pytest.raises(ValueError, match="no frames"):
        motion_flow(clip[:0])
    with pytest.raises(ValueError, match="threshold_px"):
        motion_flow(clip, threshold_px=0)


def test_equal_frames_have_no_motion_whatever_they_show():
    noise = np.random.default_rng(0).integers(0, 256, (64, 112, 3), dtype=np.uint8)
    assert motion_flow(np.stack([noise] * 3)).max() == 0


def test_share_inside():
    flow = np.zeros((4, 4), np.float32)
    flow[0] = 0.5
    flow[3, 3] = 1
    area = np.zeros((4, 4), bool)
    area[0] = True
    assert share_inside(flow, area) == pytest.approx(2 / 3)
    assert share_inside(flow, area * 0.5) == pytest.approx(1 / 3)
    assert math.isnan(share_inside(flow * 0, area))
    with pytest.raises(ValueError, match="flow map"):
        share_inside(flow, area[:2])


def test_the_hue_is_the_direction_and_a_single_frame_is_black():
    picture = hsv_first_pair(sliding_box(2, 1.5))
    assert picture.shape == (64, 112, 3)
    assert picture.dtype == np.uint8
    hsv = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV)[10:-10, 76:100]
    bright = hsv[hsv[..., 2] > 60]
    assert len(bright) > 100
    assert np.mean((bright[:, 0] < 12) | (bright[:, 0] > 168)) > 0.9  # to the right: angle 0
    assert hsv_first_pair(sliding_box(1, 1)).max() == 0
