"""Checkpoints: whole or not there, damaged ones named, the right ones kept, another recipe refused."""

from __future__ import annotations

import json
import re
import shutil

import pytest
import torch
from helpers.faults import left_behind
from torch import nn

from handi.core.errors import InputError, ModelError, OutputError
from handi.training.gather import pack_optimizer, restore, trainable, unpack_optimizer
from handi.training.state import MANIFEST, STATE, Checkpoints, check, recipe_changes

RECIPE = {"stage": "stage1", "optim": {"lr": 1e-4, "betas": [0.9, 0.999]}, "run": {"steps": 10, "minutes": 5}}


def tensors(value: float) -> dict[str, dict[str, torch.Tensor]]:
    return {"model": {"a.weight": torch.full((3, 4), value), "a.bias": torch.arange(4.0)}}


@pytest.fixture
def said():
    return []


@pytest.fixture
def store(tmp_path, said):
    return Checkpoints(tmp_path / "checkpoints", keep=2, say=said.append)


def names(store: Checkpoints) -> list[str]:
    return sorted(path.name for path in store.folder.iterdir())


def test_what_is_saved_comes_back(store):
    facts = {"samples": 96, "scaler": {"scale": 65536.0}}
    folder = store.save(12, tensors(0.1), recipe=RECIPE, facts=facts, score=0.25)
    saved = store.latest()
    assert (saved.folder, saved.step, saved.score) == (folder, 12, 0.25)
    assert saved.facts == facts
    assert saved.recipe == RECIPE
    assert torch.equal(saved.tensors("model")["a.weight"], torch.full((3, 4), 0.1))
    with pytest.raises(ModelError, match=r"ema\.safetensors"):
        saved.tensors("ema")


def test_nothing_saved_is_nothing_found(store):
    assert store.latest() is None


def test_views_and_shared_tensors_are_saved(store):
    base = torch.arange(12.0).reshape(3, 4)
    group = {"base": base, "same": base, "row": base[1], "turned": base.T, "number": torch.tensor(3)}
    store.save(1, {"model": group}, recipe={})
    back = store.latest().tensors("model")
    assert all(torch.equal(back[name], value) for name, value in group.items())


def test_the_last_and_the_best_are_kept(store):
    for step, score in ((1, 0.5), (2, 0.3), (3, 0.4), (4, float("nan")), (5, None)):
        store.save(step, tensors(step), recipe=RECIPE, score=score)
    assert names(store) == ["step-00000002", "step-00000004", "step-00000005"]
    assert store.latest().step == 5


def test_saving_a_step_again_replaces_it(store):
    store.save(3, tensors(1), recipe=RECIPE)
    store.save(3, tensors(2), recipe=RECIPE)
    assert names(store) == ["step-00000003"]
    assert float(store.latest().tensors("model")["a.weight"][0, 0]) == 2


def cut(path):
    path.write_bytes(path.read_bytes()[:-5])


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: (f / MANIFEST).unlink(), "manifest.json is missing"),
        (lambda f: cut(f / MANIFEST), "manifest.json cannot be read"),
        (lambda f: (f / MANIFEST).write_text("[]"), "manifest.json cannot be read"),
        (lambda f: (f / MANIFEST).write_text('{"format": 9, "files": {}}'), "format 9"),
        (lambda f: (f / STATE).unlink(), "state.json is missing"),
        (lambda f: (f / "model.safetensors").unlink(), "model.safetensors is missing"),
        (lambda f: cut(f / "model.safetensors"), r"model.safetensors has .* bytes"),
        (lambda f: flip(f / "model.safetensors"), "model.safetensors was altered"),
        (lambda f: (f / "model.safetensors").write_bytes(b""), "has 0 bytes"),
    ],
)
def test_a_damaged_one_is_named_and_passed_over(store, said, damage, words):
    store.save(1, tensors(1), recipe=RECIPE, score=0.5)
    newest = store.save(2, tensors(2), recipe=RECIPE, score=0.1)
    damage(newest)
    assert store.latest().step == 1
    assert "step-00000002 is damaged" in said[0]
    assert re.search(words, said[0])
    # the next ones neither count it among those to keep nor stumble over it
    store.save(3, tensors(3), recipe=RECIPE)
    assert store.latest().step == 3


def test_a_damaged_one_does_not_push_out_a_whole_one(tmp_path, said):
    store = Checkpoints(tmp_path, keep=1, say=said.append)
    newest = store.save(20, tensors(1), recipe=RECIPE)
    cut(newest / "model.safetensors")
    store.save(15, tensors(1), recipe=RECIPE)  # gone on from an earlier one, then stopped
    assert store.latest().step == 15
    assert names(store) == ["step-00000015"]


