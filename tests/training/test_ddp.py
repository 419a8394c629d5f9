"""Several processes on the CPU (gloo): the gradients are one's, and FSDP2's shards are put together."""

from __future__ import annotations

import sys

import pytest
import torch
from helpers.tiny_training import start
from torch import nn

from handi.training.gather import pack_optimizer, restore, unpack_optimizer
from handi.training.state import Checkpoints
from handi.training.track import read_log

LAUNCH = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", 2)


def launched(*arguments: object) -> str:
    with start(*LAUNCH, *arguments) as process:
        said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    return said


def test_two_processes_have_the_gradients_of_one(tiny_recipe, load, tmp_path):
    from handi.training.loop import train  # not above: the other test's processes have no use for it

    # AdamW's first moment after one step is a tenth of the gradient
    changes = {"run": {"steps": 1, "save_every": 1, "validate_every": 0}}
    one = load(tmp_path / "one", **changes, optim={"batch": 2, "accumulate": 2, "ema": 0})
    assert train(one, say=lambda message: None) == 0
    two = tiny_recipe(tmp_path / "two", **changes, optim={"batch": 2, "accumulate": 1, "ema": 0})
    said = launched("-m", "handi", "train", two)
    assert said.count("1 steps of 4") == 1  # one process speaks

    runs = [tmp_path / name / "run" for name in ("one", "two")]
    first, second = (Checkpoints(run / "checkpoints").latest() for run in runs)
    assert first.facts["samples"] == second.facts["samples"] == 4
    mine, theirs = first.tensors("optimizer"), second.tensors("optimizer")
    assert sorted(mine) == sorted(theirs)
    moments = [name for name in mine if name.endswith("|exp_avg")]
    largest = max(float(mine[name].abs().max()) for name in moments)
    assert largest > 1e-4
    for name in moments:
        torch.testing.assert_close(mine[name], theirs[name], rtol=1e-4, atol=1e-6 * largest)
    logs = [read_log(run / "log.jsonl")[0] for run in runs]
    for name in ("noise", "total", "gradient"):
        assert logs[0][name] == pytest.approx(logs[1][name], rel=1e-5)


def model(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))


def steps(network: nn.Module, optimizer: torch.optim.Optimizer, numbers: range) -> None:
    for number in numbers:
        torch.manual_seed(number)
        network(torch.randn(4, 6)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def sharded_run(folder: str) -> None:
    """In each of two processes: train sharded, save, load into another sharded model, go on."""
    from accelerate import PartialState
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor

    from handi.training.gather import trainable

    process = PartialState(cpu=True)
    first = fully_shard(model(0))
    optimizer = torch.optim.AdamW(first.parameters(), lr=0.1)
    steps(first, optimizer, range(2))
    assert all(isinstance(p, DTensor) for p in first.parameters())
    packed, rest = pack_optimizer(first, optimizer)
    store = Checkpoints(folder)
    store.save(2, {"model": trainable(first), "optimizer": packed}, recipe={}, facts={"optimizer": rest})

    saved = store.latest()
    assert saved.step == 2
    second = fully_shard(model(process.process_index + 5))
    optimizer = torch.optim.AdamW(second.parameters(), lr=0.1)
    restore(dict(second.named_parameters()), saved.tensors("model"))
    unpack_optimizer(second, optimizer, saved.tensors("optimizer"), saved.facts["optimizer"])
    steps(second, optimizer, range(2, 4))
    packed, rest = pack_optimizer(second, optimizer)
    store.save(4, {"model": trainable(second), "optimizer": packed}, recipe={}, facts={"optimizer": rest})


def test_shards_are_saved_whole_and_read_back(tmp_path):
    launched(__file__, tmp_path)
    store = Checkpoints(tmp_path)
    alone = model(0)
    optimizer = torch.optim.AdamW(alone.parameters(), lr=0.1)
    steps(alone, optimizer, range(4))
    saved = store.latest()
    assert saved.step == 4
    for name, value in saved.tensors("model").items():
        torch.testing.assert_close(value, alone.state_dict()[name], rtol=1e-4, atol=1e-6)
    # and what two processes saved, one goes on with
    again = model(3)
    optimizer_again = torch.optim.AdamW(again.parameters(), lr=0.1)
    restore(dict(again.named_parameters()), saved.tensors("model"))
    unpack_optimizer(again, optimizer_again, saved.tensors("optimizer"), saved.facts["optimizer"])
    steps(again, optimizer_again, range(4, 6))
    steps(alone, optimizer, range(4, 6))
    for mine, theirs in zip(again.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


if __name__ == "__main__":
    sharded_run(sys.argv[1])
