"""`handi ablate`: which trainings a grid needs, and the grid end to end with a tiny model."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.tiny_training import SIZE, TINY, prepared, tiny_clip

from handi.core.errors import InputError, ModelError
from handi.core.images import read_image
from handi.data.dataset import PreparedClips
from handi.evaluation import paper
from handi.evaluation.ablate import Grid, ablate, is_trained
from handi.evaluation.layout import Table
from handi.evaluation.run import EvaluationConfig
from handi.method.area import prior_area
from handi.training.recipe import MaskRecipe, parse_recipe
from handi.training.setup import open_data, training_batches
from handi.training.state import recipe_changes
from handi.world.files import write_clip

CHEAP = EvaluationConfig(metrics=("pixels",), resamples=20, device="cpu")


class Hands:
    """Υ, as if it saw a hand in the middle of every frame."""

    key = "hands"

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        joints = np.zeros((len(frames), 42, 2), np.float32)
        joints[:, :21] = np.linspace([0.3, 0.3], [0.7, 0.6], 21) + np.linspace([0, 0], [0.1, -0.1], 21)[::-1]
        joints[:, 10] = [0.7, 0.3]
        return joints


@pytest.fixture(scope="module")
def footage(tmp_path_factory):
    """Plain test footage: videos longer than a clip, texts, nothing else."""
    folder = tmp_path_factory.mktemp("footage")
    for seed in (3, 4):
        frames = tiny_clip(seed).frames
        np.save(folder / f"{seed}.npy", np.concatenate([frames, frames[::-1]]))
        (folder / f"{seed}.txt").write_text(
            f"Push square {seed}.\nA hand pushes square {seed} to the right.\n"
        )
    return folder


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Folders of clips to train on and to test with."""
    root = tmp_path_factory.mktemp("clips")
    for name, seeds in (("train", (0, 1, 2)), ("test", (3, 4))):
        for seed in seeds:
            write_clip(root / name, tiny_clip(seed))
    (root / "train").rename(root / "world")
    prepared(root / "world", root / "train")
    return root


def tiny_recipe(clips, **run):
    recipe = parse_recipe(TINY | {"data": TINY["data"] | {"path": str(clips / "train")}})
    run = {"steps": 2, "save_every": 2, "validate_every": 0, "gradients_every": 0, **run}
    return replace(recipe, name="tiny", run=replace(recipe.run, **run))


def grid_of(clips, out, **more) -> Grid:
    return Grid(tiny_recipe(clips), ("squares", clips / "test"), out, **more)


def test_six_trainings_make_eight_rows(clips, tmp_path):
    grid = grid_of(clips, tmp_path)
    runs = grid.runs()
    assert sorted(runs) == ["full-off", "full-on", "prior-off", "prior-on", "true-off", "true-on"]
    for name, recipe in runs.items():
        assert recipe.data.mask == MaskRecipe(**{name.split("-")[0]: 1.0})
        assert recipe.loss.hand.weight == (0.1 if name.endswith("on") else 0)
        assert recipe.run.seed == grid.recipe.run.seed
    specs = {spec.name: spec.options for spec in grid.specs()}
    assert len(specs) == len(paper.CELLS) == 8
    assert specs["generated-on"]["model"] == specs["true-on"]["model"] != specs["generated-off"]["model"]
    for name, options in specs.items():
        assert options["mask"] == name.split("-")[0]


def test_a_recipe_with_generated_areas_has_a_training_of_its_own_for_their_rows(clips, tmp_path):
    grid = grid_of(clips, tmp_path)
    mixed = MaskRecipe(true=0.25, generated=0.75)
    grid = replace(grid, recipe=replace(grid.recipe, data=replace(grid.recipe.data, mask=mixed)))
    runs = grid.runs()
    assert len(runs) == 8
    assert runs["generated-on"].data.mask == mixed
    assert runs["true-on"].data.mask == MaskRecipe(true=1.0)
    assert "25% true, 75% generated" in grid.notes()[1]


def test_clips_are_given_the_area_that_the_row_says(clips, tmp_path):
    recipe = tiny_recipe(clips)
    for number in (5, 6):
        write_clip(tmp_path / "world", replace(tiny_clip(number), seed=800_000 + number))
    prepared(tmp_path / "world", tmp_path / "val")
    own, others = PreparedClips(clips / "train"), PreparedClips(tmp_path / "val", "held-out")
    true = {part[n].name: part[n].area for part in (own, others) for n in range(len(part))}
    expected = prior_area(own.prior())
    assert 0 < expected.mean() < 1
    for kind in ("true", "full", "prior"):
        mask = MaskRecipe(**{kind: 1.0})
        data = replace(recipe.data, mask=mask, validation=str(tmp_path / "val"), flip=kind != "true")
        trained, held_out = open_data(replace(recipe, data=data))
        for batches in (training_batches(replace(recipe, data=data), trained), held_out):
            batch = batches.at(0, 6)
            assert batch.to_generate is None
            for name, area in zip(batch.names, batch.mask.numpy(), strict=True):
                wanted = {
                    "true": true[name.removesuffix(" mirrored")],
                    "full": np.ones((SIZE, SIZE), bool),
                    "prior": expected,
                }[kind]
                assert (area == wanted).all()  # the prior of a mirrored clip is the same place
    for stage, mask, said in (
        ("stage1", {"full": 1}, "only stage 2 is given"),
        ("stage2", {"full": 0.5}, "true 0, generated 0, prior 0, full 0.5; use shares .* add up to 1"),
        ("stage2", {"full": 1.5, "prior": -0.5}, "shares of 0 or more"),
        ("stage2", {"own": 1}, "data.mask.own is not an entry"),
    ):
        with pytest.raises(InputError, match=said):
            parse_recipe(TINY | {"stage": stage, "data": {"path": "x", "mask": mask}})


