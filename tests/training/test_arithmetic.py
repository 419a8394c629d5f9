"""What `auto` comes to on each kind of machine."""

from __future__ import annotations

import pytest
import torch

from handi.training import build as module
from handi.training.build import arithmetic
from handi.training.recipe import RunRecipe, parse_recipe


@pytest.mark.parametrize(
    ("gpu", "amx", "device", "expected"),
    [
        (True, False, "auto", ("bf16", True)),
        (True, False, "cpu", ("no", False)),
        (False, True, "auto", ("bf16", True)),
        (False, False, "auto", ("no", False)),
    ],
)
def test_auto_is_what_is_fast_here(monkeypatch, gpu, amx, device, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(module, "has_amx", lambda: amx)
    chosen = arithmetic(RunRecipe(precision="auto", compile="auto", device=device))
    assert (chosen.precision, chosen.compiled) == expected
    assert ("bf16" in chosen.why, "compiled" in chosen.why) == (expected[0] == "bf16", expected[1])


def test_what_the_recipe_says_is_done(monkeypatch):
    monkeypatch.setattr(module, "has_amx", lambda: True)
    chosen = arithmetic(RunRecipe(precision="no", compile="no"))
    assert (chosen.precision, chosen.compiled) == ("no", False)
    assert isinstance(module.has_amx(), bool)


@pytest.mark.parametrize(("written", "read"), [(True, "yes"), ("false", "no"), ("auto", "auto")])
def test_compile_is_written_as_true_false_or_auto(written, read):
    content = {
        "stage": "stage2",
        "model": {"preset": "tiny"},
        "data": {"path": "x"},
        "run": {"compile": written},
    }
    assert parse_recipe(content).run.compile == read


def test_a_compiled_network_can_be_followed_backward_by_every_loss_term(monkeypatch):
    config = torch._functorch.config
    monkeypatch.setattr(config, "donated_buffer", True)
    network = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.GELU(), torch.nn.Linear(4, 4))
    module.compile_network(network)
    assert config.donated_buffer
    module.compile_network(network, gradients=True)
    assert not config.donated_buffer  # torch refuses a second pass backward with buffers that are given away
