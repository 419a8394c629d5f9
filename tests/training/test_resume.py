"""A run that was killed and resumed is, to the bit, the run that was not (one process, CPU)."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
import torch
from helpers.tiny_training import start
from safetensors.torch import load_file

from handi.core.errors import InputError
from handi.training import loop
from handi.training.loop import train
from handi.training.state import Checkpoints
from handi.training.track import read_log

UNLIKE = ("time", "seconds_per_step")  # entries of a log that no two runs share


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """As the processes that are started: sums depend on how many threads share them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def straight(load, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("straight")
    assert train(load(folder), say=lambda message: None) == 0
    return folder / "run"


def curve(run: Path) -> list[dict]:
    return [{k: v for k, v in line.items() if k not in UNLIKE} for line in read_log(run / "log.jsonl")]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor of every safetensors file below a folder."""
    return {
        f"{path.relative_to(folder)}:{name}": tensor
        for path in sorted(folder.rglob("*.safetensors"))
        for name, tensor in load_file(path).items()
    }


def assert_same(run: Path, other: Path, steps: int = 7) -> None:
    for part in ("model", f"checkpoints/step-{steps:08d}"):
        mine, theirs = weights(run / part), weights(other / part)
        assert sorted(mine) == sorted(theirs)
        assert mine
        different = [name for name in mine if not torch.equal(mine[name], theirs[name])]
        assert not different, f"{len(different)} of {len(mine)} tensors, first {different[0]}"
    assert curve(run) == curve(other)


def test_the_straight_run_trains(straight):
    lines = read_log(straight / "log.jsonl")
    assert [line["step"] for line in lines] == list(range(1, 8))
    assert all(line["gradient"] > 0 for line in lines)
    begun = load_file(straight / "start" / "unet" / "diffusion_pytorch_model.safetensors")
    ended = load_file(straight / "model" / "unet" / "diffusion_pytorch_model.safetensors")
    assert any(not torch.equal(begun[name], ended[name]) for name in begun)
    assert [path.name for path in sorted((straight / "checkpoints").iterdir())] == [
        "step-00000006",
        "step-00000007",
    ]


class Killed(BaseException):
    """As final as a kill: nothing catches it."""


@pytest.mark.parametrize("step", range(7))
def test_killed_in_any_step(step, straight, load, tmp_path, monkeypatch):
    recipe = load(tmp_path)
    forward = loop.Run.forward_backward

    def pass_(self, *arguments, **options):
        if self.step == step:
            raise Killed
        return forward(self, *arguments, **options)

    monkeypatch.setattr(loop.Run, "forward_backward", pass_)
    with pytest.raises(Killed):
        train(recipe, say=lambda message: None)
    monkeypatch.undo()
    saved = Checkpoints(tmp_path / "run" / "checkpoints").latest()
    assert (saved.step if saved else 0) == step - step % 2  # the rest was lost, and is done again
    assert not (tmp_path / "run" / "model").exists()
    assert train(recipe, say=lambda message: None) == 0
    assert_same(tmp_path / "run", straight)


def wait_for_line(path: Path, since: float, process) -> None:
    """Until a log has a line that was written after a time."""
    end = time.monotonic() + 200
    while not (path.exists() and any(line["time"] > since for line in read_log(path)[-1:])):
        assert process.poll() is None, process.stdout.read()
        if time.monotonic() > end:
            process.send_signal(signal.SIGABRT)  # with Python's fault handler: where it hangs
            pytest.fail(process.communicate(timeout=30)[0])
        time.sleep(0.003)


LONG = {"steps": 30, "save_every": 3, "validate_every": 0, "gradients_every": 0}  # long enough to be hit


def test_sigkill_and_sigterm_of_the_command(tiny_recipe, load, tmp_path):
    run = tmp_path / "run"
    command = ("-m", "handi", "train", tiny_recipe(tmp_path, run=LONG))
    with start(*command) as process:
        wait_for_line(run / "log.jsonl", 0, process)
        os.kill(process.pid, signal.SIGKILL)
    killed_at = len(read_log(run / "log.jsonl"))
    saved = Checkpoints(run / "checkpoints").latest()
    assert killed_at < 30, "killed too late to prove anything"
    assert (saved.step if saved else 0) in range(killed_at - 3, killed_at + 1)

    since = time.time()
    with start(*command) as process:
        wait_for_line(run / "log.jsonl", since, process)
        os.kill(process.pid, signal.SIGTERM)
        said, _ = process.communicate(timeout=200)
    last = read_log(run / "log.jsonl")[-1]["step"]
    assert last < 30, "stopped too late to prove anything"
    assert process.returncode == 128 + signal.SIGTERM, said
    assert "SIGTERM: saving, then stopping" in said
    assert f"stopped at step {last} of 30" in said
    assert Checkpoints(run / "checkpoints").latest().step == last  # saved first

    assert train(load(tmp_path, run=LONG), say=lambda message: None) == 0
    undisturbed = tmp_path / "undisturbed"
    assert train(load(undisturbed, run=LONG), say=lambda message: None) == 0
    assert_same(run, undisturbed / "run", 30)


def test_a_stop_that_was_planned_is_no_failure(straight, load, tmp_path):
    said = []
    assert train(load(tmp_path, run={"minutes": 0}), say=said.append) == 0
    assert "step 0 of 7" in said[-1]
    assert (tmp_path / "run" / "model" / "handi.json").exists()
    assert train(load(tmp_path), say=lambda message: None) == 0
    assert_same(tmp_path / "run", straight)


def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before(straight, load, tmp_path, capsys):
    recipe = load(tmp_path)
    assert train(recipe, say=lambda message: None) == 0
    newest = tmp_path / "run" / "checkpoints" / "step-00000007" / "model.safetensors"
    newest.write_bytes(newest.read_bytes()[:-9])
    said = []
    assert train(recipe, say=said.append) == 0
    assert "resuming from step 6" in said[0]
    assert "step-00000007 is damaged (model.safetensors has" in capsys.readouterr().err
    assert_same(tmp_path / "run", straight)


def test_another_recipe_is_refused_unless_said(load, tmp_path):
    train(load(tmp_path, run={"steps": 2}), say=lambda message: None)
    with pytest.raises(InputError, match=r"optim\.lr 0\.001, now 0\.002; run\.steps 2, now 7"):
        train(load(tmp_path, optim={"lr": 2e-3}))
    changed = load(tmp_path, optim={"lr": 2e-3}, run={"accept_changes": True})
    assert train(changed, say=lambda message: None) == 0
    assert read_log(tmp_path / "run" / "log.jsonl")[-1]["step"] == 7
