"""Model folders: ours and the published ones load whole, damaged ones say what is wrong."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from handi import HandiPipeline
from handi.core.errors import InputError, ModelError
from handi.models import folder as model_folder
from handi.models.fresh import random_checkpoint
from handi.models.parts import StageSettings

FAST = {"num_inference_steps": 2, "area_inference_steps": 1, "num_frames": 3}


def quiet(pipe):
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture
def folder(model_folder, tmp_path):
    """A copy of the saved model, to be damaged."""
    return shutil.copytree(model_folder, tmp_path / "model")


@pytest.fixture
def published(folder):
    """The same in the layout of AnimateAnything: stage 2 alone, a training scheduler, no card."""
    shutil.rmtree(folder / "area_unet")
    (folder / model_folder.CARD).unlink()
    (folder / model_folder.PRIOR).unlink()
    config = json.loads((folder / "unet/config.json").read_text())
    config["_class_name"], config["_diffusers_version"] = "UNet3DConditionModel", "0.24.0"
    (folder / "unet/config.json").write_text(json.dumps(config))
    index = {"unet": ["models.unet_3d_condition_mask", "UNet3DConditionModel"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    scheduler = json.loads((folder / "scheduler/scheduler_config.json").read_text())
    keep = {key: scheduler[key] for key in ("beta_start", "beta_end", "beta_schedule", "num_train_timesteps")}
    ddim = {"_class_name": "DDIMScheduler", "timestep_spacing": "leading", "steps_offset": 1, **keep}
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps(ddim))
    return folder


def to_bin(folder, stem):
    weights = load_file(folder / f"{stem}.safetensors")
    name = "pytorch_model" if stem == "model" else stem
    torch.save(weights, folder / f"{name}.bin")
    (folder / f"{stem}.safetensors").unlink()


def state(pipe):
    return {
        f"{name}.{key}": value
        for name in ("unet", "area_unet", "vae", "text_encoder")
        if getattr(pipe, name) is not None
        for key, value in getattr(pipe, name).state_dict().items()
    }


def test_save_and_load_round_trip(pipe, model_folder):
    loaded = quiet(HandiPipeline.from_pretrained(model_folder))
    ours, theirs = state(pipe), state(loaded)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert loaded.card == pipe.card
    assert torch.equal(loaded.prior_mask, pipe.prior_mask)
    assert type(loaded.scheduler) is type(pipe.scheduler)
    picture = np.zeros((64, 64, 3), np.uint8)
    clips = [
        p(picture, "Cut.", generator=torch.Generator().manual_seed(0), **FAST).frames.astype(int)
        for p in (pipe, loaded)
    ]
    assert np.abs(clips[0] - clips[1]).max() <= 1
    names = {path.suffix for path in model_folder.rglob("*") if path.is_file()}
    assert names <= {".safetensors", ".json", ".txt"}
    card = json.loads((model_folder / "handi.json").read_text())
    assert (card["frames"], card["height"], card["stage1"]["guidance"]) == (16, 64, 3.0)


def test_saving_again_replaces_and_foreign_folders_are_left_alone(pipe, folder, tmp_path):
    (folder / "stale.txt").write_text("old")
    pipe.save_pretrained(folder)
    assert not (folder / "stale.txt").exists()
    assert not list(folder.parent.glob(".model-*"))
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.tex").write_text("…")
    with pytest.raises(InputError, match="not a handi model"):
        pipe.save_pretrained(precious)
    assert (precious / "thesis.tex").read_text() == "…"


def test_a_swapped_scheduler_is_saved(pipe, tmp_path):
    from diffusers import DDIMScheduler

    other = HandiPipeline.from_checkpoint(pipe.checkpoint)
    other.scheduler = DDIMScheduler.from_config(other.scheduler.config)
    other.save_pretrained(tmp_path / "m")
    # a training schedule in a folder of ours is what the user chose to sample with
    assert type(HandiPipeline.from_pretrained(tmp_path / "m").scheduler) is DDIMScheduler


def test_published_folder_loads_as_stage_2_alone(published):
    pipe = quiet(HandiPipeline.from_pretrained(published))
    assert pipe.area_unet is None
    assert pipe.card.stage1 is None
    assert (pipe.card.height, pipe.card.width) == (64, 64)  # the UNet's sample size × 8
    assert type(pipe.scheduler).__name__ == "DPMSolverMultistepScheduler"
    assert pipe.scheduler.config.timestep_spacing == "leading"
    assert pipe.scheduler.config.final_sigmas_type == "sigma_min"
    assert pipe.card.stage2 == StageSettings(steps=25, guidance=9.0)


def test_bin_weights_load(published):
    before = state(HandiPipeline.from_pretrained(published))
    for name, stem in (
        ("unet", "diffusion_pytorch_model"),
        ("vae", "diffusion_pytorch_model"),
        ("text_encoder", "model"),
    ):
        to_bin(published / name, stem)
    after = state(HandiPipeline.from_pretrained(published))
    assert all(torch.equal(before[key], after[key]) for key in before)


class Payload:
    """What a malicious pickle would run."""

    def __reduce__(self):
        import os

        return os.mkdir, ("owned",)


def test_bin_weights_cannot_run_code(published, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    to_bin(published / "unet", "diffusion_pytorch_model")
    torch.save({"conv_in.weight": Payload()}, published / "unet/diffusion_pytorch_model.bin")
    with pytest.raises(ModelError, match="unet"):
        HandiPipeline.from_pretrained(published)
    assert not (tmp_path / "owned").exists()


def test_old_vae_attention_names_load(published):
    path = published / "vae/diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    old = {}
    for key, value in weights.items():
        for new_name, old_name in (
            ("to_q", "query"),
            ("to_k", "key"),
            ("to_v", "value"),
            ("to_out.0", "proj_attn"),
        ):
            key = key.replace(f"attentions.0.{new_name}.", f"attentions.0.{old_name}.")
        old[key] = value
    assert old.keys() != weights.keys()
    save_file(old, path)
    loaded = HandiPipeline.from_pretrained(published).vae.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in weights.items())


def test_extra_position_ids_are_harmless(published):
    path = published / "text_encoder/model.safetensors"
    weights = load_file(path)
    prefix = next(key for key in weights if key.endswith("token_embedding.weight")).split("token_embedding")[
        0
    ]
    save_file({**weights, f"{prefix}position_ids": torch.arange(77)[None]}, path)
    HandiPipeline.from_pretrained(published)


def test_widened_input_convolution_loads(published):
    config = json.loads((published / "unet/config.json").read_text())
    (published / "unet/config.json").write_text(json.dumps({**config, "in_channels": 5}))
    path = published / "unet/diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    narrow = weights["conv_in.weight"]
    weights["conv_in.weight"] = torch.cat([torch.zeros_like(narrow[:, :1]), narrow], dim=1)
    save_file(weights, path)
    pipe = quiet(HandiPipeline.from_pretrained(published))
    out = pipe(np.zeros((64, 64, 3), np.uint8), "Cut.", **FAST)
    assert out.frames.shape == (1, 3, 64, 64, 3)


def test_half_precision_variant(pipe, folder):
    path = folder / "unet/diffusion_pytorch_model.safetensors"
    save_file(
        {k: v.half() for k, v in load_file(path).items()},
        path.with_suffix("").with_suffix(".fp16.safetensors"),
    )
    path.unlink()
    for name in ("area_unet", "vae"):
        one = folder / name / "diffusion_pytorch_model.safetensors"
        one.rename(one.with_name("diffusion_pytorch_model.fp16.safetensors"))
    text = folder / "text_encoder/model.safetensors"
    text.rename(text.with_name("model.fp16.safetensors"))
    loaded = HandiPipeline.from_pretrained(folder, torch_dtype=torch.float16, variant="fp16")
    assert loaded.unet.dtype == torch.float16


def test_hub_id_from_a_local_cache(folder, tmp_path, monkeypatch):
    """The hub's path, offline: a cache as `hf download` leaves it."""
    repository = tmp_path / "hub/models--someone--hands"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text("0" * 40)
    shutil.copytree(folder, repository / "snapshots" / ("0" * 40))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert model_folder.locate("someone/hands") == repository / "snapshots" / ("0" * 40)
    assert HandiPipeline.from_pretrained("someone/hands").source == "someone/hands"
    with pytest.raises(ModelError, match="neither a folder here nor a hub repository"):
        model_folder.locate("someone/else")


