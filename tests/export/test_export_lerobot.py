"""`handi export --to lerobot`: a v3.0 dataset by its documentation, and read back by `handi prepare`."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers.small_footage import movie, simple_tools

from handi.core.video import read_video
from handi.data.dataset import PreparedClips

LENGTH = 16
CAMERA, AREA = "observation.images.ego", "observation.images.motion_area"
JOINTS = "observation.hands.joints"


@pytest.fixture
def prepared(handi, tmp_path, monkeypatch):
    """Three clips of two splits."""
    monkeypatch.setattr("handi.data.prepare.ToolsMaker.__call__", lambda self, number: simple_tools(number))
    footage = tmp_path / "footage"
    lines = []
    for number, split in enumerate(("train", "train", "test")):
        movie(footage / f"{number}.mp4", brightness=220 - 40 * number)
        row = {
            "video": f"{number}.mp4",
            "action": "Cut.",
            "split": split,
            "description": f"Cut it {number % 2}.",
        }
        lines.append(json.dumps(row))
    (footage / "list.jsonl").write_text("\n".join(lines))
    code, _, err = handi("prepare", "folder", footage / "list.jsonl", "--out", tmp_path / "prepared",
                         "--size", "32x48", "--executor", "serial", "--camera", "ignore",
                         "--pictures", "png")  # fmt: skip
    assert code == 0, err
    return tmp_path / "prepared"


class Dataset:
    """A LeRobot v3.0 dataset, read as its documentation says: everything by info.json."""

    def __init__(self, root):
        self.root, self.info = root, json.loads((root / "meta/info.json").read_text())
        self.episodes = [
            row
            for path in sorted(root.glob("meta/episodes/*/*.parquet"))
            for row in pq.read_table(path).to_pylist()
        ]
        self.tasks = pq.read_table(root / "meta/tasks.parquet").to_pandas()

    def frames(self, episode: int, key: str) -> np.ndarray:
        row = self.episodes[episode]
        place = {name: row[f"videos/{key}/{name}"] for name in ("chunk_index", "file_index")}
        video = read_video(self.root / self.info["video_path"].format(video_key=key, **place))
        first, after = (
            round(row[f"videos/{key}/{end}_timestamp"] * self.info["fps"]) for end in ("from", "to")
        )
        return video[first:after]

    def rows(self, episode: int) -> list[dict]:
        row = self.episodes[episode]
        place = {name: row[f"data/{name}"] for name in ("chunk_index", "file_index")}
        table = pq.read_table(self.root / self.info["data_path"].format(**place)).to_pylist()
        return [line for line in table if line["episode_index"] == episode]


def test_the_layout_is_that_of_v3(handi, prepared, tmp_path, monkeypatch):
    monkeypatch.setattr("handi.export.lerobot.GROUP", 2)
    out = tmp_path / "set"
    code, _, err = handi("export", prepared, "--to", "lerobot", "--out", out)
    assert code == 0, err
    assert "2 train, 1 test clips" in err
    found = Dataset(out)
    info = found.info
    assert (info["codebase_version"], info["fps"], info["total_frames"]) == ("v3.0", 8, 3 * LENGTH)
    assert info["splits"] == {"train": "0:2", "test": "2:3"}
    assert len(list(out.glob("data/*/*.parquet"))) == 2
    clips = [PreparedClips(prepared, "train")[0], PreparedClips(prepared, "train")[1],
             PreparedClips(prepared, "test")[0]]  # fmt: skip
    for number, clip in enumerate(clips):
        episode, rows = found.episodes[number], found.rows(number)
        assert (episode["episode_index"], episode["length"]) == (number, LENGTH)
        assert [row["index"] for row in rows] == list(range(number * LENGTH, (number + 1) * LENGTH))
        assert [row["timestamp"] for row in rows] == pytest.approx([n / 8 for n in range(LENGTH)])
        assert episode["tasks"] == [clip.texts["enriched"][0]]
        assert found.tasks.loc[episode["tasks"][0]].task_index == rows[0]["task_index"]
        assert np.abs(found.frames(number, CAMERA).astype(int) - clip.frames).mean() < 4
        area = found.frames(number, AREA)[..., 0] > 127
        assert (area == clip.area).mean() > 0.98
        np.testing.assert_allclose([row[JOINTS] for row in rows], clip.joints)
        assert [row["observation.hands.visible"] for row in rows] == clip.visible.tolist()
    stats = json.loads((out / "meta/stats.json").read_text())
    assert np.shape(stats[CAMERA]["mean"]) == (3, 1, 1)
    joints = np.concatenate([clip.joints for clip in clips])
    np.testing.assert_allclose(stats[JOINTS]["std"], joints.std(0), atol=1e-5)
    assert stats[JOINTS]["count"] == [3 * LENGTH]


def test_it_comes_back_through_prepare(handi, prepared, tmp_path):
    assert handi("export", prepared, "--to", "lerobot", "--out", tmp_path / "set", "--fps", "10")[0] == 0
    code, _, err = handi("prepare", "lerobot", tmp_path / "set", "--out", tmp_path / "again",
                         "--size", "32x48", "--executor", "serial", "--camera", "ignore",
                         "--pictures", "png")  # fmt: skip
    assert code == 0, err
    before, after = PreparedClips(prepared)[1], PreparedClips(tmp_path / "again")[1]
    np.testing.assert_allclose(after.joints, before.joints, atol=1e-6)
    np.testing.assert_array_equal(after.area, before.area)
    assert after.texts == {"short": before.texts["enriched"]}
    assert np.abs(after.frames.astype(int) - before.frames).mean() < 4


def test_a_run_that_was_stopped_makes_what_is_missing(handi, prepared, tmp_path, monkeypatch):
    monkeypatch.setattr("handi.export.lerobot.GROUP", 1)
    out = tmp_path / "set"
    command = ("export", prepared, "--to", "lerobot", "--out", out)
    assert handi(*command)[0] == 0
    content = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    times = {path: path.stat().st_mtime_ns for path in content if "file-001" not in path.name}
    for path in out.rglob("file-001*"):
        path.unlink()
    assert handi(*command)[0] == 0
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == content
    videos = [path for path in times if path.suffix == ".mp4"]
    assert all(path.stat().st_mtime_ns == times[path] for path in videos)
    code, _, err = handi(*command, "--text", "short")
    assert (code, "holds another export" in err) == (1, True)
