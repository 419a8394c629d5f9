"""A metric of one's own, as CONTRIBUTING.md shows it: one file, named on the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from helpers.bench_data import clip, write_data, write_frames

GUIDE = Path(__file__).parents[3] / "CONTRIBUTING.md"


@pytest.fixture
def own(tmp_path) -> Path:
    """The file of the guide."""
    section = GUIDE.read_text().split("## A metric")[1]
    path = tmp_path / "sharpness.py"
    path.write_text(re.search(r"```python\n(.*?)```", section, re.S)[1])
    return path


def test_the_metric_of_the_guide_is_scored_beside_others(handi, own, tmp_path):
    data = write_data(tmp_path / "data", ["1", "2"])
    write_frames(tmp_path / "made/1", clip(0) // 2)
    write_frames(tmp_path / "made/2", clip(1))
    sides = ("--pred", tmp_path / "made", "--ref", data, "--out", tmp_path / "out")
    code, printed, err = handi("evaluate", *sides, "--metrics", f"{own}:Sharpness", "pixels")
    assert code == 0, err
    assert "sharpness ↑" in printed
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert list(results["metrics"]) == ["psnr", "ssim", "sharpness"]
    scores = results["metrics"]["sharpness"]["per_video"]
    assert scores["1"] == pytest.approx(0.25, abs=0.02)  # half the brightness: a quarter of the variance
    assert scores["2"] == 1
    assert results["preprocessing"]["sharpness"] == "laplacian-uint8"


def test_files_and_classes_that_are_not_there_are_named(handi, own, tmp_path):
    data = write_data(tmp_path / "data", ["1"])
    for name, said in (
        (f"{tmp_path / 'gone.py'}:Sharpness", "or name your own as FILE.py:CLASS"),
        (f"{own}:Blur", "has no class 'Blur'"),
    ):
        code, _, err = handi(
            "evaluate", "--pred", data, "--ref", data, "--out", tmp_path / "out", "--metrics", name
        )
        assert code == 1
        assert said in err


def test_a_table_scores_again_when_the_file_has_changed(handi, own, tmp_path):
    data = write_data(tmp_path / "data", ["1", "2"])
    table = ("bench", "table2", "--data", data, "--methods", "static", "--no-intensive",
             "--metrics", f"{own}:Sharpness", "--out", tmp_path / "out")  # fmt: skip
    said = [handi(*table)[2] for _ in range(2)]
    own.write_text(own.read_text().replace("float(made / true)", "float(made / true / 2)"))
    said.append(handi(*table)[2])
    assert ["score static on data" in err for err in said] == [True, False, True]