# ------------------------------------------------------------------------------------------ damage


@pytest.mark.parametrize("name", model_folder.COMPONENTS)
def test_missing_folder_is_named(folder, name):
    shutil.rmtree(folder / name)
    with pytest.raises(ModelError, match=f"has no {name}/"):
        model_folder.load(folder)


@pytest.mark.parametrize("name", ["unet", "area_unet", "vae", "text_encoder"])
@pytest.mark.parametrize("damage", ["config", "weights", "cut", "empty", "hole"])
def test_damaged_network_is_named(folder, name, damage):
    weights = next((folder / name).glob("*.safetensors"))
    if damage == "config":
        (folder / name / "config.json").unlink()
    elif damage == "weights":
        weights.unlink()
    elif damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-1000])
    elif damage == "empty":
        weights.write_bytes(b"")
    else:
        tensors = load_file(weights)
        tensors.pop(sorted(tensors)[0])
        save_file(tensors, weights)
    with pytest.raises(ModelError) as error:
        model_folder.load(folder)
    assert f"{folder / name}" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("handi.json", "{"),
        ("handi.json", '{"format": 99, "stage1": null, "stage2": {}}'),
        ("handi.json", '{"format": 1, "stage1": null, "stage2": {}, "colour": 3}'),
        ("handi.json", '{"format": 1, "stage1": null, "stage2": {}}'),
        ("prior_mask.safetensors", "not safetensors"),
        ("scheduler/scheduler_config.json", "{"),
        ("tokenizer/tokenizer.json", "{"),
    ],
)
def test_damaged_small_file_is_named(folder, file, content):
    (folder / file).write_text(content)
    with pytest.raises(ModelError) as error:
        model_folder.load(folder)
    assert str(folder) in str(error.value)


def test_no_such_model(tmp_path):
    with pytest.raises(ModelError, match="no such model folder"):
        model_folder.load(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="is a file"):
        model_folder.load(tmp_path / "file")


def test_fingerprint_follows_the_weights(folder):
    parts = model_folder.load(folder)
    before = model_folder.fingerprint(parts)
    assert before == model_folder.fingerprint(parts)
    path = folder / "vae/diffusion_pytorch_model.safetensors"
    save_file({key: value + 1 for key, value in load_file(path).items()}, path)
    assert model_folder.fingerprint(parts) != before
    one, two = (model_folder.fingerprint(random_checkpoint(seed=s, size=64)) for s in (0, 1))
    assert one != two
    assert one == model_folder.fingerprint(random_checkpoint(seed=0, size=64))
