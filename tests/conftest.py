"""What several tests share: small models, a picture, and the command line in process."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"  # before transformers is imported, as in the command
os.environ["OMP_NUM_THREADS"] = "1"  # the networks are tiny, and a worker per core uses the cores better
os.environ["HF_HUB_OFFLINE"] = "1"  # no test reaches for a network

# Why a test may be skipped: what it needs cannot be installed with the tests.
MAY_SKIP = re.compile(r"CUDA|a Chromium that starts|root may write anywhere")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
    """A test that is skipped for any other reason fails: what is never run holds nothing."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and not MAY_SKIP.search(str(report.longrepr)):
        report.outcome = "failed"
    return report


@pytest.fixture(scope="session")
def pipe():
    """The random model at 64×64, quiet."""
    from handi import HandiPipeline
    from handi.models.fresh import random_checkpoint

    pipe = HandiPipeline.from_checkpoint(random_checkpoint(size=64))
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="session")
def model_folder(pipe, tmp_path_factory) -> Path:
    """The same model, saved."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    pipe.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def picture(tmp_path_factory) -> Path:
    """A small picture, 96×64."""
    path = tmp_path_factory.mktemp("picture") / "scene.png"
    values = np.random.default_rng(0).integers(0, 255, (8, 12, 3), dtype=np.uint8)
    Image.fromarray(values).resize((96, 64), Image.Resampling.BICUBIC).save(path)
    return path


@pytest.fixture(scope="session")
def weights():
    """MediaPipe's networks, as they ship."""
    from handi.hands.weights import load_hand_weights

    return load_hand_weights()


@pytest.fixture(scope="session")
def detector(weights):
    """In torch, which is everywhere."""
    from handi.hands import HandDetector

    return HandDetector(weights, backend="torch", threads=1)


@pytest.fixture(autouse=True)
def forget_the_last_accelerator() -> None:
    """accelerate remembers the precision of the first training of a process; a test's is its own."""
    if (state := sys.modules.get("accelerate.state")) is not None:
        state.AcceleratorState._reset_state()


@pytest.fixture
def handi(monkeypatch, capsys):
    """The command line in this process: handi("generate", …) → (exit code, stdout, stderr)."""

    def run(*arguments: object) -> tuple[int, str, str]:
        from handi.commands import app as cli

        monkeypatch.setattr(sys, "argv", ["handi", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    return run
