"""HandiUNet against AnimateAnything's own numbers, against diffusers' blocks run plainly, and by itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from helpers.reference_run import fixture_weights, reference
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.plain_unet import as_diffusers_built_it, plain_forward
from handi.models.unet import HandiUNet

PICTURES = Path(__file__).parents[1] / "pictures"
VARIANTS = {
    "output": {},
    "output_no_motion": {"motion": None},
    "output_no_mask": {"mask": None},
    "output_one_frame": {},
}


@pytest.fixture(scope="module")
def reference_unet():
    case, tensors = reference("unet")
    unet = HandiUNet(**case["unet"]).eval()
    fixture_weights(unet, case["seed"])
    return unet, tensors


def inputs(tensors, **changes):
    positional = tensors["sample"], tensors["timestep"], tensors["encoder_hidden_states"]
    named = {name: tensors[name] for name in ("condition_latent", "mask", "motion")}
    return positional, {**named, **changes}


@pytest.mark.parametrize("name", VARIANTS)
@torch.no_grad()
def test_agrees_with_the_original(reference_unet, name):
    unet, tensors = reference_unet
    (sample, timestep, text), named = inputs(tensors, **VARIANTS[name])
    if name == "output_one_frame":
        sample = sample[:, :, :1]
    output = unet(sample, timestep, text, **named)
    assert output.shape == tensors[name].shape
    assert (output - tensors[name]).abs().max() <= 1e-5


def test_its_weights_have_the_names_and_shapes_of_the_original():
    original = json.loads((PICTURES / "animate_anything/unet_names.json").read_text())
    unet = HandiUNet(**reference("unet")[0]["unet"])
    assert {name: list(value.shape) for name, value in unet.state_dict().items()} == original


def test_full_size_has_the_published_number_of_parameters():
    with torch.device("meta"):
        unet = HandiUNet(motion_mask=True, motion_strength=True)
    assert sum(p.numel() for p in unet.parameters()) == 1_413_401_540


@torch.no_grad()
def test_agrees_with_diffusers_blocks_in_a_batch_of_odd_size():
    """Different text, mask, motion and time for each clip, four kinds of block, sides that do not halve."""
    torch.manual_seed(0)
    shape = {
        "block_out_channels": (32, 64, 64),
        "down_block_types": ("CrossAttnDownBlock3D", "CrossAttnDownBlock3D", "DownBlock3D"),
        "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D", "CrossAttnUpBlock3D"),
        "layers_per_block": 2,
        "cross_attention_dim": 16,
        "attention_head_dim": 8,
        "motion_mask": True,
        "motion_strength": True,
    }
    unet = HandiUNet(**shape).eval()
    fixture_weights(unet, 3)
    arguments = (
        torch.randn(2, 4, 3, 7, 10),
        torch.tensor([999, 12]),
        torch.randn(2, 5, 16),
        torch.randn(2, 4, 1, 7, 10),
        torch.rand(2, 1, 1, 7, 10),
        torch.tensor([3.0, 8.0]),
    )
    sample, timestep, text, condition_latent, mask, motion = arguments
    ours = unet(sample, timestep, text, condition_latent=condition_latent, mask=mask, motion=motion)
    assert (ours - plain_forward(as_diffusers_built_it(unet), *arguments)).abs().max() <= 2e-5


class CountDivisions(TorchDispatchMode):
    """Counts divisions by the number 1."""

    def __init__(self):
        super().__init__()
        self.by_one = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func._overloadpacket == torch.ops.aten.div and not isinstance(args[1], torch.Tensor):
            self.by_one += args[1] == 1
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def test_no_division_by_one_and_text_once_a_clip(reference_unet):
    unet, tensors = reference_unet
    positional, named = inputs(tensors)
    seen = []
    hook = (
        unet.down_blocks[0]
        .attentions[0]
        .transformer_blocks[0]
        .attn2.to_k.register_forward_hook(lambda module, args, output: seen.append(args[0].shape[0]))
    )
    with CountDivisions() as count:
        unet(*positional, **named)
    hook.remove()
    assert seen == [1]
    assert count.by_one == 0
    with CountDivisions() as control:
        torch.ones(2) / 1.0
    assert control.by_one == 1


def test_gradient_checkpointing_changes_nothing_but_memory(reference_unet):
    unet, tensors = reference_unet
    positional, named = inputs(tensors)

    def run():
        unet.zero_grad()
        packed = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: packed.append(t.numel()) or t, lambda t: t):
            output = unet(*positional, **named)
        output.square().sum().backward()
        return sum(packed), {n: p.grad.clone() for n, p in unet.named_parameters() if p.grad is not None}

    stored, plain = run()
    unet.enable_gradient_checkpointing()
    try:
        stored_less, checkpointed = run()
    finally:
        unet.disable_gradient_checkpointing()
    assert plain.keys() == checkpointed.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(checkpointed[name], gradient, rtol=1e-4, atol=1e-5)
    assert stored_less < 0.5 * stored


def test_gradient_reaches_every_parameter_but_the_dead_ones(reference_unet):
    unet, tensors = reference_unet
    positional, named = inputs(tensors)
    unet.zero_grad()
    unet(*positional, **named).square().sum().backward()
    without = {name.split(".")[0] for name, p in unet.named_parameters() if p.grad is None}
    assert without == {"conv_in", "motion_embedding"}  # the mask-less input, and dead in the original too


def test_widened_input_needs_a_mask():
    case, tensors = reference("unet")
    unet = HandiUNet(**{**case["unet"], "in_channels": 5}).eval()
    positional, named = inputs(tensors)
    assert unet(*positional, **named).shape == tensors["output"].shape
    with pytest.raises(ValueError, match="needs a mask"):
        unet(*positional, **{**named, "mask": None})


def test_poses_begin_as_nothing_and_are_then_told(reference_unet):
    plain, tensors = reference_unet
    case, _ = reference("unet")
    unet = HandiUNet(**case["unet"], poses=True).eval()
    info = unet.load_state_dict(plain.state_dict(), strict=False)
    assert info.missing_keys == ["pose_stem.weight", "pose_stem.bias"]
    positional, named = inputs(tensors)
    batch, _, frames = positional[0].shape[:3]
    poses = torch.rand(batch, frames, 42, 2, generator=torch.Generator().manual_seed(0))
    told = unet(*positional, **named, poses=poses)
    assert (told - tensors["output"]).abs().max() <= 1e-5
    told.square().sum().backward()  # there is something to learn
    assert unet.pose_stem.weight.grad.abs().max() > 0
    torch.nn.init.normal_(unet.pose_stem.weight, std=0.1)
    with torch.no_grad():
        assert (unet(*positional, **named) - tensors["output"]).abs().max() <= 1e-5  # not told
        other = poses.clone()
        other[-1] = 0
        outputs = [unet(*positional, **named, poses=given) for given in (poses, other)]
    assert (outputs[0][-1] - outputs[1][-1]).abs().max() > 1e-4
    torch.testing.assert_close(outputs[0][:-1], outputs[1][:-1])


def test_config_says_whether_mask_and_motion_are_read():
    case, tensors = reference("unet")
    unet = HandiUNet(**{**case["unet"], "motion_mask": False, "motion_strength": False}).eval()
    positional, named = inputs(tensors)
    with torch.no_grad():
        full = unet(*positional, **named)
        bare = unet(*positional, **{**named, "mask": None, "motion": None})
    assert torch.equal(full, bare)


def test_config_has_the_originals_keys_and_poses():
    case, _ = reference("unet")
    config = HandiUNet(**case["unet"]).config
    expected = {
        *("sample_size", "in_channels", "out_channels", "down_block_types", "up_block_types"),
        *("block_out_channels", "layers_per_block", "downsample_padding", "mid_block_scale_factor"),
        *("act_fn", "norm_num_groups", "norm_eps", "cross_attention_dim", "attention_head_dim"),
        *("motion_mask", "motion_strength"),
        "poses",  # ours; off, there is nothing of it
    }
    assert {key for key in config if not key.startswith("_")} == expected
