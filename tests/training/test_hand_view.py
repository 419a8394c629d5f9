"""The square that a hand loss decodes: where it lies, and what it cuts out."""

from __future__ import annotations

import pytest
import torch

from handi.core.errors import InputError
from handi.training.hand_view import View

CELL, SIZE = 8, (64, 96)


def view(rois, frames, crop=32, chunk=4):
    z = torch.randn(1, 2, 3, SIZE[0] // CELL, SIZE[1] // CELL)
    clips = torch.zeros(len(rois), dtype=torch.int64)
    return z, View.around_hands(rois, clips, torch.tensor(frames), chunk, crop, SIZE, z)


def test_frames_of_a_chunk_share_the_square_around_the_larger_hand():
    rois = torch.zeros(3, 2, 4)
    rois[0, 0] = torch.tensor([10.0, 10.0, 8.0, 0.1])
    rois[0, 1] = torch.tensor([60.0, 40.0, 20.0, 0.2])
    rois[1, 1] = torch.tensor([70.0, 30.0, 20.0, 0.3])
    rois[2, 0] = torch.tensor([95.0, 1.0, 20.0, 0.4])  # of the next chunk, in the corner
    z, window = view(rois, [1, 4, 5])
    assert window.rows.tolist() == [0, 0, 2]
    assert window.top.tolist() == [3, 3, 0]
    assert window.left.tolist() == [6, 6, 8]
    assert torch.equal(window.latents(z)[0], z[0, :, :, 3:7, 6:10])
    pictures = torch.randn(3, 3, *SIZE)
    assert torch.equal(window.pixels(pictures)[2], pictures[2, :, 0:32, 64:96])
    own = window.rois(rois)
    assert own[0, 0].eq(0).all()  # outside
    assert own[0, 1].tolist() == pytest.approx([60 - 48, 40 - 24, 20, 0.2])
    assert own[2, 0].tolist() == pytest.approx([95 - 64, 1, 20, 0.4])


def test_a_square_larger_than_the_frame_is_the_frame_s_side_and_others_are_refused():
    rois = torch.tensor([48.0, 32.0, 20.0, 0.0]).expand(1, 2, 4)
    z, window = view(rois, [2], crop=800)
    assert window.latents(z).shape[-2:] == (8, 8)
    with pytest.raises(InputError, match="use a multiple of 8"):
        view(rois, [2], crop=30)
