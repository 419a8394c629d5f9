"""WebDataset tars of videos and texts: read where they lie, from the files to readable shards."""

from __future__ import annotations

import io
import json
import tarfile

import numpy as np
import pytest
from helpers.small_footage import movie, simple_tools

from handi.core.errors import InputError
from handi.core.video import read_video
from handi.data.dataset import PreparedClips
from handi.data.sources import read_source


def write_tar(path, members: dict[str, bytes], mode="w"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """The bytes of three videos."""
    folder = tmp_path_factory.mktemp("videos")
    return [movie(folder / f"{b}.mp4", brightness=b).read_bytes() for b in (200, 150, 100)]


def test_samples_are_clips_with_what_their_json_says(tmp_path, videos):
    row = {"caption": "Cut the carrot.", "start": 0.2, "end": 2.0, "split": "val", "factory": 7}
    tar = write_tar(tmp_path / "part-000.tar", {
        "a/000001.mp4": videos[0], "a/000001.json": json.dumps(row).encode(),
        "a/000002.mp4": videos[1], "a/000002.txt": b"Stir the soup.\n",
        "a/000003.mp4": videos[2],
        "a/000004.mp4": videos[2], "a/000004.json": b"{",
        "a/notes.json": b"{}",
    })  # fmt: skip
    found = read_source("webdataset", tar)
    first, second, third, fourth = found.clips
    assert (first.id, first.action, first.split) == ("part-000.a.000001", "Cut the carrot.", "val")
    assert (first.start, first.end) == (0.2, 2.0)
    assert (second.action, second.problem) == ("Stir the soup.", None)
    assert third.problem == "has no action or caption"
    assert fourth.problem.startswith("its text cannot be read")
    assert found.notes == ["not read: factory"]
    assert found.has_splits


def test_a_video_in_a_tar_is_the_video(tmp_path, videos):
    tar = write_tar(tmp_path / "part.tar", {"x.bin": b"1" * 1000, "1.mp4": videos[0], "2.mp4": b""})
    (tmp_path / "1.mp4").write_bytes(videos[0])
    np.testing.assert_array_equal(read_video(tar / "1.mp4"), read_video(tmp_path / "1.mp4"))
    for name, message in (
        ("3.mp4", r"part.tar: holds no 3.mp4"),
        ("2.mp4", "is empty"),
        ("x.bin", "damaged"),
    ):
        with pytest.raises(InputError, match=message):
            read_video(tar / name)


def test_from_tars_to_shards_and_a_tar_that_changes(handi, tmp_path, videos, monkeypatch):
    monkeypatch.setattr("handi.data.prepare.ToolsMaker.__call__", lambda self, number: simple_tools(number))
    for number, video in enumerate(videos):
        text = json.dumps({"action": f"Cut {number}."}).encode()
        write_tar(tmp_path / f"set/{number}.tar", {"clip.mp4": video, "clip.json": text})
    command = ("prepare", "webdataset", tmp_path / "set", "--out", tmp_path / "out", "--size", "48x64",
               "--executor", "serial", "--camera", "ignore", "--pictures", "png",
               "--held-out", "0")  # fmt: skip
    code, _, err = handi(*command)
    assert code == 0, err
    clips = PreparedClips(tmp_path / "out")
    assert [clips[n].texts["short"] for n in range(3)] == [("Cut 0.",), ("Cut 1.",), ("Cut 2.",)]
    assert [int(clips[n].frames[0, 0, 0, 0]) for n in range(3)] == [200, 150, 100]
    write_tar(tmp_path / "set/1.tar", {"clip.mp4": videos[2] + b"\0" * 600, "clip.txt": b"Cut 1."})
    assert handi(*command)[0] == 0
    assert int(PreparedClips(tmp_path / "out")[1].frames[0, 0, 0, 0]) == 100


def test_what_is_no_tar_of_videos(tmp_path, videos):
    gz = write_tar(tmp_path / "gz/a.tar", {"1.mp4": videos[0]}, "w:gz")
    for path, message in (
        (gz, "compressed or not a tar"),
        (write_tar(tmp_path / "none/a.tar", {"a.txt": b"x"}), "holds no videos"),
        (tmp_path, "a.tar"),
        (tmp_path / "nowhere", "holds no .tar files"),
    ):
        with pytest.raises(InputError, match=message):
            read_source("webdataset", path)
