"""PSNR and SSIM by hand and against scikit-image; drift and flow share on made motion."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio

from handi.evaluation.metrics.motion import FlowCounts, Motion, drift
from handi.evaluation.metrics.pixels import Pixels, psnr, ssim
from handi.evaluation.metrics.protocol import Pair, Unscored
from handi.motion.flow import motion_flow


def features(extractor, frames):
    return extractor(frames)


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(40, 200, (4, 24, 32, 3), dtype=np.uint8)


def test_psnr_by_hand(clip):
    assert psnr(clip + np.uint8(10), clip) == pytest.approx(20 * np.log10(25.5))
    other = clip[::-1]
    assert psnr(other, clip) == pytest.approx(peak_signal_noise_ratio(clip, other))
    assert psnr(clip, clip) == pytest.approx(58.92, abs=0.01)  # the error of rounding, not infinity


def test_only_pixels_that_count_are_counted(clip):
    inside = np.zeros(clip.shape[1:3], bool)
    inside[:, :8] = True
    wrong_outside = clip.copy()
    wrong_outside[:, :, 8:] = 0
    assert psnr(wrong_outside, clip, inside) == psnr(clip, clip)
    assert psnr(wrong_outside, clip) < 15
    wrong_inside = clip.copy()
    wrong_inside[:, :, :8] = 0
    assert ssim(wrong_inside, clip, inside) < 0.3 < ssim(wrong_inside, clip)


def test_ssim_is_one_for_the_truth_and_falls_with_noise(clip):
    noise = np.random.default_rng(1).normal(0, 20, clip.shape)
    noisy = (clip + noise).clip(0, 255).astype(np.uint8)
    assert ssim(clip, clip) == 1
    assert 0.5 < ssim(noisy, clip) < 0.99
    assert ssim(clip[::-1], clip) < 0.3


def test_a_crop_below_the_window_has_no_ssim(clip):
    small = Pair("a", clip[:, :8, :8], clip[:, :8, :8])
    assert set(Pixels().scores(small, features)) == {"psnr"}
    nothing = Pair("a", clip, clip, inside=np.zeros(clip.shape[1:3], bool))
    with pytest.raises(Unscored, match="no pixel counts"):
        Pixels().scores(nothing, features)


def test_drift_counts_outside_only(clip):
    area = np.zeros(clip.shape[1:3], bool)
    area[:12] = True
    moved = np.repeat(clip[:1], 3, 0)
    moved[:, :12] = 0
    assert drift(moved, clip[0], area) == 0
    moved[1, 12:] += 6  # one frame of three
    assert drift(moved, clip[0], area) == pytest.approx(2)
    assert np.isnan(drift(moved, clip[0], np.ones_like(area)))


def test_flow_is_that_of_all_pairs_with_frame_0():
    rng = np.random.default_rng(0)
    wide = np.kron(rng.integers(0, 255, (16, 40, 3), dtype=np.uint8), np.ones((4, 4, 1), np.uint8))
    clip = np.stack([wide[:, 2 * n : 2 * n + 112] for n in range(4)])
    area = np.ones(clip.shape[1:3], bool)
    area[:, :56] = False
    pair = Pair("a", clip[1:], start=clip[0], context=clip[0], area=area)
    scores = Motion().scores(pair, features)
    assert scores["flow_mean"] == pytest.approx(motion_flow(clip).mean(), abs=1e-6)
    assert 0.3 < scores["flow_inside"] < 0.7
    assert FlowCounts()(clip).max() == 3
    still = Pair("a", np.repeat(clip[:1], 3, 0), start=clip[0], area=area)
    scores = Motion().scores(still, features)
    assert scores["flow_mean"] == scores["background_drift"] == 0
    assert np.isnan(scores["flow_inside"])
    assert "background_error" not in scores
    with pytest.raises(Unscored, match="single frame"):
        Motion().scores(Pair("a", clip[:1]), features)
