"""benchmarks/train_mini.py asks for trainings that exist, each from the model of the one before."""

import sys

import pytest
import train_mini

from handi.config import load_recipe
from handi.recipes import find_recipe


def asked(monkeypatch, *arguments):
    """The trainings that the script would run, after rendering: (recipe's name, its entries)."""
    commands = []
    monkeypatch.setattr(train_mini, "handi", lambda *given: commands.append(given))
    monkeypatch.setattr(sys, "argv", ["train_mini.py", *map(str, arguments)])
    train_mini.main()
    trainings = [given[1:] for given in commands if given[0] == "train"]
    assert [given[0] for given in commands[:2]] == ["world", "world"]
    return [(name, dict(zip(rest[::2], rest[1::2], strict=True))) for name, *rest in trainings]


def recipe(name, entries):
    return load_recipe(
        find_recipe(name),
        {("run.minutes" if key == "--minutes" else key[2:]): value for key, value in entries.items()},
    )


def test_from_nothing_and_on_from_a_model(monkeypatch, tmp_path):
    runs = asked(monkeypatch, "--out", tmp_path, "--minutes", 1, 2, 3, 4, "--", "--optim.lr", "5e-4")
    recipes = [recipe(*run) for run in runs]
    assert [one.stage for one in recipes] == ["vae", "stage1", "stage2", "stage2"]
    assert [one.run.minutes for one in recipes] == [1, 2, 3, 4]
    assert [one.data.frames for one in recipes[2:]] == [5, 16]
    assert all(one.optim.lr == 5e-4 for one in recipes)
    starts = [tmp_path / name / "model" for name in ("mini_vae", "mini_stage1", "mini_stage1")]
    assert [one.model.init for one in recipes[1:]] == list(map(str, starts))

    runs = asked(monkeypatch, "--out", tmp_path, "--go-on", "mini", "--train-steps", 10, 20)
    few, whole = (recipe(*run) for run in runs)
    assert (few.model.init, whole.model.init) == ("mini", "mini")
    assert (few.run.steps, whole.run.steps) == (10, 20)
    assert (few.data.frames, whole.data.frames) == (5, 16)
    assert not few.model.from_stage1
    assert few.model.poses
    assert few.out == whole.out


def test_a_number_for_every_part(monkeypatch, tmp_path, capsys):
    with pytest.raises(SystemExit):
        asked(monkeypatch, "--out", tmp_path, "--go-on", "mini", "--minutes", 1, 2, 3, 4)
    assert "there are 2 parts, not 4: mini_stage2, mini_stage2" in capsys.readouterr().err
