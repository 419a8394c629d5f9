"""FSDP2 on two CPU processes: the same run as one process that takes their batches one after another."""

from __future__ import annotations

import sys

import torch
from helpers.tiny_training import start

from handi.models import folder as model_folder
from handi.training.loop import train
from handi.training.recipe import load_recipe
from handi.training.state import Checkpoints
from handi.training.track import read_log


def prepare(accelerator, module, optimizer):
    """What accelerate does with FSDP2 on GPUs; on CPUs it knows DDP only."""
    from torch.distributed.fsdp import fully_shard

    options = {name: optimizer.param_groups[0][name] for name in ("lr", "betas", "weight_decay")}
    module = fully_shard(module)
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return module, type(optimizer)(trained, **options)


def test_sharded_training_is_the_same_run(tiny_recipe, load, tmp_path):
    changes = {"run": {"steps": 2, "save_every": 2, "validate_every": 0, "sample_every": 1}}
    plain = {**changes, "run": {**changes["run"], "sample_every": 0}}
    assert (
        train(load(tmp_path / "one", **plain, optim={"batch": 1, "accumulate": 2}), say=lambda m: None) == 0
    )
    path = tiny_recipe(tmp_path / "two", **changes, optim={"batch": 1, "accumulate": 1})
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", 2)
    with start(*launch, __file__, path) as process:
        said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert "no sample sheets" in said
    runs = [tmp_path / name / "run" for name in ("one", "two")]
    one, two = (Checkpoints(run / "checkpoints").latest() for run in runs)
    assert one.step == two.step == 2
    for group in ("model", "ema"):
        mine, theirs = one.tensors(group), two.tensors(group)
        assert sorted(mine) == sorted(theirs)
        for name in mine:
            torch.testing.assert_close(mine[name], theirs[name], rtol=1e-3, atol=2e-5)
    logs = [[line["total"] for line in read_log(run / "log.jsonl", kind="train")] for run in runs]
    torch.testing.assert_close(torch.tensor(logs[0]), torch.tensor(logs[1]), rtol=1e-4, atol=0)
    models = [model_folder.load(run / "model").unet.state_dict() for run in runs]
    for name, value in models[0].items():
        torch.testing.assert_close(value, models[1][name], rtol=1e-3, atol=2e-5)


if __name__ == "__main__":
    from accelerate import Accelerator

    Accelerator.prepare = prepare
    recipe = load_recipe(sys.argv[1], {"run.device": "cpu"})
    sys.exit(train(recipe, say=lambda message: print(message, file=sys.stderr)))
