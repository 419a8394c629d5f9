"""LoRA files: written in diffusers' form, loaded by plain peft, by diffusers and by `generate --lora`."""

from __future__ import annotations

import hashlib
import json

import peft
import pytest
import torch
from diffusers import UNet3DConditionModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from handi import HandiPipeline
from handi.core.errors import InputError, ModelError
from handi.models.fresh import random_checkpoint
from handi.models.lora import add_lora, merge_lora, save_lora


def trained(network: nn.Module, alpha: float | None = None, targets=("to_q", "to_v")) -> nn.Module:
    """Adapters of rank 2 that do something."""
    add_lora(network, 2, alpha, targets)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in network.named_parameters():
        if ".lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) / 3
    return network


@pytest.fixture(scope="module")
def lora(tmp_path_factory):
    """(file, merged network) of a LoRA with alpha 0.5 for the random model's stage 2."""
    path = tmp_path_factory.mktemp("lora") / "lora.safetensors"
    network = trained(random_checkpoint(size=64).unet, 0.5)
    save_lora(network, "unet", path)
    merge_lora(network)
    return path, network


def inputs(network: nn.Module) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    channels = network.config.out_channels
    return {
        "sample": torch.randn(1, channels, 2, 8, 8, generator=generator),
        "timestep": torch.tensor(500),
        "encoder_hidden_states": torch.randn(1, 7, network.config.cross_attention_dim, generator=generator),
        "condition_latent": torch.randn(1, channels, 1, 8, 8, generator=generator),
        "mask": torch.ones(1, 1, 1, 8, 8),
        "motion": torch.tensor(5.0),
    }


def test_an_alpha_below_one_is_trained_as_it_is():
    network = trained(nn.ModuleDict({"to_q": nn.Linear(4, 4)}), 0.5, ("to_q",))
    assert network["to_q"].scaling["default"] == 0.25  # alpha / rank
    default = trained(nn.ModuleDict({"to_q": nn.Linear(4, 4)}), None, ("to_q",))
    assert default["to_q"].scaling["default"] == 1


def test_the_file_is_of_diffusers_form(lora):
    with safe_open(lora[0], "pt") as file:
        assert all(key.startswith("unet.") and key.endswith(".weight") for key in file.keys())  # noqa: SIM118
        about = json.loads(file.metadata()["lora_adapter_metadata"])
    assert about == {"unet.r": 2, "unet.lora_alpha": 0.5, "unet.target_modules": ["to_q", "to_v"]}


