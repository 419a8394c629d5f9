"""Signals: kill -9 during a save never costs the last whole checkpoint; a first SIGTERM asks."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable

import pytest
import torch
from helpers.alone import alone

from handi.training import guards as stopping
from handi.training.guards import StopSignal, most
from handi.training.state import Checkpoints

ROUNDS = 30


def child(work: Callable[[int], object]) -> tuple[int, int]:
    """A real process that does `work(pipe)`: (process id, the end of the pipe to read from)."""
    reader, writer = os.pipe()
    if pid := os.fork():
        os.close(writer)
        return pid, reader
    status = 1
    try:
        os.close(reader)
        work(writer)
        status = 0
    finally:
        os._exit(status)


@alone
def test_kill_9_while_saving(tmp_path):
    store = Checkpoints(tmp_path / "checkpoints", keep=2, say=pytest.fail)
    big = torch.arange(300_000, dtype=torch.float32)
    chance = random.Random(0)
    found, unfinished = 0, 0
    for _ in range(ROUNDS):

        def save_forever(pipe: int, first: int = found) -> None:
            step = first
            while True:
                step += 1
                tensors = {"model": {"weight": big + step}, "optimizer": {"moment": big * step}}
                store.save(step, tensors, recipe={}, facts={"step": step}, score=1 / step)
                os.write(pipe, b".")

        pid, pipe = child(save_forever)
        os.read(pipe, 1)  # the first save is done
        time.sleep(chance.uniform(0, 0.03))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        reported = found + 1
        while more := os.read(pipe, 4096):
            reported += len(more)
        os.close(pipe)

        unfinished += any(path.name.startswith(".") for path in store.folder.iterdir())
        saved = store.latest()  # `say` fails the test if any is damaged
        assert saved.step in (reported, reported + 1)  # the last that was reported, or one just renamed
        assert saved.facts == {"step": saved.step}
        assert torch.equal(saved.tensors("model")["weight"], big + saved.step)
        assert torch.equal(saved.tensors("optimizer")["moment"], big * saved.step)
        found = saved.step
    assert unfinished > ROUNDS / 3, "too few were killed in the midst of a save to prove anything"
    assert not [path for path in store.folder.iterdir() if path.name.startswith(".")]


def wait_until_dead(pid: int) -> int:
    """The exit code as a shell has it: 128 + n for signal n."""
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return 128 - status if status < 0 else status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_asks(number, capfd):
    before = signal.getsignal(number)
    with StopSignal() as stop:
        assert not stop.asked()
        assert stop.exit_code == 0
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)  # launchers and `timeout` send it twice at once
        assert stop.asked()
        assert stop.exit_code == {signal.SIGTERM: 143, signal.SIGINT: 130}[number]
    assert signal.getsignal(number) is before
    assert capfd.readouterr().err.count("saving, then stopping") == 1


def test_the_second_signal_aborts(monkeypatch):
    monkeypatch.setattr(stopping, "TOGETHER_SECONDS", -1.0)

    def ignore_the_first(pipe: int) -> None:
        with StopSignal():
            os.write(pipe, b".")
            for _ in range(1000):
                time.sleep(0.01)  # a long save

    pid, pipe = child(ignore_the_first)
    os.read(pipe, 1)
    os.kill(pid, signal.SIGTERM)
    time.sleep(0.2)
    assert os.waitpid(pid, os.WNOHANG) == (0, 0)  # it goes on
    os.kill(pid, signal.SIGTERM)
    assert wait_until_dead(pid) == 143
    os.close(pipe)


def test_a_second_ctrl_c_is_an_ordinary_one(monkeypatch):
    monkeypatch.setattr(stopping, "TOGETHER_SECONDS", -1.0)

    def twice() -> None:
        with StopSignal():
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        twice()


def test_most_of_one_process_is_itself():
    assert most(3.5) == 3.5
