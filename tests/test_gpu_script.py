"""The script for a borrowed GPU, rehearsed on a CPU with a small model: it must work the first time there."""

import json
import subprocess
from pathlib import Path

import pytest

from benchmarks import gpu

SCRIPT = Path(gpu.__file__).with_name("gpu.sh")


@pytest.mark.parametrize("section", gpu.SECTIONS)
def test_each_section_measures_something(section):
    rows = gpu.SECTIONS[section](True)
    figures = [value for value in rows.values() if isinstance(value, float)]
    assert figures
    assert min(figures) > 0


def test_a_section_that_fails_or_hangs_leaves_the_others_alone(tmp_path, monkeypatch):
    monkeypatch.setitem(gpu.LIMITS, "train", 0.01)
    rows = gpu.run_section("train", True)
    gpu.write({"train": rows, "detector": {"frames per second": 5.0}}, tmp_path)
    assert rows["failed"] == "not done within 0.01 s"
    assert json.loads((tmp_path / "gpu.json").read_text())["detector"] == {"frames per second": 5.0}
    assert "| detector | frames per second | 5.0 |" in (tmp_path / "gpu.md").read_text()


def test_the_script_says_which_option_it_does_not_know():
    done = subprocess.run([SCRIPT, "--fast"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "--fast" in done.stderr
