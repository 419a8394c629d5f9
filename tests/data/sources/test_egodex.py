"""EgoDex: 3-D joints through the camera into the picture, descriptions, splits; from the files to shards."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from helpers.small_footage import movie, simple_tools

from handi.core.errors import InputError
from handi.data.dataset import PreparedClips
from handi.data.sources import read_source
from handi.data.sources.egodex import JOINTS

FOCUS = np.array([[736.6339, 0, 960], [0, 736.6339, 540], [0, 0, 1]])
FRAMES = 24


def turned(angle: float) -> np.ndarray:
    """4×4, a turn about the vertical axis and a step aside."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, 0, sin, 0.1], [0, 1, 0, -0.2], [-sin, 0, cos, 0.3], [0, 0, 0, 1]])


def hand_in_camera(side: str, frame: int) -> np.ndarray:
    """21×3 m, before the camera: a hand that moves to the right."""
    number = np.arange(21)
    x = (-0.25 if side == "left" else 0.05) + 0.005 * number + 0.002 * frame
    return np.stack([x, 0.02 * (number % 5), np.full(21, 0.5)], axis=1)


def write_episode(path, *, behind=(), unsure=(), confidences=True, **attributes):
    """A video of small frames, and the HDF5 file beside it; the camera turns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    movie(path.with_suffix(".mp4"), FRAMES, (54, 96))
    cameras = np.stack([turned(0.01 * frame) for frame in range(FRAMES)])
    with h5py.File(path, "w") as file:
        file["camera/intrinsic"] = FOCUS.astype(np.float32)
        file["transforms/camera"] = cameras.astype(np.float32)
        for side in ("left", "right"):
            joints = np.stack([hand_in_camera(side, frame) for frame in range(FRAMES)])
            if side in behind:
                joints[..., 2] *= -1
            for place, name in enumerate(JOINTS):
                poses = np.tile(np.eye(4), (FRAMES, 1, 1))
                poses[:, :3, 3] = joints[:, place]
                file[f"transforms/{side}{name}"] = (cameras @ poses).astype(np.float32)
                if confidences:
                    file[f"confidences/{side}{name}"] = np.full(FRAMES, 0.1 if side in unsure else 1.0)
        for name, value in ({"llm_description": "Put the lid on."} | attributes).items():
            file.attrs[name] = value
    return path


def pixels(side: str, frame: int) -> np.ndarray:
    """21×2, shares of the picture's sides."""
    points = hand_in_camera(side, frame)
    return (points[:, :2] / points[:, 2:] * FOCUS[0, 0] + (960, 540)) / (1920, 1080)


def test_joints_are_projected_in_mediapipe_s_order(tmp_path):
    write_episode(tmp_path / "part1/lid/0.hdf5")
    clip = read_source("egodex", tmp_path).clips[0]
    found = clip.hands.at([0.0, 5 / 30, 23 / 30]).reshape(3, 2, 21, 2)
    for row, frame in enumerate((0, 5, 23)):
        for hand, side in enumerate(("left", "right")):
            np.testing.assert_allclose(found[row, hand], pixels(side, frame), atol=1e-5)
    assert JOINTS[0] == "Hand"
    assert JOINTS[1] == "ThumbKnuckle"
    assert (JOINTS[5], JOINTS[8], JOINTS[20]) == ("IndexFingerKnuckle", "IndexFingerTip", "LittleFingerTip")
    with pytest.raises(InputError, match=r"0.hdf5: has poses of 24 frames, 31 are needed"):
        clip.hands.at([1.0])


@pytest.mark.parametrize("fault", [{"behind": ("right",)}, {"unsure": ("right",)}])
def test_a_hand_that_is_not_seen_is_none(tmp_path, fault):
    write_episode(tmp_path / "lid/0.hdf5", **fault)
    found = read_source("egodex", tmp_path).clips[0].hands.at([0.0])
    assert found[0, :21].all()
    assert not found[0, 21:].any()


def test_descriptions_and_splits(tmp_path):
    undo = {"llm_type": "reversible", "llm_description2": "Take the lid off."}
    write_episode(tmp_path / "part1/lid/0.hdf5", which_llm_description="1", **undo)
    write_episode(tmp_path / "part1/lid/1.hdf5", which_llm_description="2", llm_verbs=["take"], **undo)
    write_episode(tmp_path / "test/lid/0.hdf5", llm_description="", description="Close the pot.")
    write_episode(tmp_path / "test/lid/1.hdf5", llm_description="")
    (tmp_path / "test/lid/2.hdf5").write_bytes(b"nothing")
    movie(tmp_path / "test/lid/2.mp4")
    movie(tmp_path / "test/lid/3.mp4")
    found = read_source("egodex", tmp_path)
    assert [clip.action for clip in found.clips[:3]] == [
        "Put the lid on.",
        "Take the lid off.",
        "Close the pot.",
    ]
    assert [clip.split for clip in found.clips] == ["train", "train", "test", "test", "test"]
    assert found.clips[1].verb == "take"
    assert found.clips[0].id == "part1.lid.0"
    assert found.clips[3].problem == "has no description"
    assert found.clips[4].problem.startswith("2.hdf5 cannot be read")
    assert found.notes == ["1 videos without an .hdf5 file, not read"]
    (empty := tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"holds no .hdf5 files"):
        read_source("egodex", empty)


def test_from_the_files_to_a_shard_without_a_detector(handi, tmp_path, monkeypatch):
    monkeypatch.setattr("handi.data.prepare.ToolsMaker.__call__", lambda self, number: simple_tools(number))
    # Small videos run at 10 frames per second; the poses are those of 30.
    monkeypatch.setattr("handi.data.sources.egodex.FPS", 10.0)
    write_episode(tmp_path / "EgoDex/lid/0.hdf5", confidences=False)
    code, _, err = handi("prepare", "egodex", tmp_path / "EgoDex", "--out", tmp_path / "out",
                         "--size", "48x48", "--executor", "serial", "--camera", "ignore",
                         "--held-out", "0")  # fmt: skip
    assert code == 0, err
    clips = PreparedClips(tmp_path / "out")
    assert clips.models == {}
    clip = clips[0]
    assert clip.texts == {"short": ("Put the lid on.",)}
    # 54×96 is cropped to its middle 54×54.
    wide = pixels("left", 23)
    np.testing.assert_allclose(clip.joints[-1, :21, 0], (wide[:, 0] * 96 - 21) / 54, atol=1e-4)
    np.testing.assert_allclose(clip.joints[-1, :21, 1], wide[:, 1], atol=1e-4)
    assert clip.visible.all()
    assert 0 < clip.area.mean() < 0.5
