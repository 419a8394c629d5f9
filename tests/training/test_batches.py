"""Batches: order, what a sample shows, mirroring."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.tiny_training import prepared

from handi.core.errors import InputError
from handi.data.dataset import ClipWords, PreparedClips
from handi.hands.regions import tracked_region
from handi.training.augment import mirrored, mirrored_text
from handi.training.batch import Batch
from handi.training.batches import Batches, Order, SampleSpec, Sampling, collate, frame_subset
from handi.world.rendering import WorldSettings, render_folder

EVERYTHING = Sampling(frames=8, flip=True, texts=("short", "paraphrase", "enriched"), dropout=0.5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("world")
    assert not render_folder(out, clips=3, seed=0, settings=WorldSettings(size=32, pictures="png"))
    return prepared(out)


@pytest.fixture(scope="module")
def clips(folder):
    return PreparedClips(folder)


def test_referents_are_mirrored_with_their_frame(clips):
    batch = Batches(clips, Sampling(), seed=0, shuffle=False).at(0, 3)
    turned = mirrored(batch, torch.tensor([False, True, False]))
    assert torch.equal(turned.referents[1], batch.referents[1].flip(2))
    assert torch.equal(turned.referents[[0, 2]], batch.referents[[0, 2]])


def test_every_epoch_is_a_new_permutation():
    order = Order(7, seed=3)
    epochs = [[order[7 * e + n] for n in range(7)] for e in range(3)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert [Order(7, seed=3)[p] for p in (20, 0, 9)] == [epochs[2][6], epochs[0][0], epochs[1][2]]
    assert [Order(7, seed=4)[p] for p in range(7)] != epochs[0]


def test_what_belongs_together_stays_together():
    order = Order(12, seed=3, together=4)
    epoch = [order[n] for n in range(12)]
    assert sorted(epoch) == list(range(12))
    groups = [epoch[n : n + 4] for n in (0, 4, 8)]
    assert all(group == list(range(group[0], group[0] + 4)) and group[0] % 4 == 0 for group in groups)
    assert [order[12 + n] for n in range(12)] != epoch


def test_another_thread_may_drop_an_epoch_at_any_moment():
    order = Order(7, seed=3)
    wanted = order[9]

    class Dropped(dict):
        """As if another thread went on to a later epoch right after each look."""

        def __contains__(self, epoch):
            order._epochs = {}
            return super().__contains__(epoch)

        def get(self, epoch, default=None):
            order._epochs = {}
            return super().get(epoch, default)

    order._epochs = Dropped(order._epochs)
    assert order[9] == wanted


def test_a_sample_does_not_depend_on_how_it_is_batched(clips):
    batches = Batches(clips, EVERYTHING, seed=5)
    whole = batches.at(0, 8)
    parts = [batches.at(0, 3), batches.at(3, 5)]
    assert whole.names == [name for part in parts for name in part.names]
    assert whole.texts == [text for part in parts for text in part.texts]
    for name in ("frames", "frame_index", "area", "joints", "visible", "rois", "referents"):
        assert torch.equal(getattr(whole, name), torch.cat([getattr(part, name) for part in parts]))
    streamed = list(batches.stream([0, 4], 4, workers=2))
    assert torch.equal(whole.frames, torch.cat([batch.frames for batch in streamed]))
    assert not torch.equal(whole.frames, Batches(clips, EVERYTHING, seed=6).at(0, 8).frames)


def test_an_error_in_a_thread_comes_out_at_its_batch(clips):
    class Broken:
        size, frames, together, words = clips.size, clips.frames, 1, clips.words

        def __len__(self):
            return 3

        def read(self, index, frames):
            if index == 2:
                raise InputError("is damaged", where="clip 2")
            return clips.read(index, frames)

    stream = Batches(Broken(), Sampling(), 0, shuffle=False).stream(range(3), 1, workers=2)
    assert [next(stream).names, next(stream).names] == [["0000000000"], ["0000000001"]]
    with pytest.raises(InputError, match="clip 2"):
        next(stream)


def test_batch_shapes_and_ranges(clips):
    batch = Batches(clips, Sampling(frames=4), 0).at(0, 3)
    assert batch.frames.shape == (3, 4, 32, 32, 3)
    assert batch.frames.dtype == torch.uint8
    assert (batch.area.shape, set(batch.area.unique().tolist())) == ((3, 32, 32), {0.0, 1.0})
    assert (batch.joints.shape, batch.visible.shape, batch.rois.shape) == (
        (3, 4, 42, 2),
        (3, 4, 2),
        (3, 4, 2, 4),
    )
    assert (batch.frame_index[:, 0] == 0).all()
    row = batch.names.index("0000000001")
    for n, k in enumerate(batch.frame_index[row].tolist()):
        assert torch.equal(batch.frames[row, n], torch.from_numpy(clips[1].frames[k].copy()))
        assert torch.equal(batch.joints[row, n], torch.from_numpy(clips[1].joints[k].copy()))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 11, 16])
def test_frame_subsets_hold_the_context_and_reach_every_frame(count):
    subsets = [frame_subset(16, count, chance) for chance in np.linspace(0, 0.999, 60)]
    for subset in subsets:
        assert subset[0] == 0
        assert len(subset) == count == len(set(subset.tolist()))
        assert (np.diff(subset) > 0).all()
        assert subset.max() <= 15
    if count > 1:
        assert {int(k) for subset in subsets for k in subset} == set(range(16))
    with pytest.raises(ValueError, match="17 frames of a clip of 16"):
        frame_subset(16, 17, 0)


def test_texts_are_dropped_and_chosen_by_their_shares(clips):
    batches = Batches(clips, replace(EVERYTHING, dropout=0.15, flip=False), seed=1)
    drawn = batches.at(0, 1500)
    texts = [(clips[int(name)], text) for name, text in zip(drawn.names, drawn.texts, strict=True)]
    dropped = sum(not text for _, text in texts) / len(texts)
    assert abs(dropped - 0.15) < 0.03
    short = sum(text in clip.texts["short"] for clip, text in texts) / (len(texts) * (1 - dropped))
    assert abs(short - 1 / 3) < 0.05
    plain = Batches(clips, Sampling(), 0).at(0, 9)
    assert plain.texts == [clips[int(name)].texts["short"][0] for name in plain.names]


def whole(clip) -> Batch:
    """A batch of one whole clip."""
    return collate([clip], [SampleSpec(0, np.arange(16), clip.texts["short"][0], mirror=False)])


def test_mirroring_twice_changes_nothing_and_once_everything(clips):
    batch, row = whole(clips[0]), torch.tensor([True])
    once, twice = mirrored(batch, row), mirrored(mirrored(batch, row), row)
    for name in ("frames", "area", "joints", "visible", "rois"):
        assert torch.allclose(getattr(twice, name), getattr(batch, name), atol=1e-5), name
    assert torch.equal(once.frames[:, :, :, 0], batch.frames[:, :, :, 31])
    before, after = batch.joints[0, 0].numpy(), once.joints[0, 0].numpy()
    # the mirrored left hand is where the right one was: column i now is column 31 - i
    columns = np.where(before.any(axis=1), 31 - before[:, 0] * 32, 0)
    assert np.allclose(after[:, 0] * 32, np.concatenate([columns[21:], columns[:21]]), atol=1e-4)
    for frame, hand in np.argwhere(once.visible[0].numpy()):
        joints = once.joints[0, frame].numpy().reshape(2, 21, 2)[hand]
        expected = tracked_region(joints, 32, 32).square(32, 32)
        roi = once.rois[0, frame, hand].numpy()
        assert np.allclose(roi[:3], expected[:3], atol=1e-3)
        assert np.isclose(np.cos(roi[3] - expected[3]), 1, atol=1e-5)


def test_only_the_rows_that_are_asked_for_are_mirrored(clips):
    batch = Batches(clips, Sampling(), 0, shuffle=False).at(0, 3)
    turned = mirrored(batch, torch.tensor([False, True, False]))
    assert torch.equal(turned.frames[[0, 2]], batch.frames[[0, 2]])
    assert torch.equal(turned.frames[1], batch.frames[1].flip(2))
    with pytest.raises(ValueError, match="cannot be mirrored"):
        mirrored(replace(batch, latents=torch.zeros(3, 1)), torch.tensor([True, False, False]))


def test_flip_mirrors_half_of_the_samples_and_their_words(clips):
    flipped = 0
    plain = whole(clips[0])
    for seed in range(200):
        batch = Batches(OneClip(clips, clips[0]), Sampling(flip=True), seed).at(0, 1)
        changed = not torch.equal(batch.frames, plain.frames)
        flipped += changed
        short = clips[0].texts["short"][0]
        assert batch.texts == [mirrored_text(short) if changed else short]
    assert 70 < flipped < 130
    fixed = OneClip(clips, replace(clips[0], mirrors=False))
    for seed in range(20):
        assert torch.equal(Batches(fixed, Sampling(flip=True), seed).at(0, 1).frames, plain.frames)


class OneClip:
    """A set of one clip."""

    def __init__(self, like, clip):
        self.name, self.size, self.frames, self.clip = like.name, like.size, like.frames, clip
        self.together = 1

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return self.clip

    def words(self, index):
        return ClipWords(self.clip.name, self.clip.texts, self.clip.mirrors)

    def read(self, index, frames):
        return self.clip  # all of its frames are asked for


def test_clips_that_are_held_give_the_same_samples(clips):
    read, held = (Batches(clips, EVERYTHING, seed=5) for _ in range(2))
    held.hold(torch.device("cpu"))
    one, other = read.at(3, 9), held.at(3, 9)
    assert (one.names, one.texts) == (other.names, other.texts)
    for name in ("frames", "frame_index", "area", "joints", "visible", "rois", "referents"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
        assert getattr(one, name).dtype == getattr(other, name).dtype, name
    cached = OneClip(clips, replace(clips[0], latents=np.zeros((16, 1, 4, 4), np.float16)))
    with pytest.raises(InputError, match="resident"):
        Batches(cached, Sampling(), 0).hold(torch.device("cpu"))


def test_mirrored_words():
    assert mirrored_text("Push the cup to the left") == "Push the cup to the right"
    assert mirrored_text("Left hand turns it clockwise") == "Right hand turns it anticlockwise"
    assert mirrored_text("twist counterclockwise, rightward") == "twist clockwise, leftward"
    assert mirrored_text("a bright leftover") == "a bright leftover"


def test_collate_and_moving_keep_everything(clips):
    batch = whole(clips[0])
    assert len(batch) == 1
    assert torch.equal(batch.to("cpu").frames, batch.frames)
    assert batch.to("meta").rois.device.type == "meta"