@torch.no_grad()
def test_plain_peft_loads_it_and_gives_the_same_output(lora):
    path, merged = lora
    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["lora_adapter_metadata"])
    config = peft.LoraConfig(**{key.removeprefix("unet."): value for key, value in about.items()})
    network = random_checkpoint(size=64).unet
    before = network(**inputs(network))
    peft.inject_adapter_in_model(config, network)
    weights = {key.removeprefix("unet."): value for key, value in load_file(path).items()}
    done = peft.set_peft_model_state_dict(network, weights)
    assert not done.unexpected_keys
    after = network(**inputs(network))
    assert torch.allclose(after, merged(**inputs(merged)), atol=1e-5)
    assert not torch.allclose(after, before, atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("form", ["file", "folder", "dictionary"])
def test_the_pipeline_loads_it_as_diffusers_pipelines_do(lora, form):
    path, merged = lora
    pipe = HandiPipeline.from_checkpoint(random_checkpoint(size=64))
    before = pipe.unet(**inputs(merged))
    pipe.load_lora_weights({"file": path, "folder": str(path.parent), "dictionary": load_file(path)}[form])
    if form != "dictionary":  # which has no alpha: it is taken for the rank
        assert torch.allclose(pipe.unet(**inputs(merged)), merged(**inputs(merged)), atol=1e-5)
    assert pipe.get_list_adapters() == {"unet": ["default_0"]}
    pipe.disable_lora()
    assert torch.allclose(pipe.unet(**inputs(merged)), before, atol=1e-5)
    pipe.unload_lora_weights()
    assert torch.allclose(pipe.unet(**inputs(merged)), before, atol=1e-5)
    assert pipe.get_list_adapters() == {}


@torch.no_grad()
def test_a_fused_lora_can_be_saved_and_a_loose_one_is_refused(lora, tmp_path):
    path, merged = lora
    pipe = HandiPipeline.from_checkpoint(random_checkpoint(size=64))
    pipe.load_lora_weights(path)
    with pytest.raises(InputError, match=r"fuse_lora\(\)"):
        pipe.save_pretrained(tmp_path / "m")
    pipe.fuse_lora(components=["unet"])
    pipe.unload_lora_weights()
    pipe.save_pretrained(tmp_path / "m")
    again = HandiPipeline.from_pretrained(tmp_path / "m").unet
    assert torch.allclose(again(**inputs(merged)), merged(**inputs(merged)), atol=1e-5)


@torch.no_grad()
def test_a_lean_network_and_stage_1_have_loras_too(tmp_path):
    pipe = HandiPipeline.from_pretrained("mini")
    base = {name: value.clone() for name, value in pipe.area_unet.state_dict().items()}
    network = trained(pipe.area_unet, 3.0, ("query", "key_value"))
    save_lora(network, "area_unet", tmp_path / "a.safetensors")
    merge_lora(network)
    merged = network.state_dict()
    pipe = HandiPipeline.from_pretrained("mini")
    pipe.load_lora_weights(tmp_path / "a.safetensors")
    pipe.fuse_lora(components=["area_unet"])
    pipe.unload_lora_weights()
    loaded = pipe.area_unet.state_dict()
    assert loaded.keys() == merged.keys()
    assert all(torch.allclose(loaded[name], merged[name], atol=1e-5) for name in merged)
    assert any(not torch.equal(base[name], merged[name]) for name in merged)


def test_diffusers_own_network_takes_what_it_wrote_before_too(lora):
    """A file without metadata, as other programs write them: alpha counts as the rank."""
    pipe = HandiPipeline.from_checkpoint(random_checkpoint(size=64))
    pipe.load_lora_weights(load_file(lora[0]))
    assert {layer.scaling["default_0"] for layer in pipe.unet.modules() if hasattr(layer, "scaling")} == {1.0}
    assert isinstance(pipe.unet, UNet3DConditionModel)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda w: {f"transformer.{k}": v for k, v in w.items()}, "holds weights of transformer"),
        (lambda w: {k.replace("to_q", "to_zz"): v for k, v in w.items()}, "is of another network: unet"),
        (lambda w: {k: v[..., :1].contiguous() for k, v in w.items()}, "is of another network: unet"),
        (lambda w: {}, "holds nothing"),
        (None, "is no LoRA file that can be read"),
    ],
)
def test_what_is_no_lora_for_this_model_is_one_error(lora, tmp_path, change, what):
    path = tmp_path / "bad.safetensors"
    if change is None:
        path.write_bytes(b"rubbish")
    else:
        save_file(change(load_file(lora[0])), path)
    pipe = HandiPipeline.from_checkpoint(random_checkpoint(size=64))
    before = pipe.unet.state_dict().keys()
    with pytest.raises(ModelError, match=rf"bad\.safetensors: {what}"):
        pipe.load_lora_weights(path)
    assert pipe.unet.state_dict().keys() == before


def test_generate_takes_a_lora(lora, handi, model_folder, picture, tmp_path):
    one = ("generate", "--image", picture, "--prompt", "Cut.", "--model", model_folder, "--mask", "full")
    fast = ("--frames", 2, "--steps", 1, "--save-frames")
    code, _, err = handi(*one, *fast, "--out", tmp_path / "a", "--lora", lora[0])
    assert code == 0, err
    assert handi(*one, *fast, "--out", tmp_path / "b")[0] == 0
    frames = [(tmp_path / name / "frames" / "0001.png").read_bytes() for name in "ab"]
    assert frames[0] != frames[1]
    record = json.loads((tmp_path / "a/run.json").read_text())
    assert record["settings"]["lora"] == str(lora[0])
    assert record["lora_sha256"] == hashlib.sha256(lora[0].read_bytes()).hexdigest()
    code, _, err = handi(*one, *fast, "--out", tmp_path / "c", "--lora", "none.safetensors")
    assert code == 1
    assert "none.safetensors: no such file; name a file" in err