def test_the_prior_area_is_where_it_is_highest():
    prior = np.array([[0.0, 0.1], [0.2, 0.4]])
    assert prior_area(prior).tolist() == [[False, False], [True, True]]
    assert not prior_area(np.zeros((2, 2))).any()


def test_a_run_from_before_an_entry_existed_goes_on(clips):
    now = tiny_recipe(clips).as_dict()
    rest = {key: value for key, value in now["data"].items() if key != "mask"}
    before = now | {"data": rest | {"told": "own"}, "loss": now["loss"] | {"stage1_area": 0.0}}
    assert recipe_changes(before, now) == []
    full = now | {"data": rest | {"mask": {**now["data"]["mask"], "true": 0.0, "full": 1.0}}}
    assert recipe_changes(before, full) == [
        "data.mask.full not there, now 1.0",
        "data.mask.true not there, now 0.0",
    ]


def test_the_grid_end_to_end_is_stopped_and_gone_on_with(clips, tmp_path, monkeypatch):
    said: list[str] = []
    cells = tuple(
        cell for cell in paper.CELLS if cell[0] in ("full", "generated", "true") and cell[1] == "off"
    )
    grid = grid_of(clips, tmp_path, cells=cells, minutes=0.0)
    settings = CHEAP
    assert ablate(grid, settings, say=said.append) == 0
    assert "still to train: full-off, true-off" in said[-1]
    grid = replace(grid, minutes=None)
    assert ablate(grid, settings, say=said.append) == 0
    assert all(is_trained(recipe) for recipe in grid.runs().values())
    assert not is_trained(replace(grid, recipe=tiny_recipe(clips, seed=1)).runs()["true-off"])
    text = (tmp_path / "table3.md").read_text()
    assert text.count("here, n = 2") == 6  # three rows, two scopes
    assert "| MA | 2 | Stage 1 | × | here, n = 2 |" in text
    assert "other data: squares (2 clips), the paper's is EpicKitchens" in text
    assert "recipe tiny, 2 steps of 2 clips (4 samples), seed 0, from preset tiny" in text
    more = (tmp_path / "table3_more.md").read_text()
    assert "PSNR" in more
    assert (tmp_path / "table3.tex").is_file()

    def never(*arguments, **named):
        raise AssertionError("done again")

    for place in (
        "handi.evaluation.ablate.train",
        "handi.evaluation.study.evaluate",
        "handi.evaluation.methods.model.Handi.generate",
    ):
        monkeypatch.setattr(place, never)
    assert ablate(grid, settings, say=said.append) == 0
    assert (tmp_path / "table3_more.md").read_text() == more


def test_areas_of_another_kind_than_was_learned_are_named(clips, tmp_path, monkeypatch):
    shutil.copytree(clips / "test", tmp_path / "test")
    (tmp_path / "test" / "world.json").write_text('{"area": "hull"}')
    monkeypatch.setattr("handi.evaluation.ablate.is_trained", lambda recipe: True)
    empty = Table("", (), (), [])
    monkeypatch.setattr("handi.evaluation.ablate.table3", lambda study, scopes: [empty, empty])
    said = "Stage 2 has learned with moved motion areas; those of the test clips are hull."
    for data, named in ((clips / "test", False), (tmp_path / "test", True)):
        lines: list[str] = []
        with pytest.raises(InputError, match="nothing could be scored"):
            ablate(
                replace(grid_of(clips, tmp_path), data=("squares", data)),
                EvaluationConfig(),
                say=lines.append,
            )
        assert (f"note: {said}" in lines) == (said in empty.notes) == named


def test_a_training_that_is_stopped_stops_the_rest(clips, tmp_path, monkeypatch):
    begun = []

    def stopped(recipe, **named):
        begun.append(recipe.name)
        return 130

    monkeypatch.setattr("handi.evaluation.ablate.train", stopped)
    assert ablate(grid_of(clips, tmp_path), CHEAP, say=lambda line: None) == 130
    assert begun == ["full-off"]


