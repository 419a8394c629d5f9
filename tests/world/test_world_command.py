"""handi world: many clips into a folder, resumed, and refused where it must be."""

from __future__ import annotations

import json

import numpy as np

from handi.world import ACTIONS, read_clip, render_clip
from handi.world.clip import moving_parts, still_parts
from handi.world.hand import rest_hand
from handi.world.render import Renderer
from handi.world.scenes import affordances, build_scene


def test_two_workers_write_the_clips_of_the_seeds(handi, tmp_path):
    code, _, err = handi("world", "--clips", 3, "--seed", 20, "--size", 32, "--workers", 2, "--pictures",
                         "png", "--out", tmp_path)  # fmt: skip
    assert code == 0, err
    assert "3 of 3 clips" in err
    rows = json.loads((tmp_path / "clips.json").read_text())
    assert [row["video"] for row in rows] == [f"{seed:010d}.png" for seed in (20, 21, 22)]
    clip = read_clip(tmp_path / "0000000021.json")
    np.testing.assert_array_equal(clip.frames, render_clip(21, size=32).frames)
    assert rows[1]["caption"] == clip.text


def test_a_second_run_renders_only_what_is_missing(handi, tmp_path):
    command = ("world", "--clips", 2, "--size", 32, "--workers", 1, "--out", tmp_path)
    assert handi(*command)[0] == 0
    manifest = json.loads((tmp_path / "world.json").read_text())
    assert manifest.pop("area") == "moved"
    (tmp_path / "world.json").write_text(json.dumps(manifest))  # a folder of before goes on
    kept, gone = tmp_path / "0000000000.json", tmp_path / "0000000001.json"
    before, text = kept.stat().st_mtime_ns, gone.read_text()
    gone.unlink()
    assert handi(*command)[0] == 0
    assert handi(*command, "--area", "hull")[0] == 1
    assert kept.stat().st_mtime_ns == before
    assert gone.read_text() == text
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_one_action_only(handi, tmp_path):
    code, _, _ = handi(
        "world", "--clips", 2, "--size", 32, "--workers", 1, "--action", "cut", "--out", tmp_path
    )
    assert code == 0
    found = [json.loads(path.read_text())["action"] for path in tmp_path.glob("0*.json")]
    assert found == ["cut", "cut"]


def test_siblings_share_their_first_frame(handi, tmp_path):
    command = ("world", "--clips", 2, "--siblings", 2, "--size", 32, "--workers", 1, "--pictures", "png",
               "--out", tmp_path)  # fmt: skip
    code, _, err = handi(*command)
    assert code == 0
    assert "2 of 2 seeds" in err
    first, second = (read_clip(tmp_path / f"0000000001-{n}.json") for n in range(2))
    np.testing.assert_array_equal(first.frames[0], second.frames[0])
    assert first.action != second.action
    last = tmp_path / "0000000001-0.json"  # written last: without it, the seed is rendered again
    text = last.read_text()
    last.unlink()
    assert handi(*command)[0] == 0
    assert last.read_text() == text


def test_frames_of_one_renderer_are_those_of_many():
    """What was not touched since the last frame is not shaded again, and looks the same."""
    scene = build_scene(7)
    name, choice = affordances(scene)[0]
    action = ACTIONS[name](scene, choice, np.random.default_rng(0))
    still, light, skin = still_parts(scene, action), scene.light, rest_hand().skin
    kept = Renderer([*scene.backdrop, *still], light, skin, 64)
    for time in (0.0, 0.4, 0.5, 1.0):
        anew = Renderer(scene.backdrop, light, skin, 64)
        moving = moving_parts(scene, action, time)
        one, other = kept.frame(scene.camera, moving), anew.frame(scene.camera, [*still, *moving])
        np.testing.assert_array_equal(one.picture, other.picture)
        np.testing.assert_array_equal(one.identity, other.identity)


def test_other_settings_are_refused(handi, tmp_path):
    assert handi("world", "--clips", 1, "--size", 32, "--workers", 1, "--out", tmp_path)[0] == 0
    code, _, err = handi("world", "--clips", 1, "--size", 64, "--workers", 1, "--out", tmp_path)
    assert code == 1
    assert "other settings" in err
    assert err.count("\n") == 1


def test_bad_arguments_end_in_one_line(handi, tmp_path):
    for arguments, said in (
        (("--clips", 0), "0 clips"),
        (("--workers", 0), "0 workers"),
        (("--size", 33), "33 is not a size"),
        (("--seed", -5), "-5 is not a seed"),
        (("--action", "dance"), "no action 'dance'"),
    ):
        code, _, err = handi("world", *arguments, "--out", tmp_path / "x")
        assert code == 1
        assert said in err
        assert err.count("\n") == 1, err
        assert not (tmp_path / "x").exists()
