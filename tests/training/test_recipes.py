"""The recipes that ship: each can be read, says how it is run, and means what its header says."""

from __future__ import annotations

import re

import pytest

from handi.core.errors import InputError
from handi.recipes import HOME, bundled, find_recipe
from handi.training.loop import train
from handi.training.module import PARTS
from handi.training.recipe import load_recipe
from handi.training.setup import NETWORK


@pytest.mark.parametrize("name", bundled())
def test_a_bundled_recipe(name):
    recipe = load_recipe(find_recipe(name))
    header = [line for line in (HOME / f"{name}.yaml").read_text().splitlines() if line.startswith("#")]
    text = "\n".join(header)
    assert f"train {name}" in text
    for entry in ("hardware  ", "time      ", "expected  "):
        assert entry in text
    assert recipe.name == name
    assert str(recipe.out) == f"runs/{name}"
    assert NETWORK[recipe.stage] in PARTS


@pytest.mark.parametrize(("name", "clips"), [("epic", 60_429), ("ego4d", 85_521)])
def test_the_papers_numbers(name, clips):
    for stage in ("stage1", "stage2"):
        recipe = load_recipe(find_recipe(f"{name}_{stage}"))
        assert recipe.optim.lr == 5e-5
        assert recipe.optim.batch * recipe.optim.accumulate == 48
        assert recipe.run.steps * 48 == pytest.approx(50 * clips, abs=48)
        assert recipe.run.precision == "bf16"
        assert (recipe.data.dropout, recipe.data.frames) == (0.15, 16)
        assert (recipe.loss.miou, recipe.loss.hand.weight) == (0.1, 0.1)


@pytest.mark.parametrize("name", [name for name in bundled() if name.startswith(("epic", "ego4d"))])
def test_a_paper_recipe_names_its_deviations_and_one_size_of_a_step(name):
    recipe = load_recipe(find_recipe(name))
    text = (HOME / f"{name}.yaml").read_text()
    clips = recipe.optim.batch * recipe.optim.accumulate
    assert f"batch × accumulate × processes = {clips} clips" in text
    processes = int(re.search(r"--num_processes (\d+)", text)[1])
    assert recipe.optim.batch * processes == clips  # with the command's --optim.accumulate 1
    assert f"{recipe.optim.batch} × 1 × {processes}" in text
    assert f"{recipe.optim.batch} × {recipe.optim.accumulate} × 1" in text
    about = text[text.index("# not in the paper") :]
    for said in (
        f"EMA, {recipe.optim.ema}",
        f"norm {recipe.optim.clip:g}",
        f"{recipe.data.dropout:.0%}".replace("%", " %"),
    ):
        assert said in about
    assert recipe.data.texts == ("enriched",)


def test_data_that_is_not_prepared_says_how_it_comes_to_be(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"data/epic: holds no prepared clips; run handi prepare "):
        train(load_recipe(find_recipe("epic_stage2"), {"run.device": "cpu"}))
    assert not list(tmp_path.iterdir())


def test_names_and_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_recipe("mini_vae") == find_recipe("mini_vae.yaml") == HOME / "mini_vae.yaml"
    own = tmp_path / "mini_vae.yaml"
    own.write_text("stage: vae")
    assert find_recipe("mini_vae.yaml").samefile(own)  # a file of one's own comes first
    with pytest.raises(InputError, match=r"one of: .*epic_stage1.*mini_vae"):
        find_recipe("mini_stage3")
    with pytest.raises(InputError, match="no such recipe"):
        find_recipe("elsewhere/mini_vae")