def test_training_leaves_no_precision_behind(clips, tmp_path, monkeypatch):
    """As on a GPU: clips and scores of a row must not depend on what was trained before in this process."""

    def train(recipe, **named):
        torch.set_float32_matmul_precision("high")
        return 130

    monkeypatch.setattr("handi.evaluation.ablate.train", train)
    assert torch.get_float32_matmul_precision() == "highest"
    ablate(grid_of(clips, tmp_path), CHEAP, say=lambda line: None)
    assert torch.get_float32_matmul_precision() == "highest"


def test_bad_grids_are_refused(handi, clips, tmp_path):
    recipe = tiny_recipe(clips)
    for grid, said in (
        (grid_of(clips, tmp_path, cells=()), "no row"),
        (grid_of(clips, tmp_path, hand_weight=0.0), "hand-weight"),
        (replace(grid_of(clips, tmp_path), recipe=replace(recipe, stage="stage1")), "is a recipe for stage1"),
    ):
        with pytest.raises(InputError, match=said):
            grid.check()
    code, _, err = handi("ablate", "mini_stage1", "--data", clips / "test", "--out", tmp_path,
                         "--data.path", clips / "train")  # fmt: skip
    assert code == 1
    assert "is a recipe for stage1" in err


TRUE_CELLS = tuple(cell for cell in paper.CELLS if cell[0] in ("full", "true") and cell[1] == "off")


def test_plain_footage_has_rows_with_the_true_area(clips, footage, tmp_path, monkeypatch):
    """It is where Υ finds the hands of the true video, as `handi evaluate` takes it."""
    said: list[str] = []
    monkeypatch.setattr("handi.evaluation.pairs.find_hands", lambda device: Hands())
    grid = replace(grid_of(clips, tmp_path, cells=TRUE_CELLS), data=("plain", footage))
    assert ablate(grid, CHEAP, say=said.append) == 0, said
    text = (tmp_path / "table3.md").read_text()
    for line in ("| MA | 7 | GT | × | here, n = 2 |", "| Full | 7 | GT | × | here, n = 2 |"):
        assert line in text
    assert "generated from the enriched text, which 2 of 2 clips have" in text
    area = read_image(tmp_path / "videos/plain/true-off/3/motion_area.png")[..., 0] > 0
    assert 0 < area.mean() < 0.5
    record = json.loads((tmp_path / "videos/plain/true-off/3/run.json").read_text())
    assert record["request"]["prompt"] == "A hand pushes square 3 to the right."


def test_what_is_lost_is_said_and_ends_with_1(clips, footage, tmp_path, monkeypatch):
    class Broken(Hands):
        def __call__(self, frames: np.ndarray) -> np.ndarray:
            if frames[0, 0, 0, 0] == first:
                raise RuntimeError("cannot be read")
            return super().__call__(frames)

    first = np.load(footage / "3.npy")[0, 0, 0, 0]
    monkeypatch.setattr("handi.evaluation.pairs.find_hands", lambda device: Broken())
    said: list[str] = []
    grid = replace(grid_of(clips, tmp_path, cells=TRUE_CELLS, scopes=("full",)), data=("plain", footage))
    assert ablate(grid, CHEAP, say=said.append) == 1
    assert "lost: 1 of 2 clips of plain by true-off could not be made" in said
    text = (tmp_path / "table3.md").read_text()
    assert "| Full | 7 | GT | × | here, n = 1 |" in text
    assert "Lost: 1 of 2 videos of plain by true-off could not be scored." in text


def test_a_row_that_cannot_be_trained_is_lost_and_the_others_are_made(clips, tmp_path, monkeypatch):
    from handi.evaluation import ablate as module

    real = module.train

    def train(recipe, **named):
        if recipe.name == "true-off":
            raise RuntimeError("it exploded")
        return real(recipe, **named)

    monkeypatch.setattr(module, "train", train)
    said: list[str] = []
    assert ablate(grid_of(clips, tmp_path, cells=TRUE_CELLS, scopes=("full",)), CHEAP, say=said.append) == 1
    text = (tmp_path / "table3.md").read_text()
    assert "Lost: the rows that training true-off is for: RuntimeError: it exploded." in text
    assert "here, n = 2" in text


def test_what_the_rows_need_is_looked_for_before_hours_of_training(clips, footage, tmp_path, monkeypatch):
    def none(device):
        raise ModelError("no such weights", where="hand_landmark_full.tflite")

    monkeypatch.setattr("handi.evaluation.pairs.find_hands", none)
    monkeypatch.setattr("handi.evaluation.ablate.train", lambda recipe, **named: pytest.fail("trained"))
    grid = replace(grid_of(clips, tmp_path, cells=TRUE_CELLS), data=("plain", footage))
    with pytest.raises(ModelError, match="hand_landmark_full"):
        ablate(grid, CHEAP, say=lambda line: None)
    with pytest.raises(InputError, match="no such folder"):
        ablate(replace(grid, data=("plain", tmp_path / "gone")), CHEAP, say=lambda line: None)
