"""`handi prepare`: from a folder of videos to shards, and what it says on the way."""

from __future__ import annotations

import json

from helpers.small_footage import movie, simple_tools

from handi.data.dataset import PreparedClips
from handi.evaluation.folder import read_videos
from handi.world import render_clip
from handi.world.files import write_clip


def test_world_clips_by_the_detector_and_by_their_truth(handi, tmp_path):
    for seed in (3, 900_003):
        write_clip(tmp_path / "world", render_clip(seed, size=128), pictures="png")
    basic = ("prepare", "world", tmp_path / "world", "--executor", "serial")
    out = tmp_path / "found"
    code, _, err = handi(*basic, "--out", out, "--truth", "none", "--model", "mini", "--pictures", "none")
    assert code == 0, err
    assert "train: 1 of 1 clips kept" in err
    assert "test: 1 of 1 clips kept" in err
    found = PreparedClips(out)
    assert found.models.keys() == {"hands", "vae"}
    assert found.row(0)["camera"] < 0.02  # a still camera
    found.latents = True
    assert found[0].latents.shape == (16, 32, 16, 16)
    code, _, err = handi(*basic, "--out", tmp_path / "true")
    assert code == 0, err
    true = PreparedClips(tmp_path / "true")
    both = (found[0].area & true[0].area).sum() / found[0].area.sum()
    assert both > 0.5
    code, _, err = handi(*basic, "--out", out, "--truth", "none", "--model", "mini",
                         "--hull", "all", "--pictures", "none")  # fmt: skip
    assert code == 1
    assert "holds clips of other settings: hull hand, not all" in err


def test_wrong_use(handi, tmp_path):
    movie(tmp_path / "a.mp4")
    (tmp_path / "a.txt").write_text("Cut the carrot.")
    basic = ("prepare", "folder", tmp_path, "--out", tmp_path / "out")
    for more, code, message in (
        (("--pictures", "none"), 2, "say whose, by --model"),
        (("--text-states",), 2, "needs a --model"),
        (("--enrich-model", "x"), 2, "needs --enrich"),
        (("--ray-address", "auto"), 2, "need --executor ray"),
        (("--truth", "hull"), 2, "for clips of the synthetic world, not for folder"),
        (("--size", "30x40"), 1, "multiples of 8"),
        (("--limit", "0"), 1, "--limit"),
        (("--held-out", "1.5"), 1, "--held-out 1.5; use a share"),
        (("--workers", "0", "--executor", "processes"), 1, "use 1 or more"),
        (("--model", str(tmp_path / "nowhere")), 1, "nowhere"),
    ):
        found, _, err = handi(*basic, *more)
        assert (found, message in err) == (code, True), (more, err)
    assert not (tmp_path / "out").exists()
    code, _, err = handi("prepare", "folder", tmp_path / "none", "--out", tmp_path / "out")
    assert code == 1
    assert str(tmp_path / "none") in err


def test_a_folder_with_a_bad_video(handi, tmp_path):
    footage = tmp_path / "footage"
    footage.mkdir()
    movie(footage / "a.mp4", brightness=90)  # no hand in it
    (footage / "a.txt").write_text("Cut the carrot.")
    (footage / "b.mp4").write_bytes(b"nothing")
    (footage / "b.txt").write_text("Cut the carrot.")
    out = tmp_path / "out"
    code, _, err = handi(
        "prepare", "folder", footage, "--out", out, "--size", "64x64", "--executor", "serial",
        "--complexity", "lite", "--held-out", "0",
    )  # fmt: skip
    assert code == 1
    assert "train: 0 of 2 clips kept" in err
    assert "not one clip was kept" in err
    reasons = [json.loads(line)["reason"] for line in (out / "ledger.jsonl").read_text().splitlines()]
    assert reasons[0] == "no hands were found"
    assert "damaged" in reasons[1]


def test_a_folder_keeps_a_held_out_split(handi, tmp_path, monkeypatch):
    """Training and evaluation find one without a word; it depends on the videos alone."""
    monkeypatch.setattr("handi.data.prepare.ToolsMaker.__call__", lambda self, number: simple_tools(number))
    footage = tmp_path / "footage"
    for n in range(4):
        movie(footage / f"{n}.mp4", brightness=100 + 10 * n)
        (footage / f"{n}.txt").write_text("Cut the carrot.")
    folders = []
    for name, clips_per_shard in (("a", 1), ("b", 64)):
        folders.append(tmp_path / name)
        code, _, err = handi("prepare", "folder", footage, "--out", folders[-1], "--size", "32x32",
                             "--executor", "serial", "--clips-per-shard", clips_per_shard)  # fmt: skip
        assert code == 0, err
        assert "held out: 1 of 4 videos are the split val" in err
    held = [PreparedClips(folder, "held-out") for folder in folders]
    assert [(one.split, len(one)) for one in held] == [("val", 1)] * 2
    assert held[0].row(0)["id"] == held[1].row(0)["id"]
    assert list(read_videos(folders[0])) == [held[0].row(0)["id"]]
    code, _, err = handi("prepare", "folder", footage, "--out", folders[0], "--size", "32x32",
                         "--executor", "serial", "--clips-per-shard", 1, "--held-out", "0.5")  # fmt: skip
    assert code == 1
    assert "holds clips of other settings" in err
