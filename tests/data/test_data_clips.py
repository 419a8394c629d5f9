"""Clip sets: packing, order, what is drawn, mirroring."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from handi.core.errors import InputError
from handi.data.clips import (
    Batch,
    Batches,
    Drawing,
    Order,
    Sample,
    collate,
    frame_subset,
    mirrored,
    mirrored_text,
)
from handi.data.first_frames import FirstFrames
from handi.data.world import WorldClips
from handi.evaluation.folder import read_videos
from handi.evaluation.videos import kinds_of_area
from handi.hands.regions import tracked_region
from handi.world.files import read_clip
from handi.world.first_frames import read_first_frame, render_first_frame, write_first_frame
from handi.world.produce import Settings, produce

EVERYTHING = Drawing(frames=8, flip=True, texts=("short", "paraphrase", "enriched"), dropout=0.5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("world")
    assert not produce(out, clips=3, seed=0, settings=Settings(size=32, pictures="png"))
    return out


@pytest.fixture(scope="module")
def clips(folder):
    return WorldClips(folder, training=True)


def test_a_world_clip_is_what_was_rendered(folder, clips):
    assert len(clips) == 3
    assert (clips.frames, clips.size) == (16, (32, 32))
    for index in range(3):
        truth, clip = read_clip(folder / f"{index:010d}.json"), clips[index]
        assert np.array_equal(clip.frames, truth.frames)
        assert np.array_equal(clip.joints, truth.joints2d)
        assert np.array_equal(clip.area, truth.area_moved)
        assert clip.texts["short"] == (truth.text,)
        assert clip.texts["paraphrase"] == truth.paraphrases


def test_a_world_folder_s_manifest_says_what_its_motion_area_is(folder, clips, tmp_path):
    """In training and in measuring; both are packed, so that nothing is packed anew."""
    other = tmp_path / "clips"
    shutil.copytree(folder, other)
    manifest = json.loads((other / "world.json").read_text())
    assert manifest.pop("area") == "moved"
    for area, said in (("moved", manifest), ("hull", {**manifest, "area": "hull"})):  # of before, and of now
        (other / "world.json").write_text(json.dumps(said))
        read, side = WorldClips(other), read_videos(other)
        truth = getattr(read_clip(other / "0000000000.json"), f"area_{area}")
        assert np.array_equal(read[0].area, truth)
        assert np.array_equal(side["0000000000"].area(), truth)
        assert (read.kind_of_area, kinds_of_area(side.values())) == (area, [area])
        assert (read.fingerprint() == clips.fingerprint()) == (area == "moved")
        assert len(list((other / ".packed").iterdir())) == 1
    (other / "world.json").write_text(json.dumps({**manifest, "area": "all"}))
    with pytest.raises(InputError, match="area is 'all'; use moved or hull"):
        WorldClips(other)


def test_a_world_clip_says_which_things_and_hands_are_meant(folder, clips):
    for index in range(3):
        truth, clip = read_clip(folder / f"{index:010d}.json"), clips[index]
        things, hands = clip.referents
        shown = truth.ids[0]
        named = {thing["id"] for thing in truth.objects if thing["name"] in truth.choice.values()}
        assert named
        assert set(np.unique(shown[things])) <= named
        assert not np.isin(shown[~things], list(named)).any()
        acting = {"left": {2, 4}, "right": {3, 5}}
        of_hands = set().union(*(acting[side] for side in truth.hands))
        assert hands.any()
        assert set(np.unique(shown[hands])) <= of_hands
        assert not np.isin(shown[~hands], list(of_hands)).any()


def test_referents_are_mirrored_with_their_frame(clips):
    batch = Batches(clips, Drawing(), seed=0, shuffle=False).at(0, 3)
    turned = mirrored(batch, torch.tensor([False, True, False]))
    assert torch.equal(turned.referents[1], batch.referents[1].flip(2))
    assert torch.equal(turned.referents[[0, 2]], batch.referents[[0, 2]])


def test_rois_are_the_trackers_and_only_where_the_hand_is_in_the_picture(clips):
    seen = 0
    for clip in (clips[n] for n in range(3)):
        joints = clip.joints.reshape(-1, 2, 21, 2)
        within = joints.any(-1) & (joints > -0.5 / 32).all(-1) & (joints < 31.5 / 32).all(-1)
        assert np.array_equal(clip.visible, within.sum(-1) >= 11)
        assert not clip.rois[~clip.visible].any()
        for frame, hand in np.argwhere(clip.visible):
            joints = clip.joints[frame].reshape(2, 21, 2)[hand]
            assert np.array_equal(clip.rois[frame, hand], tracked_region(joints, 32, 32).square(32, 32))
            seen += 1
    assert seen > 16


def test_packing_grows_and_reads_nothing_twice(tmp_path, monkeypatch):
    settings = Settings(size=32, pictures="png")
    produce(tmp_path, clips=1, seed=0, settings=settings)
    one = WorldClips(tmp_path)
    produce(tmp_path, clips=2, seed=0, settings=settings)
    read = []
    import handi.data.world as module

    monkeypatch.setattr(module, "read_clip", lambda path: read.append(path.stem) or read_clip(path))
    two = WorldClips(tmp_path)
    assert read == ["0000000001"]
    assert len(WorldClips(tmp_path)) == 2
    assert read == ["0000000001"]
    assert np.array_equal(one[0].frames, two[0].frames)
    assert one.fingerprint() != two.fingerprint()


def test_a_stopped_packing_leaves_whole_segments_only(tmp_path, monkeypatch):
    produce(tmp_path, clips=2, seed=0, settings=Settings(size=32, pictures="png"))
    import handi.data.packed as module

    monkeypatch.setattr(module, "SEGMENT_BYTES", 1)  # a segment a clip

    saved = []

    def failing(path, array):
        saved.append(path.name)
        if len(saved) == 7:  # in the second clip
            raise OSError(28, "No space left on device")
        np.lib.format.write_array(open(path, "wb"), array)  # noqa: SIM115

    with monkeypatch.context() as patch:
        patch.setattr(module.np, "save", failing)
        with pytest.raises(Exception, match="free some space"):
            WorldClips(tmp_path)
    assert len(list((tmp_path / ".packed").glob("*/segment-*"))) == 1
    assert not list((tmp_path / ".packed").glob("*/.unfinished-*"))
    assert len(WorldClips(tmp_path)) == 2


def test_damaged_packs_are_one_clear_error(tmp_path):
    produce(tmp_path, clips=1, seed=0, settings=Settings(size=32, pictures="png"))
    WorldClips(tmp_path)
    (segment,) = (tmp_path / ".packed").glob("*/segment-*")
    for name, data in (
        ("rois.npy", b""),
        ("areas.npy", b"\x93NUMPY"),
        ("clips.json", b"[]"),
        ("clips.json", b"[1]"),
    ):
        whole = (segment / name).read_bytes()
        (segment / name).write_bytes(data)
        with pytest.raises(InputError, match=r"segment-.*: packed clips are damaged .*; delete that folder"):
            WorldClips(tmp_path)
        (segment / name).write_bytes(whole)
    (segment.parent / "left_out.json").write_text("[")
    with pytest.raises(InputError, match=r"left_out\.json: is damaged .*; delete it"):
        WorldClips(tmp_path)


def test_clips_of_other_splits_are_refused_for_training(tmp_path):
    produce(tmp_path, clips=1, seed=900_000, settings=Settings(size=32, pictures="png"))
    assert len(WorldClips(tmp_path)) == 1
    with pytest.raises(InputError, match="kept for test"):
        WorldClips(tmp_path, training=True)


def test_an_empty_folder_and_a_damaged_clip_are_named(tmp_path):
    with pytest.raises(InputError, match="holds no clips"):
        WorldClips(tmp_path)
    produce(tmp_path, clips=1, seed=0, settings=Settings(size=32, pictures="png"))
    path = tmp_path / "0000000000.json"
    record = json.loads(path.read_text())
    del record["joints2d"]
    path.write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"0000000000\.json: the clip is damaged"):
        WorldClips(tmp_path)


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


def test_first_frames_are_clips_of_one_frame_and_six_requests(tmp_path):
    settings = Settings(size=32, first_frames=True)
    assert not produce(tmp_path, clips=3, seed=0, settings=settings)
    frames = FirstFrames(tmp_path, training=True)
    assert (len(frames), frames.size, frames.frames) == (18, (32, 32), 1)
    first = read_first_frame(tmp_path / "0000000001.json")
    asked = [next(r for r in first.requests if (r.text,) == frames[6 + n].texts["short"]) for n in range(6)]
    actions = {request.action for request in first.requests}
    assert {request.action for request in asked[: len(actions)]} == actions  # in turn
    for n, request in enumerate(asked):
        clip = frames[6 + n]
        np.testing.assert_array_equal(clip.frames, first.frame[None])
        np.testing.assert_array_equal(clip.referents[0], np.isin(first.ids, request.things))
        np.testing.assert_array_equal(clip.referents[1], np.isin(first.ids, request.hands))
        np.testing.assert_array_equal(clip.joints, request.joints)
        assert clip.mirrors == ("clockwise" not in request.action)
    before = frames.fingerprint()
    assert before == FirstFrames(tmp_path).fingerprint()
    (tmp_path / "0000000001.json").unlink()
    assert FirstFrames(tmp_path).fingerprint() != before


def test_first_frames_of_test_seeds_are_not_for_training_and_sizes_do_not_mix(tmp_path):
    with pytest.raises(InputError, match="holds no first frames"):
        FirstFrames(tmp_path)
    for seed, size in ((900_000, 32), (900_001, 64)):
        write_first_frame(tmp_path, render_first_frame(seed, size=size))
    with pytest.raises(InputError, match="training"):
        FirstFrames(tmp_path, training=True)
    with pytest.raises(InputError, match=r"0000900001\.json.*64×64"):
        FirstFrames(tmp_path)[6]


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
        size, frames = clips.size, clips.frames

        def __len__(self):
            return 3

        def __getitem__(self, index):
            if index == 2:
                raise InputError("is damaged", where="clip 2")
            return clips[index]

    stream = Batches(Broken(), Drawing(), 0, shuffle=False).stream(range(3), 1, workers=2)
    assert [next(stream).names, next(stream).names] == [["0000000000"], ["0000000001"]]
    with pytest.raises(InputError, match="clip 2"):
        next(stream)


def test_batch_shapes_and_ranges(clips):
    batch = Batches(clips, Drawing(frames=4), 0).at(0, 3)
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
    plain = Batches(clips, Drawing(), 0).at(0, 9)
    assert plain.texts == [clips[int(name)].texts["short"][0] for name in plain.names]


def whole(clip) -> Batch:
    """A batch of one whole clip."""
    return collate([clip], [Sample(0, np.arange(16), clip.texts["short"][0], mirror=False)])


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
    batch = Batches(clips, Drawing(), 0, shuffle=False).at(0, 3)
    turned = mirrored(batch, torch.tensor([False, True, False]))
    assert torch.equal(turned.frames[[0, 2]], batch.frames[[0, 2]])
    assert torch.equal(turned.frames[1], batch.frames[1].flip(2))
    with pytest.raises(ValueError, match="cannot be mirrored"):
        mirrored(replace(batch, latents=torch.zeros(3, 1)), torch.tensor([True, False, False]))


def test_flip_mirrors_half_of_the_samples_and_their_words(clips):
    flipped = 0
    plain = whole(clips[0])
    for seed in range(200):
        batch = Batches(OneClip(clips, clips[0]), Drawing(flip=True), seed).at(0, 1)
        changed = not torch.equal(batch.frames, plain.frames)
        flipped += changed
        short = clips[0].texts["short"][0]
        assert batch.texts == [mirrored_text(short) if changed else short]
    assert 70 < flipped < 130
    fixed = OneClip(clips, replace(clips[0], mirrors=False))
    for seed in range(20):
        assert torch.equal(Batches(fixed, Drawing(flip=True), seed).at(0, 1).frames, plain.frames)


class OneClip:
    """A set of one clip."""

    def __init__(self, like, clip):
        self.name, self.size, self.frames, self.clip = like.name, like.size, like.frames, clip

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return self.clip


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
        Batches(cached, Drawing(), 0).hold(torch.device("cpu"))


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
