"""experiments/mini/train.py asks for trainings that exist, each from the model of the one before."""

import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from experiments.mini import train
from handi.recipes import find_recipe
from handi.training.recipe import load_recipe


def asked(monkeypatch, *arguments):
    """The trainings that the script would run, after rendering: (recipe's name, its entries)."""
    commands = []
    monkeypatch.setattr(train, "handi", lambda *given: commands.append(given))
    monkeypatch.setattr(sys, "argv", ["train.py", *map(str, arguments)])
    train.main()
    trainings = [given[1:] for given in commands if given[0] == "train"]
    assert [given[0] for given in commands[:2]] == ["world", "world"]
    return [(name, dict(zip(rest[::2], rest[1::2], strict=True))) for name, *rest in trainings]


def recipe(name, entries):
    return load_recipe(
        find_recipe(name),
        {("run.minutes" if key == "--minutes" else key[2:]): value for key, value in entries.items()},
    )


def test_from_nothing_and_on_from_a_model(monkeypatch, tmp_path):
    runs = asked(monkeypatch, "--out", tmp_path, "--minutes", *range(1, 7), "--", "--optim.lr", "5e-4")
    assert [name for name, _ in runs[:3]] == ["mini_vae", "mini_stage1", "mini_poses"]
    recipes = [recipe(*run) for run in runs if run[0] != "mini_poses"]
    assert [one.stage for one in recipes] == ["vae", "stage1", "stage2", "stage2", "stage2"]
    assert [one.run.minutes for one in recipes] == [1, 2, 4, 5, 6]
    assert [one.data.frames for one in recipes[2:]] == [5, 5, 16]
    assert all(one.optim.lr == 5e-4 for one in recipes[2:])
    assert recipes[1].optim.lr == 1e-3
    starts = [tmp_path / name / "model" for name in ("mini_vae", "mini_stage1")]
    assert [one.model.init for one in recipes[1:3]] == list(map(str, starts))
    assert recipes[2].model.from_stage1
    runs = asked(monkeypatch, "--out", tmp_path)  # without minutes: all frames come after the recipe's steps
    steps = [recipe(*run).run.steps for run in runs if run[0] == "mini_stage2"]
    assert steps[0] == steps[1] < steps[2]

    runs = asked(monkeypatch, "--out", tmp_path, "--go-on", "mini", "--train-steps", 5, 10, 10, 20)
    assert [name for name, _ in runs] == ["mini_poses", *["mini_stage2"] * 3]
    assert runs[0][1]["--data.path"] == str(tmp_path / "world/first")
    few, more, whole = (recipe(*run) for run in runs[1:])
    assert (few.model.init, whole.model.init) == ("mini", "mini")
    assert (few.run.steps, more.run.steps, whole.run.steps) == (10, 10, 20)
    assert (few.data.frames, whole.data.frames) == (5, 16)
    assert not few.model.from_stage1
    assert few.model.poses
    assert few.out == whole.out


def test_beside_the_pose_predictor_is_trained_when_its_first_frames_are_there(monkeypatch, tmp_path):
    monkeypatch.setattr(
        train, "beside", lambda command: nullcontext(SimpleNamespace(poll=lambda: 0, wait=lambda: 0))
    )
    runs = asked(monkeypatch, "--out", tmp_path, "--go-on", "mini", "--beside", "--scenes", 3)
    assert sorted(name for name, _ in runs) == ["mini_poses", *["mini_stage2"] * 3]


def test_a_number_for_every_part(monkeypatch, tmp_path, capsys):
    with pytest.raises(SystemExit):
        asked(monkeypatch, "--out", tmp_path, "--go-on", "mini", "--minutes", 1, 2, 3)
    assert (
        "there are 4 parts, not 3: mini_poses, mini_stage2, mini_stage2, mini_stage2"
        in capsys.readouterr().err
    )
