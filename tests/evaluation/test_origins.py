"""Where the rows of a table come from."""

from __future__ import annotations

import csv
import io

from helpers.bench_data import write_data, write_method

from handi import __version__
from handi.evaluation.methods import parse_spec
from handi.evaluation.origins import origins_table
from handi.evaluation.study import Study


def rows_of(study: Study) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(origins_table(study).csv())))


def test_each_row_states_code_revision_weights_training_clips_and_seconds(tmp_path):
    data = write_data(tmp_path / "data", ["a", "b"])
    file = tmp_path / "mine.yaml"
    file.write_text("kind: static\ntrained_on: nothing at all\n")
    study = Study({"squares": data}, [parse_spec(str(file))], tmp_path / "out")
    for spec in study.methods:
        study.videos(spec, "squares")
    (row,) = rows_of(study)
    assert (row["Data"], row["Method"], row["Code"]) == ("squares", "mine", "handi")
    assert (row["Revision"], row["Weights"], row["Trained on"]) == (
        __version__,
        "not known",
        "nothing at all",
    )
    assert row["clips"] == "2"
    assert float(row["seconds per clip"]) >= 0

    # The same clips as stored videos still know it; videos of somebody else's do not.
    stored = parse_spec(f"copy=videos:{tmp_path}/out/videos/squares/mine")
    foreign = parse_spec(f"lfdm=videos:{write_method(tmp_path / 'theirs', ['a', 'b'])}")
    copy, theirs = rows_of(Study({"squares": data}, [stored, foreign], tmp_path / "other"))
    assert {key: copy[key] for key in row if key != "Method"} == {
        key: row[key] for key in row if key != "Method"
    }
    assert (theirs["Method"], theirs["Code"], theirs["clips"]) == ("LFDM", "not known", "")


def test_a_model_in_a_run_says_what_it_was_trained_on(tmp_path, model_folder):
    import shutil

    from handi.evaluation.methods.model import Handi

    shutil.copytree(model_folder, tmp_path / "run" / "model")
    (tmp_path / "run" / "recipe.yaml").write_text(
        "data: {path: data/epic}\noptim: {batch: 8, accumulate: 2}\nrun: {steps: 200000}\n"
    )
    origin = Handi(str(tmp_path / "run" / "model"), mask="full", device="cpu").origin
    assert origin.trained_on == "data/epic, 200,000 steps of 16 clips"
    assert (origin.code, origin.revision) == ("handi", __version__)
    assert "SHA-256" in origin.weights
    assert Handi(str(model_folder), mask="full", device="cpu").origin.trained_on == ""
