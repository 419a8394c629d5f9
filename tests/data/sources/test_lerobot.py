"""LeRobot datasets, v3 and v2.1: episodes, tasks, cameras and hands; from the files to readable shards."""

from __future__ import annotations

import json

import numpy as np
import pytest
from helpers.lerobot_layout import EGO, FPS, WRIST, Episode, write_v2, write_v3
from helpers.small_footage import simple_tools

from handi.core.errors import InputError
from handi.data.dataset import PreparedClips
from handi.data.sources import read_source
from handi.data.sources.held_out import hold_out

CUT, STIR, POUR = "Cut the carrot.", "stir the soup", "Pour the water."


@pytest.fixture(params=["v3", "v2"])
def write(request):
    return write_v3 if request.param == "v3" else write_v2


def moving_hand(frames: int) -> np.ndarray:
    """A left hand that moves right, one 100th of the picture per frame; no right hand."""
    joints = np.zeros((frames, 2, 21, 2), np.float32)
    joints[:, 0, :, 0] = 0.3 + 0.01 * np.arange(21) + 0.01 * np.arange(frames)[:, None]
    joints[:, 0, :, 1] = 0.4 + 0.01 * (np.arange(21) % 5)
    return joints.reshape(frames, 42, 2)


@pytest.fixture
def prepare(handi, monkeypatch):
    """`handi prepare lerobot`, with hands that need no network."""
    monkeypatch.setattr("handi.data.prepare.ToolsMaker.__call__", lambda self, number: simple_tools(number))

    def run(root, out, *more):
        return handi("prepare", "lerobot", root, "--out", out, "--executor", "serial", "--pictures", "png",
                     "--camera", "ignore", *more)  # fmt: skip

    return run


def test_an_episode_is_a_clip_with_its_task(write, tmp_path):
    episodes = [Episode([CUT] * 20), Episode([STIR] * 24, brightness=100), Episode([CUT] * 18)]
    found = read_source("lerobot", write(tmp_path / "set", episodes))
    assert [clip.id for clip in found.clips] == [f"episode_{number:06d}" for number in range(3)]
    assert [clip.action for clip in found.clips] == [CUT, STIR, CUT]
    assert [clip.problem for clip in found.clips] == [None] * 3
    assert not found.has_splits
    assert all(clip.end - clip.start == pytest.approx((n - 1) / FPS)
               for clip, n in zip(found.clips, (20, 24, 18), strict=True))  # fmt: skip
    assert found.notes == [f"videos of {EGO}"]


def test_frames_are_those_of_the_episode_in_a_shared_video(prepare, write, tmp_path):
    episodes = [
        Episode([CUT] * 20),
        Episode([STIR] * 16, brightness=150),
        Episode([CUT] * 17, brightness=100),
    ]
    root = write(tmp_path / "set", episodes)
    code, _, err = prepare(root, tmp_path / "out", "--size", "48x64", "--held-out", "0")
    assert code == 0, err
    assert "train: 3 of 3 clips kept" in err
    clips = PreparedClips(tmp_path / "out")
    for number, episode in enumerate(episodes):
        chosen = np.round(np.linspace(0, len(episode.tasks) - 1, 16)).astype(int)
        np.testing.assert_array_equal(clips[number].frames, episode.pictures()[chosen])
    assert clips[1].texts == {"short": (STIR,)}
    assert "held out" not in err


def test_files_of_their_own_are_found(tmp_path):
    episodes = [Episode([CUT] * 16, brightness=100 + 10 * number) for number in range(4)]
    found = read_source("lerobot", write_v3(tmp_path, episodes, files=2))
    assert [(clip.video.name, clip.start) for clip in found.clips] == [
        ("file-000.mp4", 0.0), ("file-000.mp4", 1.6), ("file-001.mp4", 0.0), ("file-001.mp4", 1.6),
    ]  # fmt: skip


def test_an_episode_of_several_tasks_is_cut_where_they_change(write, tmp_path):
    episodes = [Episode([POUR] * 16), Episode([CUT] * 18 + [STIR] * 20 + [CUT] * 16)]
    found = read_source("lerobot", write(tmp_path, episodes))
    begin = found.clips[1].start
    assert [(clip.id, clip.action, round(clip.start - begin, 3)) for clip in found.clips[1:]] == [
        ("episode_000001.0", CUT, 0.0), ("episode_000001.1", STIR, 1.8), ("episode_000001.2", CUT, 3.8),
    ]  # fmt: skip
    held = hold_out(found, 0.5).clips
    assert {clip.split for clip in held} == {"train", "val"}
    assert len({clip.split for clip in held[1:]}) == 1  # an episode stays together


