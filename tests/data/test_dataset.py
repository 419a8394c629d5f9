"""Prepared clips of the world: what was rendered, to the bit, and all that is known of it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from helpers.tiny_training import prepared, tiny_clip

from handi.core.errors import InputError
from handi.data.dataset import PreparedClips
from handi.data.ledger import read_rows
from handi.data.prepare import prepare_world
from handi.data.validate import validate
from handi.evaluation.folder import read_videos
from handi.evaluation.videos import kinds_of_area
from handi.hands.regions import tracked_region
from handi.world.files import read_clip, write_clip
from handi.world.first_frames import read_first_frame, render_first_frame, write_first_frame
from handi.world.rendering import WorldSettings, render_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("world")
    assert not render_folder(out, clips=3, seed=0, settings=WorldSettings(size=32))
    return out


@pytest.fixture(scope="module")
def clips(folder):
    return PreparedClips(prepared(folder))


def test_a_world_folder_s_manifest_says_what_its_motion_area_is(folder, tmp_path):
    """In training and in measuring."""
    other = tmp_path / "clips"
    shutil.copytree(folder, other)
    manifest = json.loads((other / "world.json").read_text())
    assert manifest.pop("area") == "moved"
    for area, said in (("moved", manifest), ("hull", {**manifest, "area": "hull"})):  # without, it is moved
        (other / "world.json").write_text(json.dumps(said))
        read, side = PreparedClips(prepared(other, tmp_path / area)), read_videos(other)
        truth = getattr(read_clip(other / "0000000000.json"), f"area_{area}")
        assert np.array_equal(read[0].area, truth)
        assert np.array_equal(side["0000000000"].area(), truth)
        assert (read.kind_of_area, kinds_of_area(side.values())) == (area, [area])
    (other / "world.json").write_text(json.dumps({**manifest, "area": "all"}))
    with pytest.raises(InputError, match="area is 'all'; use moved or hull"):
        prepared(other, tmp_path / "all")


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


def test_first_frames_are_clips_of_one_frame_and_six_requests(tmp_path):
    settings = WorldSettings(size=32, first_frames=True)
    assert not render_folder(tmp_path / "world", clips=3, seed=0, settings=settings)
    frames = PreparedClips(prepared(tmp_path / "world", tmp_path / "shards"))
    assert (len(frames), frames.size, frames.frames, frames.together) == (18, (32, 32), 1, 6)
    first = read_first_frame(tmp_path / "world/0000000001.json")
    asked = [next(r for r in first.requests if (r.text,) == frames[6 + n].texts["short"]) for n in range(6)]
    actions = {request.action for request in first.requests}
    assert {request.action for request in asked[: len(actions)]} == actions  # in turn
    for n, request in enumerate(asked):
        clip = frames[6 + n]
        np.testing.assert_array_equal(clip.frames, first.frame[None])
        np.testing.assert_array_equal(clip.referents[0], np.isin(first.ids, request.things))
        np.testing.assert_array_equal(clip.referents[1], np.isin(first.ids, request.hands))
        np.testing.assert_array_equal(clip.way, request.joints)
        np.testing.assert_array_equal(clip.joints, request.joints[:1])
        words = frames.words(6 + n)
        assert (words.texts, words.mirrors) == (clip.texts, "clockwise" not in request.action)
    (tmp_path / "world/0000000001.json").unlink()
    fewer = PreparedClips(prepared(tmp_path / "world", tmp_path / "shards"))
    assert fewer.fingerprint() != frames.fingerprint()
    assert validate(tmp_path / "shards") == []


def test_first_frames_of_test_seeds_are_not_for_training_and_sizes_do_not_mix(tmp_path):
    for seed, size in ((900_000, 32), (900_001, 64)):
        write_first_frame(tmp_path / "world", render_first_frame(seed, size=size))
    shards = prepared(tmp_path / "world", tmp_path / "shards")
    with pytest.raises(InputError, match="no clips of the split 'train'; it has 1 test"):
        PreparedClips(shards)
    (row,) = [row for row in read_rows(shards / "ledger.jsonl") if row["status"] == "rejected"]
    assert (row["id"], row["reason"]) == ("0000900001", "is a first frame of 64×64, others are 32×32")


def test_rendered_straight_into_shards_a_clip_has_the_same_bytes(tmp_path):
    settings = WorldSettings(size=32, siblings=2)
    assert not render_folder(tmp_path / "world", clips=2, seed=0, settings=settings)
    by_files = prepared(tmp_path / "world", tmp_path / "one") / "shards"
    prepare_world([0, 1], settings, tmp_path / "two")
    assert len(PreparedClips(tmp_path / "two")) == len(PreparedClips(tmp_path / "one")) > 2
    (ours,), (theirs,) = by_files.glob("*.tar"), (tmp_path / "two/shards").glob("*.tar")
    assert ours.read_bytes() == theirs.read_bytes()


def test_some_frames_are_those_of_the_whole_clip(clips):
    whole, some = clips[1], clips.read(1, [0, 3, 11])
    for name in ("frames", "joints", "visible", "rois"):
        assert np.array_equal(getattr(some, name), getattr(whole, name)[[0, 3, 11]])
    for name in ("area", "way", "referents"):
        assert np.array_equal(getattr(some, name), getattr(whole, name))


def test_shards_are_read_while_more_are_written(tmp_path):
    """Those that there are, and a clip that was read before reads the same when its shard has grown."""
    for seed in range(5):
        write_clip(tmp_path / "world", tiny_clip(seed))
    out = prepared(tmp_path / "world", tmp_path / "out")
    whole = PreparedClips(out, unfinished=True)
    (out / "prepared.json").unlink()
    with pytest.raises(InputError, match="not finished"):
        PreparedClips(out)
    there = PreparedClips(out, unfinished=True)
    assert there.fingerprint() == whole.fingerprint()
    assert np.abs(there.prior() - whole.prior()).max() < 1e-5
    before = there[4]
    write_clip(tmp_path / "world", replace(tiny_clip(5)))
    prepared(tmp_path / "world", out)
    (out / "prepared.json").unlink()
    assert np.array_equal(there[4].frames, before.frames)
    assert len(PreparedClips(out, unfinished=True)) == 6
    (out / "shards/train-00000.jsonl").unlink()
    with pytest.raises(InputError, match="no clips of the split 'train'"):
        PreparedClips(out, unfinished=True)


def test_any_number_of_frames_at_any_rate(tmp_path):
    """The whole action takes (frames - 1) / fps seconds; the seconds are kept, in files and in shards."""
    settings = WorldSettings(size=32, frames=9, fps=4.0)
    assert not render_folder(tmp_path / "world", clips=1, seed=0, settings=settings)
    clip = read_clip(tmp_path / "world/0000000000.json")
    assert (len(clip.frames), clip.joints2d.shape, clip.fps) == (9, (9, 42, 2), 4.0)
    shards = PreparedClips(prepared(tmp_path / "world", tmp_path / "out"))
    assert (shards.frames, shards[0].frames.shape, shards.row(0)["seconds"]) == (9, (9, 32, 32, 3), 2.0)
