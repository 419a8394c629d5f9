"""The log of a run: what a kill may leave, what a resumed run cuts, what JSON can say."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
import torch
from torch import nn

from handi.core.errors import InputError
from handi.core.progress import Progress, duration
from handi.training.module import gradient_norms
from handi.training.track import RunLog, read_log


def steps(path, kind=None):
    return [line["step"] for line in read_log(path, kind=kind)]


def test_lines_come_back(tmp_path):
    path = tmp_path / "run" / "log.jsonl"
    with RunLog(path) as log:
        log.write(1, {"noise": torch.tensor(0.5), "lr": 1e-4})
        log.write(1, {"noise": 0.7}, kind="validate")
    first, second = read_log(path)
    assert first | {"time": 0} == {"step": 1, "time": 0, "kind": "train", "noise": 0.5, "lr": 1e-4}
    assert [line["noise"] for line in read_log(path, kind="validate")] == [0.7]
    assert second["time"] >= first["time"] > 1e9


def test_what_is_no_number_is_null_and_the_file_stays_json(tmp_path):
    with RunLog(tmp_path / "log.jsonl") as log:
        log.write(1, {"noise": float("nan"), "hand": torch.tensor(float("inf")), "clip": "a"})
    line = json.loads((tmp_path / "log.jsonl").read_text(), parse_constant=pytest.fail)
    assert (line["noise"], line["hand"], line["clip"]) == (None, None, "a")


def test_going_on_cuts_what_lies_beyond(tmp_path):
    path = tmp_path / "log.jsonl"
    with RunLog(path) as log:
        for step in range(1, 8):
            log.write(step, {"noise": step})
        log.write(4, {"noise": 0.1}, kind="validate")
    with path.open("a") as file:
        file.write('{"step": 8, "ti')  # broken off by a kill
    assert steps(path)[-2:] == [7, 4]
    with RunLog(path, step=4) as log:
        log.write(5, {"noise": 50})
    assert steps(path) == [1, 2, 3, 4, 4, 5]
    assert read_log(path)[-1]["noise"] == 50


def test_a_new_run_starts_a_new_curve(tmp_path):
    for _ in range(2):
        with RunLog(tmp_path / "log.jsonl") as log:
            log.write(1, {})
    assert steps(tmp_path / "log.jsonl") == [1]


def test_a_damaged_line_inside_is_an_error(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1, "kind": "train"}\nhello\n{"step": 2, "kind": "train"}\n')
    with pytest.raises(InputError, match="line 2 is damaged"):
        read_log(path)
    with pytest.raises(InputError, match="line 2 is damaged"):
        RunLog(path, step=5)
    assert path.read_text().count("\n") == 3  # nothing was cut
    with pytest.raises(InputError, match="cannot be read"):
        read_log(tmp_path / "none.jsonl")


def test_kill_9_loses_no_finished_line(tmp_path):
    path = tmp_path / "log.jsonl"
    code = (
        "import sys; from handi.training.track import RunLog\n"
        "log = RunLog(sys.argv[1]); step = 0\n"
        "while True: step += 1; log.write(step, {}); print(step, flush=True)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
    ) as process:
        for line in process.stdout:
            if int(line) >= 200:
                os.kill(process.pid, signal.SIGKILL)
                break
    assert steps(path)[:200] == list(range(1, 201))


def test_unknown_trackers_are_refused(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="choose from tensorboard, trackio"):
        RunLog(tmp_path / "log.jsonl", trackers=["wandb"])
    monkeypatch.setattr("handi.training.track.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'handi\[track\]'"):
        RunLog(tmp_path / "log.jsonl", trackers=["tensorboard"])
    assert not (tmp_path / "log.jsonl").exists()


def test_tensorboard_gets_every_number(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for first, resumed in ((1, 0), (3, 2)):  # the second piece goes on from step 2
        with RunLog(tmp_path / "log.jsonl", step=resumed, trackers=["tensorboard"]) as log:
            for step in range(first, first + 4):
                log.write(step, {"noise": first, "name": "x"})
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    curve = [(e.step, e.value) for e in events.Scalars("train/noise")]
    assert curve == [(1, 1.0), (2, 1.0), (3, 3.0), (4, 3.0), (5, 3.0), (6, 3.0)]


# ------------------------------------------------------------------------------------------ gradients


def model_and_terms():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    torch.manual_seed(1)
    out = model(torch.randn(16, 4))
    terms = {
        "noise": out.square().mean(),
        "hand": 0.1 * out.abs().mean(),
        "constant": torch.tensor(2.0),
        "_presence": out.detach().mean(),
    }
    return model, terms


def step_gradients(measure: bool):
    model, terms = model_and_terms()
    norms = gradient_norms(terms, list(model.parameters())) if measure else {}
    assert all(p.grad is None for p in model.parameters())
    sum(terms.values()).backward()
    return [p.grad for p in model.parameters()], norms


def test_norms_are_those_of_each_terms_own_backward():
    _, norms = step_gradients(measure=True)
    assert sorted(norms) == ["constant", "hand", "noise"]
    assert norms["constant"] == 0
    for name in ("noise", "hand"):
        model, terms = model_and_terms()
        terms[name].backward()
        expected = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
        assert norms[name] == pytest.approx(float(expected), rel=1e-5)


def test_measuring_changes_no_bit_of_the_step():
    plain, _ = step_gradients(measure=False)
    measured, _ = step_gradients(measure=True)
    assert all(torch.equal(a, b) for a, b in zip(plain, measured, strict=True))


def test_a_frozen_part_has_no_say():
    model, terms = model_and_terms()
    norms = gradient_norms(terms, [torch.zeros(3, requires_grad=True)])
    assert norms["noise"] == 0
    scaled = gradient_norms({"noise": terms["noise"]}, list(model.parameters()), scale=1024.0)
    plain = gradient_norms({"noise": terms["noise"]}, list(model.parameters()))
    assert scaled["noise"] == pytest.approx(plain["noise"], rel=1e-5)


# ------------------------------------------------------------------------------------------- progress


def test_plain_lines_say_how_long_it_takes(capsys):
    with Progress("stage 2", 100, "steps", done=40, every=-1) as bar:
        bar.advance(10, note="noise 0.25")
        bar.advance(50)
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith("stage 2: 50 of 100 steps, 0.0 s, 0 s left, noise 0.25")
    assert last == "stage 2: 100 of 100 steps, 0.0 s, noise 0.25"


def test_durations_in_words():
    assert [duration(s) for s in (4.4, 90, 3600 * 2 + 780, 86400 * 5 + 3600 * 4)] == [
        "4 s", "2 min", "2 h 13 min", "5 d 4 h",
    ]  # fmt: skip
