"""What training changes about its samples: pixels, areas, joints and regions stay one thing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from handi.method.poses import present
from handi.training.augment import augmented, coloured, given_poses, held_out, zoomed
from handi.training.batch import Batch
from handi.training.recipe import DataRecipe, PoseRecipe

SIZE, FRAMES = 64, 3


def batch(count: int = 16) -> Batch:
    """Clips with a white square of 8 px around each clip's own joint, which is in the area too."""
    generator = torch.Generator().manual_seed(0)
    place = torch.randint(20, 44, (count, 2), generator=generator)
    frames = torch.zeros(count, FRAMES, SIZE, SIZE, 3, dtype=torch.uint8)
    area, joints = torch.zeros(count, SIZE, SIZE), torch.zeros(count, FRAMES, 42, 2)
    for row, (x, y) in enumerate(place.tolist()):
        frames[row, :, y - 4 : y + 5, x - 4 : x + 5] = 255
        area[row, y - 4 : y + 5, x - 4 : x + 5] = 1
        joints[row, :, :21] = torch.tensor([x / SIZE, y / SIZE])
    rois = torch.zeros(count, FRAMES, 2, 4)
    rois[:, :, 0, :2], rois[:, :, 0, 2] = place[:, None].float(), 9
    visible = torch.zeros(count, FRAMES, 2, dtype=torch.bool)
    visible[:, :, 0] = True
    index = torch.arange(FRAMES).expand(count, -1)
    names = [str(n) for n in range(count)]
    return Batch(names, frames, index, area, ["cut"] * count, joints, visible, rois)


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def centre(picture: torch.Tensor) -> torch.Tensor:
    """(x, y) of the bright part of H×W."""
    rows, columns = torch.nonzero(picture > 0.5, as_tuple=True)
    return torch.stack([columns.float().mean(), rows.float().mean()])


def test_zoomed_in_everything_stays_where_its_pixels_are():
    before = batch()
    after = zoomed(before, 0.4, chance())
    larger = after.rois[:, 0, 0, 2] > 9.01
    assert 4 <= int(larger.sum()) <= 12  # half of them
    same = ~larger
    assert torch.equal(after.frames[same], before.frames[same])
    assert torch.equal(after.area[same], before.area[same])
    torch.testing.assert_close(after.joints[same], before.joints[same])
    seen = 0
    for row in torch.nonzero(larger)[:, 0].tolist():
        joint = SIZE * after.joints[row, 1, 0]
        if not ((joint > 10) & (joint < SIZE - 10)).all():
            continue  # cut off
        seen += 1
        assert (centre(after.frames[row, 1, :, :, 0] / 255) - joint).abs().max() < 0.6
        assert (centre(after.area[row]) - joint).abs().max() < 0.6
        torch.testing.assert_close(after.rois[row, 1, 0, :2], joint)
    assert seen >= 3
    assert not present(after.joints)[..., 1].any()  # a hand that is not there stays away


def test_a_hand_that_was_cut_off_can_no_longer_be_read():
    before = batch(64)
    after = zoomed(before, 0.9, chance())
    inside = ((after.joints[:, :, 0] >= 0) & (after.joints[:, :, 0] < 1)).all(-1)
    assert torch.equal(after.visible[..., 0], inside)
    assert not inside.all()


def test_colours_change_alike_in_all_frames_of_a_clip():
    before = batch()
    after = coloured(before, 0.3, chance())
    white = after.frames[before.frames[..., 0] > 0].view(-1, 3)
    assert len(white.unique(dim=0)) > 8
    assert torch.equal(after.frames[:, 0], after.frames[:, 1])
    assert not after.frames[before.frames == 0].any()


def test_given_poses_are_near_the_true_ones_or_none_at_all():
    joints = batch(200).joints
    told = given_poses(joints, PoseRecipe(share=0.7, noise=0.02), chance())
    some = present(told)[:, 0, 0]
    assert 0.6 < some.float().mean() < 0.8
    assert not told[~some].any()
    assert not told[:, :, 21:].any()
    off = (told - joints)[some][:, :, :21].norm(dim=-1).mean(-1)  # clips × frames
    assert 0 < off[:, 0].mean() < off[:, -1].mean() < 0.04
    exact = given_poses(joints, PoseRecipe(share=1.0, noise=0.0), chance())
    assert torch.equal(exact, joints)
    assert torch.equal(held_out(batch()).poses, batch().joints)


def test_the_same_chance_gives_the_same_samples():
    one, other = (zoomed(batch(), 0.4, chance(3)) for _ in range(2))
    assert torch.equal(one.frames, other.frames)
    assert not torch.equal(zoomed(batch(), 0.4, chance(4)).joints, one.joints)


def test_cached_latents_are_not_of_the_changed_frames():
    cached = replace(batch(2), latents=torch.zeros(2, 4, FRAMES, 8, 8))
    with pytest.raises(ValueError, match="cached latents"):
        augmented(cached, DataRecipe(zoom=0.2), chance())
