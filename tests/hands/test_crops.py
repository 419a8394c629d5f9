from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from handi.hands.crops import crop, crop_uint8, sampling_matrix

FRAMES = cv2.resize(
    np.random.default_rng(0).integers(0, 256, (27, 35, 3), dtype=np.uint8),
    (280, 216),
    interpolation=cv2.INTER_CUBIC,
)[None]
SQUARES = np.float32(
    [[140, 108, 100, 0.3], [10, 200, 150, -2.5], [270, 20, 333, 1.2], [140, 108, 280, 0], [-400, 50, 30, 3]]
)


def planes(frames: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(frames).permute(0, 3, 1, 2)


@pytest.mark.parametrize("border", ["zero", "edge"])
@pytest.mark.parametrize("square", SQUARES)
def test_torch_and_opencv_give_the_same_bytes(square, border):
    expected = crop_uint8(FRAMES[0], square, 64, border)
    for frames in (planes(FRAMES), planes(FRAMES).float() / 255):
        ours = crop(frames, torch.tensor([0]), square[None], 64, border)[0].permute(1, 2, 0)
        np.testing.assert_array_equal(np.rint(ours.numpy() * 255).astype(np.uint8), expected)


def test_a_crop_is_what_the_matrix_says():
    square = np.float32([120.3, 99.8, 80, 0.7])
    matrix = sampling_matrix(square, 40)
    for column, row in ((0, 0), (39, 0), (20, 20), (7, 31)):
        x, y, w = matrix @ (column, row, 1)
        u, v = column / 40 - 0.5, row / 40 - 0.5
        expected = (
            120.3 + 80 * (np.cos(0.7) * u - np.sin(0.7) * v),
            99.8 + 80 * (np.sin(0.7) * u + np.cos(0.7) * v),
        )
        np.testing.assert_allclose((x / w, y / w), expected, atol=1e-4)


def test_a_square_outside_shows_the_border():
    far = np.float32([-400, 108, 30, 0])  # left of the frame, upright: its rows are those of the left edge
    assert crop_uint8(FRAMES[0], far, 30, "zero").max() == 0
    edge = crop_uint8(FRAMES[0], far, 30, "edge")
    np.testing.assert_array_equal(edge, np.broadcast_to(FRAMES[0][93:123, :1], edge.shape))
    corner = crop_uint8(FRAMES[0], np.float32([1e7, -1e7, 50, 0]), 16, "edge")
    np.testing.assert_array_equal(corner, np.broadcast_to(FRAMES[0][0, -1], corner.shape))


def test_each_square_is_cut_from_its_own_frame():
    frames = np.stack([np.full((50, 60, 3), level, np.uint8) for level in (10, 20, 30)])
    rows = torch.tensor([2, 0, 1, 2])
    squares = np.float32([[30, 25, 20, 0]] * 4)
    levels = crop(planes(frames), rows, squares, 8, "edge").mean((1, 2, 3)) * 255
    torch.testing.assert_close(levels, torch.tensor([30.0, 10, 20, 30]))


def test_rounding_does_not_stop_the_gradient():
    frames = (planes(FRAMES).float() / 255).requires_grad_()
    weight = torch.from_numpy(np.random.default_rng(1).random((1, 3, 32, 32), np.float32))
    (crop(frames, torch.tensor([0]), SQUARES[:1], 32, "edge") * weight).sum().backward()
    step = torch.zeros_like(frames)
    step[..., 80:130, 100:180] = 0.1  # many levels: the steps of the rounding even out

    def value(sign: float) -> float:
        with torch.no_grad():
            return (
                (crop(frames + sign * step, torch.tensor([0]), SQUARES[:1], 32, "edge") * weight).sum().item()
            )

    assert (value(1) - value(-1)) / 2 == pytest.approx((frames.grad * step).sum().item(), rel=0.01)
