"""Selection, LoRA, learning rate, averaged weights; and what the loop watches."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from handi.core.errors import InputError, ModelError
from handi.models.lora import add_lora, merge_lora
from handi.training import optim
from handi.training.ema import Ema
from handi.training.guards import Guard
from handi.training.optim import choose_trained, learning_rate, make_optimizer
from handi.training.recipe import ModelRecipe, OptimRecipe
from handi.training.track import Means


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.unet = nn.ModuleDict({"to_q": nn.Linear(4, 4), "other": nn.Linear(4, 4)})
        self.text_encoder = nn.Linear(4, 2)
        self.area_unet = None


def names(module):
    return {name for name, p in module.named_parameters() if p.requires_grad}


def test_the_stages_own_network_is_trained_unless_names_are_given():
    model = Model()
    chosen = choose_trained(model, ModelRecipe(), "unet")
    assert set(chosen) == names(model) == {n for n, _ in model.named_parameters() if n.startswith("unet.")}
    choose_trained(model, ModelRecipe(train=("unet.to_q.*", "text_encoder.bias")), "unet")
    assert names(model) == {"unet.to_q.weight", "unet.to_q.bias", "text_encoder.bias"}


def test_what_is_not_trained_is_held_in_the_precision_asked_for():
    model = Model().to(torch.float16)
    choose_trained(model, ModelRecipe(frozen="bf16"), "unet")
    assert {p.dtype for p in model.unet.parameters()} == {torch.float32}
    assert {p.dtype for p in model.text_encoder.parameters()} == {torch.bfloat16}


def test_a_pattern_or_network_that_is_not_there():
    with pytest.raises(InputError, match=r"'unett\.\*' matches no weight.*text_encoder, unet"):
        choose_trained(Model(), ModelRecipe(train=("unet.*", "unett.*")), "unet")
    with pytest.raises(ModelError, match="has no area_unet"):
        choose_trained(Model(), ModelRecipe(), "area_unet")


def test_lora_that_cannot_be(monkeypatch):
    with pytest.raises(InputError, match="no layer's name ends in to_k"):
        add_lora(Model().unet, 2, None, ("to_k",))
    network = nn.ModuleDict({"norm": nn.LayerNorm(4)})
    with pytest.raises(InputError, match="cannot adapt a layer whose name ends in norm"):
        add_lora(network, 2, None, ("norm",))
    monkeypatch.setattr(optim, "find_spec", lambda name: None)
    monkeypatch.setattr("handi.models.lora.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'handi\[train\]'"):
        add_lora(Model().unet, 2, None, ("to_q",))
    with pytest.raises(InputError, match="pip install bitsandbytes"):
        make_optimizer([nn.Parameter(torch.zeros(1))], OptimRecipe(eight_bit=True))


def test_lora_starts_at_nothing_and_merges_to_what_it_was():
    model, x = Model(), torch.randn(3, 4)
    before = model.unet["to_q"](x)
    recipe = ModelRecipe(lora_rank=2, lora_alpha=4, lora_targets=("to_q",), train=("text_encoder.*",))
    chosen = choose_trained(model, recipe, "unet")
    assert len([name for name in chosen if ".lora_" in name]) == 2
    assert {name for name in chosen if ".lora_" not in name} == {"text_encoder.weight", "text_encoder.bias"}
    assert torch.equal(model.unet["to_q"](x), before)
    for name, p in model.unet.named_parameters():
        if ".lora_" in name:
            nn.init.normal_(p)
    after = model.unet["to_q"](x)
    assert not torch.allclose(after, before)
    merge_lora(model.unet)
    assert type(model.unet["to_q"]) is nn.Linear
    assert torch.allclose(model.unet["to_q"](x), after, atol=1e-5)


def test_the_learning_rate_follows_the_step_alone():
    constant = OptimRecipe(lr=2.0, warmup=4)
    assert [learning_rate(step, constant, 10) for step in range(6)] == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]
    cosine = OptimRecipe(lr=2.0, warmup=2, schedule="cosine")
    rates = [learning_rate(step, cosine, 12) for step in range(12)]
    assert rates[:3] == [1.0, 2.0, 2.0]
    assert rates[7] == pytest.approx(1.0)
    assert all(a > b for a, b in pairwise(rates[2:]))
    assert rates[-1] == pytest.approx(1 + math.cos(0.9 * math.pi))
    assert learning_rate(5, OptimRecipe(lr=1.0), 10) == 1.0


def test_averaged_weights_are_the_exponential_mean_and_give_way():
    weight = nn.Parameter(torch.zeros(2))
    average, expected = Ema({"w": weight}, 0.9), torch.zeros(2)
    for step in range(1, 200):
        with torch.no_grad():
            weight.fill_(float(step))
        average.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    assert torch.allclose(average.values["w"], expected)
    assert expected[0] == pytest.approx(199 - 9, abs=0.1)
    with average.applied():
        assert torch.allclose(weight.detach(), expected)
    assert torch.equal(weight.detach(), torch.full((2,), 199.0))
    with pytest.raises(ZeroDivisionError), average.applied():
        raise ZeroDivisionError
    assert torch.equal(weight.detach(), torch.full((2,), 199.0))
    average.write()
    assert torch.allclose(weight.detach(), expected)


def test_means_leave_out_what_is_no_number():
    means = Means()
    means.add({"a": torch.tensor(1.0), "b": torch.tensor(float("nan")), "c": torch.tensor(float("nan"))})
    means.add({"a": 3.0, "b": torch.tensor(4.0, requires_grad=True)})
    taken = means.take()
    assert (taken["a"], taken["b"]) == (2.0, 4.0)
    assert math.isnan(taken["c"])
    assert means.take() == {}


def test_the_guard_knows_a_spike_from_an_explosion(tmp_path):
    guard = Guard(tmp_path, 0, limit=10)
    assert guard.verdict(1000.0, 1.0) is None  # nothing to compare with yet
    for _ in range(30):
        assert guard.verdict(1.0, 1.0) is None
    assert guard.verdict(9.0, 1.0) is None
    assert "the median of the last 32 steps 1" in (guard.verdict(11.0, 1.0) or "")
    assert "the loss is inf" in (guard.verdict(float("inf"), 1.0) or "")
    assert "gradient's norm is nan" in (guard.verdict(1.0, float("nan")) or "")
    assert guard.verdict(1.0, None) is None  # with fp16 the scaler sees to it
    free = Guard(tmp_path, 0, limit=0)
    assert all(free.verdict(loss, 1.0) is None for loss in [1.0] * 30 + [1e9])