def test_the_data_set_s_own_hands_take_the_place_of_the_detector_s(prepare, write, tmp_path):
    episodes = [Episode([STIR] * 20, joints=moving_hand(20) * 0), Episode([CUT] * 31, joints=moving_hand(31))]
    root = write(tmp_path / "set", episodes)
    basic = ("--held-out", "0", "--size", "48x48")
    code, _, err = prepare(root, tmp_path / "out", *basic)
    assert code == 0, err
    assert "hands of observation.hands.joints" in err
    assert "train: 1 of 2 clips kept" in err
    ledger = [json.loads(line) for line in (tmp_path / "out/ledger.jsonl").read_text().splitlines()]
    assert ledger[0]["reason"] == "no hands were found"
    clip = PreparedClips(tmp_path / "out")[0]
    assert clip.visible.tolist() == [[True, False]] * 16
    # 64 wide, cropped to the middle 48: x' = (64x - 8) / 48
    expected = moving_hand(31)[::2, :21]
    np.testing.assert_allclose(clip.joints[:, :21, 0], (expected[..., 0] * 64 - 8) / 48, atol=1e-5)
    np.testing.assert_allclose(clip.joints[:, :21, 1], expected[..., 1], atol=1e-6)
    assert not clip.joints[:, 21:].any()
    row, column = (clip.joints[8, 5] * 48).astype(int)[::-1]
    assert clip.area[row, column]
    assert clip.rois[0, 0, 2] > 0
    assert not clip.rois[:, 1].any()
    code, _, err = prepare(root, tmp_path / "detected", *basic, "--truth", "none")
    assert code == 0, err
    assert "train: 2 of 2 clips kept" in err
    code, _, err = prepare(root, tmp_path / "out", *basic, "--truth", "none")
    assert (code, "holds clips of other settings: hands known" in err) == (1, True), err


def test_which_camera(write, tmp_path):
    episodes = [Episode([CUT] * 16)]
    two = write(tmp_path / "two", episodes, cameras=(WRIST, EGO))
    assert EGO in str(read_source("lerobot", two).clips[0].video)
    assert WRIST in str(read_source("lerobot", two, camera=WRIST).clips[0].video)
    with pytest.raises(InputError, match=f"has no videos of top; use one of {WRIST}, {EGO}"):
        read_source("lerobot", two, camera="top")
    unclear = write(tmp_path / "unclear", episodes, cameras=("observation.images.a", "observation.images.b"))
    with pytest.raises(InputError, match=r"2 cameras; --camera-key: one of observation.images.a, "):
        read_source("lerobot", unclear)


def test_splits_that_it_names_are_its_own(write, tmp_path):
    episodes = [Episode([CUT] * 16) for _ in range(4)]
    found = read_source(
        "lerobot", write(tmp_path, episodes, splits={"train": "0:2", "val": "2:3", "test": "3:4"})
    )
    assert [clip.split for clip in found.clips] == ["train", "train", "val", "test"]
    assert found.has_splits


def test_what_is_missing_is_said(write, tmp_path):
    episodes = [Episode([CUT] * 16), Episode([""] * 16)]
    root = write(tmp_path / "set", episodes)
    assert read_source("lerobot", root).clips[1].problem == "has no task"
    for video in root.rglob("*.mp4"):
        video.unlink()
    with pytest.raises(InputError, match=f"there is no video of {EGO} for episode 0"):
        read_source("lerobot", root)
    info = json.loads((root / "meta/info.json").read_text())
    for change, message in (
        ({"codebase_version": "v1.6"}, "has the version v1.6; v3 and v2 can be read"),
        ({"features": {"observation.images.ego": {"dtype": "image"}}}, "keeps its pictures in tables"),
        ({"fps": 0}, "0 frames per second"),
        ({"video_path": "{nothing}.mp4"}, "is damaged"),
    ):
        (root / "meta/info.json").write_text(json.dumps(info | change))
        with pytest.raises(InputError, match=message):
            read_source("lerobot", root)
    with pytest.raises(InputError, match="is no LeRobot dataset"):
        read_source("lerobot", tmp_path)


def test_a_feature_of_another_shape_is_no_joints(write, tmp_path):
    root = write(tmp_path, [Episode([CUT] * 16, extra={"action": [[0.0] * 7] * 16})])
    for key, message in (("action", r"shape \[7\]; the 2-D joints"), ("x", "has no feature x; use")):
        with pytest.raises(InputError, match=message):
            read_source("lerobot", root, hands=key)