def test_what_a_killed_save_leaves_is_swept(store):
    store.save(1, tensors(1), recipe=RECIPE)
    left = left_behind(store.folder)
    left.mkdir()
    (left / "model.safetensors").write_bytes(b"half")
    store.save(2, tensors(2), recipe=RECIPE)
    assert names(store) == ["step-00000001", "step-00000002"]


def test_killed_while_replacing_the_old_one_comes_back(store):
    folder = store.save(1, tensors(1), recipe=RECIPE)
    folder.rename(store.folder / f".aside-{folder.name}")  # between the two renames of a save
    assert store.latest().step == 1
    assert check(folder) is None


def test_a_failed_save_leaves_the_old_ones(store, monkeypatch):
    store.save(1, tensors(1), recipe=RECIPE)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("handi.training.state.save_file", full)
    with pytest.raises(OutputError, match="free some space"):
        store.save(2, tensors(2), recipe=RECIPE)
    assert names(store) == ["step-00000001"]


def test_another_recipe_is_refused_by_its_keys(store):
    store.save(1, tensors(1), recipe=RECIPE)
    saved = store.latest()
    saved.check_recipe({**RECIPE, "run": {"steps": 10, "minutes": 60}})  # how long a piece lasts is free
    other = {**RECIPE, "optim": {"lr": 5e-5, "betas": (0.9, 0.999)}, "run": {"steps": 20, "minutes": 5}}
    with pytest.raises(InputError, match=r"optim\.lr 0\.0001, now 5e-05; run\.steps 10, now 20"):
        saved.check_recipe(other)


def test_recipe_changes_name_what_came_and_went():
    assert recipe_changes({"a": {"b": 1}}, {"a": {"c": 1}}) == ["a.b 1, now gone", "a.c not there, now 1"]
    assert recipe_changes({"a": (1, 2)}, {"a": [1, 2]}) == []


def test_keep_none_is_refused(tmp_path):
    with pytest.raises(InputError, match="keep 1"):
        Checkpoints(tmp_path, keep=0)


def test_a_folder_of_another_kind_is_damaged(tmp_path):
    assert check(tmp_path) == "manifest.json is missing"
    (tmp_path / MANIFEST).write_text(json.dumps({"format": 1, "files": {}}))
    assert check(tmp_path) == "state.json is not in manifest.json"


# -------------------------------------------------------------------------------------- the optimiser


def small_model(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))


def train(model, optimizer, steps, start=0):
    for step in range(start, start + steps):
        torch.manual_seed(step)
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD, torch.optim.RMSprop])
def test_the_optimiser_goes_on_to_the_bit(store, kind):
    options = {"momentum": 0.9} if kind is torch.optim.SGD else {}
    straight = small_model()
    train(straight, kind(straight.parameters(), lr=0.01, **options), 6)

    model = small_model()
    optimizer = kind(model.parameters(), lr=0.01, **options)
    train(model, optimizer, 3)
    packed, rest = pack_optimizer(model, optimizer)
    store.save(3, {"model": trainable(model), "optimizer": packed}, recipe={}, facts={"optimizer": rest})

    saved = store.latest()
    again = small_model(seed=9)
    optimizer = kind(again.parameters(), lr=0.01, **options)
    restore(trainable(again), saved.tensors("model"))
    unpack_optimizer(again, optimizer, saved.tensors("optimizer"), saved.facts["optimizer"])
    train(again, optimizer, 3, start=3)
    assert all(torch.equal(a, b) for a, b in zip(straight.parameters(), again.parameters(), strict=True))


def test_a_fresh_optimiser_is_packed_as_it_is(store):
    model = small_model()
    optimizer = torch.optim.AdamW(model.parameters())
    assert pack_optimizer(model, optimizer) == ({}, {})
    unpack_optimizer(model, optimizer, {}, {})
    assert not optimizer.state


def test_another_model_is_refused():
    model = small_model()
    with pytest.raises(ModelError, match=r"2 differ, first 0\.bias"):
        restore(trainable(model), {k: v for k, v in trainable(model).items() if not k.startswith("0")})
    with pytest.raises(ModelError, match=r"0\.bias is \(5,\) in the checkpoint, \(4,\) here"):
        restore(trainable(model), {**trainable(model), "0.bias": torch.zeros(5)})
    with pytest.raises(ModelError, match=r"9\.weight, which is not trained here"):
        unpack_optimizer(
            model, torch.optim.AdamW(model.parameters()), {"9.weight|exp_avg": torch.ones(1)}, {}
        )


def test_latest_survives_a_vanished_folder(store):
    store.save(1, tensors(1), recipe=RECIPE)
    shutil.rmtree(store.folder)
    assert store.latest() is None
