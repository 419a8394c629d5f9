"""What is killed and run again ends as what was not killed, to the byte, and leaves nothing behind.

Every command is ended in this process, before one of its changes of the file system (helpers/faults.py), and
for real: by SIGKILL at random times. `handi prepare` and the steps of `handi train` have theirs elsewhere
(tests/data/test_shard_writer.py, tests/training/test_resume.py).
"""

from __future__ import annotations

import functools
import json
import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from helpers.alone import alone
from helpers.faults import changes, killed, tree
from helpers.tiny_training import TINY, prepared, start, tiny_clip

from handi.evaluation import tables
from handi.evaluation.ablate import Grid, ablate
from handi.evaluation.methods import parse_spec
from handi.evaluation.run import EvaluationConfig
from handi.evaluation.study import Study
from handi.training.loop import train
from handi.training.recipe import Recipe, parse_recipe
from handi.world import rendering
from handi.world.files import write_clip

QUIET = {"say": lambda line: None}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def some(count: int, most: int) -> list[int]:
    """Moments to be killed at: all, or as many as are asked for, spread evenly."""
    return sorted({int(n) for n in np.linspace(0, count - 1, min(count, most))})


def timeless(folder: Path) -> dict[str, bytes | None]:
    """A folder's tree without what tells how long something took, and without the bytes of a codec."""
    content = tree(folder)
    for name, data in content.items():
        if name.endswith(".mp4") or "_methods." in name:  # the latter: tables with seconds per clip
            content[name] = None
        if name.endswith(("run.json", "key.json")) and data is not None:
            record = json.loads(data)
            record.pop("seconds", None)
            for side in ("pred", "ref"):  # times of change of files
                record.pop(side, None)
            content[name] = json.dumps(record).encode()
        if name.endswith("ledger.jsonl") and data is not None:  # its keys have the times of change of files
            lines = [json.loads(line) | {"key": ""} for line in data.splitlines()]
            content[name] = json.dumps(lines).encode()
        if name.endswith("log.jsonl") and data is not None:
            lines = [json.loads(line) for line in data.splitlines()]
            for line in lines:
                del line["time"]
                line.pop("seconds_per_step", None)
            content[name] = json.dumps(lines).encode()
    return content


def hidden(folder: Path) -> list[str]:
    return [name for name in tree(folder) if any(part.startswith(".") for part in Path(name).parts)]


# --------------------------------------------------------------------------------------------- world


@pytest.mark.parametrize("kind", ["clips", "siblings", "first frames"])
def test_world_in_this_process(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(rendering, "render_clip", lambda seed, **look: tiny_clip(seed))
    monkeypatch.setattr(rendering, "siblings", lambda seed, count, **look: [tiny_clip(seed)] * count)
    monkeypatch.setattr(rendering, "render_first_frame", functools.cache(rendering.render_first_frame))
    more = {"clips": {"pictures": "png"}, "siblings": {"pictures": "png", "siblings": 2},
            "first frames": {"first_frames": True}}[kind]  # fmt: skip
    settings = rendering.WorldSettings(32, **more)

    def run(out: Path) -> None:
        assert rendering.render_folder(out, clips=2, seed=1, settings=settings) == []

    count = changes(tmp_path / "whole", lambda: run(tmp_path / "whole"))
    whole = tree(tmp_path / "whole")
    for at in some(count, 12):
        out = tmp_path / str(at)
        assert killed(out, functools.partial(run, out), at)
        run(out)
        assert tree(out) == whole, at


def test_world_by_sigkill(tmp_path):
    settings = rendering.WorldSettings(32, pictures="png")
    out, whole = tmp_path / "killed", tmp_path / "whole"
    with start("-m", "handi", "world", "--clips", 3, "--size", 32, "--workers", 2, "--pictures", "png",
               "--out", out) as process:  # fmt: skip
        end = time.monotonic() + 200
        while not list(out.glob("0*.json")):
            assert process.poll() is None, process.stdout.read()
            assert time.monotonic() < end
            time.sleep(0.002)
        workers = psutil.Process(process.pid).children(recursive=True)
        os.kill(process.pid, signal.SIGKILL)
        process.stdout.close()
    assert len(list(out.glob("0*.json"))) < 3, "killed too late to prove anything"
    assert psutil.wait_procs(workers, timeout=60)[1] == [], "its workers go on beside the next run's"
    for folder in (out, whole):
        assert rendering.render_folder(folder, clips=3, seed=0, settings=settings) == []
    assert tree(out) == tree(whole)


# ----------------------------------------------------------------------------- train, bench, ablate


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """Clips to train on and to test with."""
    root = tmp_path_factory.mktemp("clips")
    for name, seeds in (("train", (0, 1, 2)), ("test", (3,))):
        for seed in seeds:
            write_clip(root / name, tiny_clip(seed), pictures="png")
    (root / "train").rename(root / "world")
    prepared(root / "world", root / "train")
    return root


def recipe_of(clips: Path, out: Path, steps: int) -> Recipe:
    data = TINY["data"] | {"path": str(clips), "workers": 0}
    run = {"steps": steps, "save_every": 1, "keep": 1, "log_every": 1, "validate_every": 0, "device": "cpu"}
    return parse_recipe(TINY | {"data": data, "run": run | {"out": str(out)}})


def train_once(clips: Path, out: Path) -> None:
    assert train(recipe_of(clips / "train", out, 2), **QUIET) == 0


def bench_once(clips: Path, out: Path) -> None:
    scoring = EvaluationConfig(("pixels",), resamples=5)
    study = Study({"squares": clips / "test"}, [parse_spec("static")], out, scoring, **QUIET)
    table, _ = tables.table2(study, intensive=False)
    table.write(out, "table2")
    assert table.scored


def ablate_once(clips: Path, out: Path) -> None:
    recipe = recipe_of(clips / "train", out, 1)
    grid = Grid(recipe, ("squares", clips / "test"), out, cells=(("full", "off"),), scopes=("full",))
    assert ablate(grid, EvaluationConfig(("pixels",), resamples=5), **QUIET) == 0


COMMANDS = {"train": (train_once, 5), "bench": (bench_once, 12), "ablate": (ablate_once, 2)}


@alone
@pytest.mark.parametrize("name", COMMANDS)
def test_killed_and_run_again(name, clips, tmp_path):
    once, moments = COMMANDS[name]
    out = tmp_path / "out"
    run = functools.partial(once, clips, out)
    begin = time.monotonic()
    run()  # what it keeps beside the clips is there afterwards
    seconds = time.monotonic() - begin
    out.rename(tmp_path / "first")
    count = changes(out, run)
    whole = timeless(out)
    assert count > 3 * moments
    assert not hidden(out)
    for at in some(count, moments):
        out.rename(tmp_path / f"before-{at}")
        assert killed(out, run, at)
        run()
        assert timeless(out) == whole, at

    out.rename(tmp_path / "before")
    pid = os.fork()
    if not pid:
        try:
            run()
        finally:
            os._exit(0)
    time.sleep(random.uniform(0, seconds))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    run()
    assert timeless(out) == whole
