"""Recipes: reading, overriding, and what a wrong entry says."""

from __future__ import annotations

import pytest

from handi.core.errors import InputError
from handi.training.recipe import load_recipe, parse_overrides, parse_recipe

LEAST = {"stage": "stage2", "model": {"preset": "mini"}, "data": {"path": "clips"}}


def with_(**entries):
    return {**LEAST, **entries}


def test_a_file_is_read_with_its_overrides(tmp_path):
    path = tmp_path / "hands.yaml"
    path.write_text(
        "stage: stage1\nmodel: {preset: mini, train: [area_unet.*, text_encoder.*]}\n"
        "data: {path: clips, dropout: .15}\noptim: {lr: 1e-4, betas: [0.9, 0.99]}\n"
        "run: {precision: no}\nloss: {hand: {form: literal}}\n"
    )
    recipe = load_recipe(path, {"optim.lr": "3e-4", "data.flip": "true", "loss.hand.weight": "0"})
    assert recipe.optim.lr == 3e-4
    assert recipe.optim.betas == (0.9, 0.99)
    assert recipe.data.flip is True
    assert (recipe.loss.hand.form, recipe.loss.hand.weight) == ("literal", 0.0)
    assert recipe.model.train == ("area_unet.*", "text_encoder.*")
    assert recipe.run.precision == "no"
    assert str(recipe.out) == "runs/hands"
    assert parse_recipe(recipe.as_dict()) == recipe


def test_numbers_with_an_exponent_are_numbers():
    assert parse_recipe(with_(optim={"lr": "1e-4"})).optim.lr == 1e-4  # YAML 1.1 reads 1e-4 as text


def test_lists_and_nothing_from_the_command_line():
    recipe = parse_recipe(
        with_(loss={"snr_gamma": 5}),
        {"loss.snr_gamma": "none", "model.train": "unet.*, vae.decoder.*", "optim.betas": "[0.5,0.6]"},
    )
    assert recipe.loss.snr_gamma is None
    assert recipe.model.train == ("unet.*", "vae.decoder.*")
    assert recipe.optim.betas == (0.5, 0.6)


def test_the_fingerprint_follows_every_entry_but_not_the_name(tmp_path):
    one = parse_recipe(LEAST)
    assert one.fingerprint() == parse_recipe(LEAST).fingerprint()
    assert one.fingerprint() != parse_recipe(LEAST, {"loss.hand.jitter": 0.5}).fingerprint()
    path = tmp_path / "a.yaml"
    path.write_text("stage: stage2\nmodel: {preset: mini}\ndata: {path: clips}\n")
    assert load_recipe(path).fingerprint() == one.fingerprint()


@pytest.mark.parametrize(
    ("content", "overrides", "message"),
    [
        (with_(optim={"learning_rate": 1}), {}, r"optim\.learning_rate is not an entry"),
        (with_(optim={"warmupp": 1}), {}, r"did you mean optim\.warmup\?"),
        (with_(), {"loss.hand.wieght": "1"}, r"did you mean loss\.hand\.weight\?"),
        (with_(optm={}), {}, r"did you mean optim\?"),
        ({"model": {"preset": "mini"}, "data": {"path": "x"}}, {}, "has no stage; write stage: vae or "),
        (with_(stage="stage3"), {}, "use vae or stage1 or poses or stage2"),
        (with_(run={"steps": "many"}), {}, r"run\.steps is 'many'; use a whole number"),
        (with_(run={"steps": 1.5}), {}, r"run\.steps is 1\.5"),
        (with_(run={"steps": True}), {}, r"run\.steps is True"),
        (with_(run={"steps": 0}), {}, r"run\.steps is 0; use 1 or more"),
        (with_(data={"path": "x", "flip": "perhaps"}), {}, "use true or false"),
        (with_(data={"path": "x", "dropout": 1.5}), {}, r"data\.dropout is 1\.5"),
        (with_(data={}), {}, r"has no data\.path"),
        (with_(optim={"lr": "nan"}), {}, r"optim\.lr is 'nan'"),
        (with_(model={}), {}, r"needs model\.init or model\.preset"),
        (with_(model={"init": "a", "preset": "mini"}), {}, r"needs model\.init or model\.preset"),
        (with_(), {"model.frozen": "bf16"}, r"set run\.precision to bf16"),
        (with_(), {"data.size": "100,448"}, "in multiples of 16"),
        (with_(optim=3), {}, "optim must hold entries"),
        (with_(name="x"), {}, "name is not an entry"),
    ],
)
def test_wrong_entries_are_named(content, overrides, message):
    with pytest.raises(InputError, match=message):
        parse_recipe(content, overrides)


def test_files_that_are_no_recipes(tmp_path):
    with pytest.raises(InputError, match="no such recipe"):
        load_recipe(tmp_path / "none.yaml")
    for text, message in (("a: [", "is not YAML"), ("just words", "has no entries"), ("", "has no entries")):
        path = tmp_path / "bad.yaml"
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            load_recipe(path)


def test_overrides_of_a_command_line():
    assert parse_overrides(["optim.lr=1e-4", "run.save-every=5", "model.init=a=b"]) == {
        "optim.lr": "1e-4",
        "run.save_every": "5",
        "model.init": "a=b",
    }


@pytest.mark.parametrize("value", ["nan", "inf", "1e400", "9" * 400])
def test_a_number_is_finite_wherever_it_is_wanted(value):
    for key in ("loss.motion", "optim.lr", "model.lora_alpha", "run.minutes"):
        with pytest.raises(InputError, match=rf"{key} is .*; use a number"):
            parse_recipe({"stage": "stage2"}, {key: value})


def test_an_alpha_is_a_number_above_nothing():
    given = {"stage": "stage2", "model": {"preset": "mini", "lora_alpha": 0.5}, "data": {"path": "x"}}
    assert parse_recipe(given).model.lora_alpha == 0.5
    with pytest.raises(InputError, match=r"model.lora_alpha is 0.0; use more than 0"):
        parse_recipe(given, {"model.lora_alpha": "0"})


def test_every_entry_is_explained_with_its_value_in_the_recipe(handi):
    code, out, _ = handi("train", "mini_stage1", "--optim.lr", "3e-4", "--explain")
    text = " ".join(out.replace("│", "").split())
    assert code == 0
    assert "learning rate (default: 0.0003)" in text
    assert "--name" not in text
    for section, entries in parse_recipe(LEAST).as_dict().items():
        for entry in entries if isinstance(entries, dict) else ():
            assert f"--{section}.{entry.replace('_', '-')}" in text
