"""What a recipe costs: counted without content is what a real step holds, and the command prints it."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch import nn

from handi.core.errors import ModelError
from handi.training import estimate as module
from handi.training.counting import PeakBytes, flop_counter, held, pretending
from handi.training.estimate import estimate
from handi.training.estimate_table import gib, table


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.SiLU(), nn.Conv2d(8, 3, 3))


def peak_of_a_step(model: nn.Module, *, pretend: bool, half: bool = False) -> tuple[int, int]:
    with pretending(model) if pretend else nullcontext():
        pictures = torch.randn(4, 3, 32, 32)
        with flop_counter() as flops:
            model(pictures).square().mean().backward()
        model.zero_grad()
        with PeakBytes() as count:
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                out = model(pictures)
            out.float().square().mean().backward()
    return count.peak, flops.get_total_flops()


def test_pretending_holds_what_a_real_step_holds():
    real, pretended = (peak_of_a_step(network(), pretend=pretend) for pretend in (False, True))
    assert real == pretended
    # forward: 2·9·3·8 a pixel of 32², 2·9·8·3 of 30²; backward twice that, less the gradient of the picture
    first, second = 4 * 2 * 9 * 24 * 32**2, 4 * 2 * 9 * 24 * 30**2
    assert real[1] == 2 * first + 3 * second
    # as on a GPU, the norm runs in float32 under autocast: more than a CPU's bf16 holds, less than float32
    cpu, gpu = (peak_of_a_step(network(), pretend=pretend, half=True)[0] for pretend in (False, True))
    assert cpu < gpu < real[0]


def test_pretending_gives_the_weights_back():
    model = network()
    before = list(model.parameters())
    with pretending(model):
        assert not any(a is b for a, b in zip(before, model.parameters(), strict=True))
        mask = torch.ones(3, 4) > 2
        assert mask.any()
        assert torch.randn(3, 4)[mask].shape == (12,)
        assert len(mask.nonzero()) == 12
    assert all(a is b for a, b in zip(before, model.parameters(), strict=True))


def test_attention_on_a_cpu_is_counted():
    query = torch.randn(2, 4, 16, 8, requires_grad=True)
    with flop_counter() as flops:
        torch.nn.functional.scaled_dot_product_attention(query, query, query).sum().backward()
    assert flops.get_total_flops() == (2 + 5) * 2 * 2 * 4 * 16 * 16 * 8


def test_shared_storages_are_held_once():
    a = torch.zeros(10)
    assert held(a, a[2:], [a], nn.Linear(2, 3)) == 40 + 4 * (6 + 3)


@pytest.mark.parametrize("stage", ["vae", "stage1", "poses", "stage2"])
def test_a_real_step_and_a_counted_one_agree(stage, load, tmp_path):
    recipe = load(tmp_path, stage=stage, optim={"accumulate": 2})
    measured = estimate(recipe)
    counted = module.Trial(recipe, module.parts_of(recipe, []), torch.device("cpu"), pretend=True)
    peak, flops = module.counted(counted)
    assert flops == measured.flops_per_step
    assert peak == pytest.approx(measured.peak_bytes, rel=0.25)  # stages of a few hundred kB
    assert measured.hours == pytest.approx(measured.seconds_per_step * 7 / 3600)
    assert measured.trained < measured.parameters
    assert measured.gradients_bytes == measured.average_bytes == 4 * measured.trained
    assert measured.optimizer_bytes >= 8 * measured.trained * 0.9
    assert measured.peak_bytes > measured.weights_bytes + measured.optimizer_bytes + measured.average_bytes


def test_the_command_says_what_it_costs(handi, tiny_recipe, tmp_path):
    code, out, err = handi("train", tiny_recipe(tmp_path), "--estimate", "--data.path", "/not/there")
    assert code == 0
    found = json.loads(out)
    assert found["stage"] == "stage2"
    assert found["seconds_per_step"] > 0
    assert "without validation and samples" in err
    assert not (tmp_path / "run").exists()


def test_a_model_that_is_not_here_is_taken_for_the_published_size(load, tmp_path, monkeypatch):
    recipe = load(tmp_path, model={"preset": None, "init": "not/here"})
    notes: list[str] = []
    parts = module.parts_of(recipe, notes)
    assert sum(p.numel() for p in parts.unet.parameters()) == 1_413_401_540
    assert parts.unet.device.type == "meta"
    assert notes == ["not/here is not here: taken for a model of AnimateAnything's size"]


@pytest.mark.parametrize("changes", [{"stage": "poses"}, {"stage": "stage1", "loss": {"grounding": 0.25}}])
def test_where_a_finder_is_asked_the_published_size_is_no_answer(load, tmp_path, changes):
    with pytest.raises(ModelError, match="not/here"):
        module.parts_of(load(tmp_path, model={"preset": None, "init": "not/here"}, **changes), [])


def test_the_table_names_every_figure(load, tmp_path):
    found = estimate(load(tmp_path))
    text = " ".join(cell for column in table(found).columns for cell in column._cells)
    for word in ("weights", "gradients", "optimiser", "averaged", "peak", "TFLOP", "7 steps"):
        assert word in text
    assert "not timed" in " ".join(
        cell for column in table(replace(found, seconds_per_step=None)).columns for cell in column._cells
    )
    assert [gib(1 << 20), gib(5 << 30)] == ["1.0 MiB", "5.00 GiB"]
