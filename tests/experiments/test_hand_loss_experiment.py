"""The evidence experiment: its figures against hand-made rows, and one tiny run of the whole."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml
from helpers.tiny_training import prepared

from experiments.hand_loss import table3
from experiments.hand_loss import train as hand_loss
from experiments.hand_loss.figures import ALL_ERROR, ERROR, FIGURES, FOUND, PSNR, STATE, compare, summarise


def row(
    hands: list[float | None],
    *,
    acting: list[bool] | None = None,
    error: float = 1.0,
    state: float | None = 0.5,
):
    return {
        "hands": hands,
        "acting": acting or [True] * len(hands),
        "error": error,
        "count": 100,
        "state": state,
    }


REFERENCE = [row([0.1, 0.1, None]), row([0.1, 0.1])]


def test_figures_by_hand():
    rows = [row([0.2, None, 0.1], error=1.0, state=0.2), row([None, 0.3], error=3.0, state=None)]
    found = summarise([rows], REFERENCE)
    # The third hand of the first clip is not found in the reconstruction: it does not count.
    assert found[FOUND].value == pytest.approx(2 / 4)
    assert found[ERROR].value == pytest.approx((0.2 + 0.3) / 2)
    assert found[ALL_ERROR].value == pytest.approx((0.2 + 0.35 + 0.35 + 0.3) / 4)
    assert found[PSNR].value == pytest.approx(-10 * np.log10(4 / 200))
    assert found[STATE].value == pytest.approx(0.2)
    assert tuple(found) == tuple(FIGURES)


def test_waiting_hands_do_not_count():
    rows = [row([0.2, None, 0.1], acting=[True, False, True]), row([0.1, 0.1])]
    plain = [row([0.1, 0.1, None], acting=[True, False, True]), row([0.1, 0.1])]
    assert summarise([rows], plain)[FOUND].value == 1


def test_the_error_is_compared_on_hands_that_both_find():
    """An arm that finds one hand more, a hard one, must not look worse for it."""
    base = [row([0.1, None]), row([0.1, 0.1])]
    arm = [row([0.1, 0.3]), row([0.1, 0.1])]
    plain = [row([0.1, 0.1]), row([0.1, 0.1])]
    assert summarise([arm], plain)[ERROR].value > summarise([base], plain)[ERROR].value
    differences = compare([arm], [base], plain)
    assert differences[ERROR].estimate.value == pytest.approx(0)
    assert differences[FOUND].estimate.value == pytest.approx(1 / 4)
    assert differences[ALL_ERROR].estimate.value == pytest.approx((0.3 - 0.35) / 4)


def runs(rng: np.random.Generator, shift: float, clips: int = 60, seeds: int = 3):
    """Rows in which clips differ a lot, seeds a little, and the arm by `shift`."""
    base = np.random.default_rng(0).uniform(0.05, 0.25, clips)
    return [
        [
            row([float(e + shift + noise)], error=float(10 * (e + shift)))
            for e, noise in zip(base, rng.normal(0, 0.005, clips), strict=True)
        ]
        for _ in range(seeds)
    ]


def test_intervals_of_paired_differences_hold_the_truth_and_are_narrower_than_unpaired():
    rng = np.random.default_rng(1)
    plain = [row([0.1])] * 60
    base, arm, same = runs(rng, 0), runs(rng, 0.02), runs(rng, 0)
    better = compare(arm, base, plain)[ERROR]
    assert better.estimate.low < 0.02 < better.estimate.high
    assert better.estimate.low > 0
    assert len(better.seeds) == 3
    assert np.mean(better.seeds) == pytest.approx(better.estimate.value)
    nothing = compare(same, base, plain)[ERROR].estimate
    assert nothing.low < 0 < nothing.high
    alone = summarise(base, plain)[ERROR]
    assert alone.high - alone.low > 5 * (better.estimate.high - better.estimate.low)


def test_seeds_that_disagree_widen_the_interval():
    plain = [row([0.1])] * 20
    base = [[row([0.2])] * 20] * 3
    steady = [[row([0.15])] * 20] * 3
    torn = [[row([e])] * 20 for e in (0.05, 0.15, 0.25)]
    assert compare(steady, base, plain)[ERROR].estimate.high < 0
    estimate = compare(torn, base, plain)[ERROR].estimate
    assert estimate.value == pytest.approx(-0.05)
    assert estimate.low == pytest.approx(-0.15)
    assert estimate.high == pytest.approx(0.05)


# ------------------------------------------------------------------------------------ the whole, tiny

RECIPE = """
stage: stage2
model: {preset: tiny}
data: {path: PATH, frames: 4, workers: 0}
loss: {hand: {weight: 0, noise_limit: 100, frames: 2}}
optim: {lr: 1.0e-3, batch: 2, ema: 0}
run: {validate_every: 0, device: cpu}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with training clips, a recipe, and an untrained tiny model that it starts from."""
    from handi.data.dataset import PreparedClips
    from handi.training.recipe import load_recipe
    from handi.training.setup import make_start
    from handi.world.rendering import WorldSettings, render_folder

    place = tmp_path_factory.mktemp("hand-loss")
    settings = WorldSettings(size=32, pictures="png")
    render_folder(place / "rendered", clips=2, seed=0, settings=settings)
    prepared(place / "rendered", place / "train")
    render_folder(place / "test", clips=2, seed=900_000, settings=settings)
    (place / "recipe.yaml").write_text(RECIPE.replace("PATH", str(place / "train")))
    make_start(load_recipe(place / "recipe.yaml"), PreparedClips(place / "train"), place / "init")
    return place


def run(place, *more: str) -> str:
    given = [place / "recipe.yaml", "--init", place / "init", "--out", place / "out", "--seeds", 0]
    given += ["--world", place / "test", "--clips", 2, "--steps", 2, "--arms", "roi"]
    return hand_loss.main([*map(str, given), *more])


@pytest.fixture(scope="module")
def first(place):
    return run(place)


def test_arms_differ_in_the_loss_alone(place, first):
    recipes = {}
    for arm in ("none-0", "roi-0"):
        recipes[arm] = yaml.safe_load((place / "out/runs" / arm / "recipe.yaml").read_text())
        assert (place / "out/runs" / arm / "model").is_dir()
    assert recipes["none-0"]["loss"]["hand"].pop("weight") == 0
    assert recipes["roi-0"]["loss"]["hand"].pop("weight") == 0.1
    for recipe in recipes.values():
        recipe["run"].pop("out")
        assert recipe["model"]["init"] == str(place / "init")
        assert not recipe["model"]["from_stage1"]  # it would undo the stage 2 that is there
    assert recipes["none-0"] == recipes["roi-0"]
    # No hand of 32 px is readable, so the same noise must have led to the same noise loss.
    noise = [
        json.loads((place / "out/runs" / arm / "log.jsonl").read_text().splitlines()[0])["noise"]
        for arm in recipes
    ]
    assert noise[0] == noise[1]


def test_the_report_has_every_arm_and_figure(place, first):
    numbers = json.loads((place / "out/hand_loss.json").read_text())
    assert set(numbers["figures"]) == {"before (no training)", "none", "roi"}
    assert set(numbers["differences"]) == {"roi"}
    assert set(numbers["differences"]["roi"]) == set(FIGURES)
    assert (place / "out/hand_loss.md").read_text() == first
    assert "| none | " in first
    assert "nan" not in first


def test_started_again_it_trains_only_what_is_new(place, first, monkeypatch):
    trained = []
    real = hand_loss.train
    monkeypatch.setattr(hand_loss, "train", lambda recipe: trained.append(recipe) or real(recipe))
    assert run(place) == first
    assert not trained
    again = run(place, "--arm", "strong", "loss.hand.weight=2")
    assert [recipe.loss.hand.weight for recipe in trained] == [2]
    assert "| strong | " in again
    with pytest.raises(SystemExit, match="key=value"):
        run(place, "--set", "data.flip")


# ------------------------------------------------------------------------------------ table 3, tiny


def test_rows_are_trained_with_the_area_and_the_poses_that_they_are_sampled_with():
    assert table3.Cell("stage 1", "none", "roi").arm == table3.Cell("true", "none", "roi").arm
    entries = table3.Cell("prior", "none", "roi + features").entries
    assert (entries["data.mask.prior"], entries["data.mask.true"], entries["data.poses.share"]) == (1, 0, 0)
    assert entries["loss.hand.features"] == 1
    assert "data.poses.share" not in table3.Cell("prior", "predicted", "none").entries


def test_table3_has_a_row_for_each_cell_and_resumes(place, monkeypatch):
    trained = []
    real = hand_loss.train
    monkeypatch.setattr(hand_loss, "train", lambda recipe: trained.append(recipe) or real(recipe))
    given = [place / "recipe.yaml", "--init", place / "init", "--out", place / "table3", "--seeds", 0]
    given += ["--world", place / "test", "--clips", 1, "--steps", 1, "--masks", "none", "stage 1", "true"]
    given += ["--hands", "none"]
    with pytest.raises(SystemExit, match="--poses none"):
        table3.main([*map(str, given)])
    text = table3.main([*map(str, given), "--poses", "none"])
    assert [recipe.data.mask.full for recipe in trained] == [1, 0]  # the other two rows share one
    for mask in ("none", "stage 1", "true"):
        assert f"| {mask} | none | none |" in text
    assert (place / "table3/table3.md").read_text() == text
    assert table3.main([*map(str, given), "--poses", "none"]) == text
    assert len(trained) == 2
