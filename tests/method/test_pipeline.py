"""HandiPipeline: the original's numbers, batches, masks, sizes, both stages, and diffusers' habits."""

from __future__ import annotations

import dataclasses
from functools import partial

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, EulerDiscreteScheduler
from helpers.reference_run import fixture_weights, reference
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel

from handi import HandiPipeline
from handi.core.errors import InputError
from handi.method import diffusion
from handi.models.backbone import Layout
from handi.models.fresh import random_checkpoint
from handi.models.parts import Checkpoint, ModelCard
from handi.models.text import byte_tokenizer
from handi.models.unet import HandiUNet

FAST = {"num_inference_steps": 2, "area_inference_steps": 1, "num_frames": 3}


def seeded(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def scene(seed=0, height=64, width=64):
    small = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def left_half(height=64, width=64):
    mask = np.zeros((height, width), np.float32)
    mask[:, : width // 2] = 1
    return mask


# -------------------------------------------------------------------------------------- the original


@pytest.fixture(scope="module")
def original():
    """The pipeline of the reference run, from its regenerated weights."""
    case, tensors = reference("pipeline")
    unet, vae = HandiUNet(**case["unet"]), AutoencoderKL(**case["vae"])
    text_encoder = CLIPTextModel(CLIPTextConfig(**case["text"]))
    fixture_weights(unet, case["unet_seed"])
    fixture_weights(vae, case["vae_seed"])
    fixture_weights(text_encoder, case["text_seed"], prefix="text_model.")  # its name for them then
    parts = Checkpoint(
        unet=unet.eval(),
        area_unet=None,
        vae=vae.eval(),
        text_encoder=text_encoder.eval(),
        tokenizer=byte_tokenizer(max_length=16),
        scheduler_config=case["scheduler"],
        prior_mask=None,
        card=ModelCard(stage1=None),
        source="reference",
        published=True,
    )
    return HandiPipeline.from_checkpoint(parts), case, tensors


@torch.no_grad()
def test_text_and_context_agree_with_the_original(original):
    pipe, case, tensors = original
    text = pipe.encode_text([case["prompt"], ""])
    torch.testing.assert_close(text[:1], tensors["prompt_embeds"], atol=5e-6, rtol=0)
    torch.testing.assert_close(text[1:], tensors["uncond_embeds"], atol=5e-6, rtol=0)
    latent = pipe.vae.encode(tensors["image"][0]).latent_dist.mode() * pipe.vae.config.scaling_factor
    torch.testing.assert_close(latent[:, :, None], tensors["condition_latent"], atol=2e-6, rtol=0)


@pytest.mark.parametrize(("run", "guidance"), [("full", 9.0), ("part", 9.0), ("lowcfg", 1.5)])
@torch.no_grad()
def test_sampling_agrees_with_the_original(original, run, guidance):
    pipe, case, tensors = original
    expected = tensors[f"{run}/timesteps"]
    timesteps = diffusion.set_timesteps(pipe.scheduler, case["steps"], "cpu", len(expected) / case["steps"])
    assert torch.equal(timesteps, expected)
    context = tensors["condition_latent"]
    noise = tensors[f"{run}/noise"]
    layout = Layout(
        context.expand_as(noise),
        free=tensors["mask"],
        area=tensors["mask"],
        context=context,
        frame_index=torch.arange(noise.shape[2])[None],
        motion=torch.tensor([float(case["motion"])]),
    )
    predict = diffusion.guide(
        partial(pipe.backbone.predict, pipe.unet),
        layout,
        pipe.encode_text([case["prompt"]]),
        pipe.encode_text([""]),
        guidance,
    )
    x = pipe.backbone.process.start(layout.z, noise, timesteps[0])
    latents = diffusion.sample(predict, x, pipe.scheduler, timesteps)
    final = tensors[f"{run}/final_latents"]
    assert (latents - final).abs().max() <= 1e-4 * final.std()
    video = (pipe.decode(latents)[0] * 255).round().permute(1, 2, 3, 0)
    assert (video - tensors[f"{run}/video_uint8"].float()).abs().max() <= 1


# ----------------------------------------------------------------------------------------- one clip


def test_both_stages_make_a_clip(pipe):
    out = pipe(scene(), "Cut the carrot.", generator=seeded(0), **FAST)
    assert out.frames.shape == (1, 3, 64, 64, 3)
    assert out.frames.dtype == np.uint8
    assert out.motion_area.shape == out.motion_area_soft.shape == (1, 64, 64)
    assert out.motion_area.dtype == bool
    assert 0 <= out.motion_area_soft.min() < out.motion_area_soft.max() <= 1
    assert set(out.seconds) == {"encode", "stage1", "stage2", "decode"}
    assert any("random" in note for note in out.notes)


def test_same_seed_same_clip_other_seed_other_clip(pipe):
    clips = [pipe(scene(), "Cut.", generator=seeded(s), mask="full", **FAST).frames for s in (1, 1, 2)]
    assert np.array_equal(clips[0], clips[1])
    assert not np.array_equal(clips[0], clips[2])


@pytest.mark.parametrize("change", ["prompt", "mask", "motion", "guidance", "context"])
def test_every_condition_matters(pipe, change):
    base = {"image": scene(), "prompt": "Cut the carrot.", "mask": left_half(), "motion": 5.0}
    other = {
        "prompt": {"prompt": "Stir the soup."},
        "mask": {"mask": np.ones((64, 64))},
        "motion": {"motion": 9.0},
        "guidance": {"guidance_scale": 1.0},
        "context": {"image": scene(1)},
    }[change]
    latents = [
        pipe(**arguments, generator=seeded(0), output_type="latent", **FAST).frames
        for arguments in (base, {**base, **other})
    ]
    assert (latents[0] - latents[1]).abs().max() > 1e-4


def test_outside_the_area_is_the_context_to_the_bit(pipe):
    out = pipe(scene(), "Cut.", mask=left_half(), generator=seeded(0), **FAST)
    assert (out.frames[0][:, :, 32:] == out.context[0][:, 32:]).all()
    assert (out.frames[0][0] == out.context[0]).all()  # frame 0 is the context image
    assert (out.frames[0][1:, :, :16] != out.context[0][:, :16]).any()
    raw = pipe(scene(), "Cut.", mask=left_half(), generator=seeded(0), restore_background=False, **FAST)
    assert (raw.frames[0][1:, :, 32:] != raw.context[0][:, 32:]).any()
    inner = slice(0, 24)  # farther from the edge than the feather: what was generated, whole
    assert (raw.frames[0][1:, :, inner] == out.frames[0][1:, :, inner]).all()


def test_a_mask_of_stage_1_passed_in_again_gives_the_same_clip(pipe):
    """So a user can save the area, edit it, and know that only the edit changes the clip."""
    first = pipe(scene(), "Cut.", generator=seeded(3), **FAST)
    again = pipe(scene(), "Cut.", generator=seeded(3), mask=first.motion_area[0], **FAST)
    assert np.array_equal(first.motion_area, again.motion_area)
    assert np.abs(first.frames.astype(int) - again.frames).max() <= 1


def test_stage_1_sees_the_prior(pipe):
    flat = dataclasses.replace(pipe.checkpoint, prior_mask=torch.zeros(64, 64))
    other = HandiPipeline.from_checkpoint(flat)
    other.set_progress_bar_config(disable=True)
    soft = [p(scene(), "Cut.", generator=seeded(0), **FAST).motion_area_soft for p in (pipe, other)]
    assert np.abs(soft[0] - soft[1]).max() > 1e-4


def test_without_stage_1_the_whole_frame_is_the_area_and_it_is_said(pipe):
    parts = dataclasses.replace(pipe.checkpoint, area_unet=None, prior_mask=None)
    alone = HandiPipeline.from_checkpoint(dataclasses.replace(parts, card=ModelCard(stage1=None)))
    alone.set_progress_bar_config(disable=True)
    out = alone(scene(), "Cut.", height=64, width=64, generator=seeded(0), **FAST)
    assert out.motion_area.all()
    assert any("no stage 1" in note for note in out.notes)


def test_a_unet_that_does_not_read_the_area_is_said(pipe):
    unet = HandiUNet.from_config({**pipe.unet.config, "motion_mask": False})
    other = HandiPipeline.from_checkpoint(dataclasses.replace(pipe.checkpoint, unet=unet))
    other.set_progress_bar_config(disable=True)
    out = other(scene(), "Cut.", mask=left_half(), **FAST)
    assert any("does not read a motion area" in note for note in out.notes)


def test_strength_starts_stage_2_later_and_leaves_stage_1_alone(pipe):
    steps = []

    def watch(pipe, step, timestep, state):
        steps.append(state["stage"])

    arguments = {**FAST, "num_inference_steps": 4, "area_inference_steps": 3}
    pipe(scene(), "Cut.", strength=0.5, callback_on_step_end=watch, **arguments)
    assert steps == [1, 1, 1, 2, 2]


# -------------------------------------------------------------------------------------------- batch


def test_a_clip_is_the_same_alone_and_in_a_batch(pipe):
    scenes, prompts, motions = (
        [scene(1), scene(2), scene(3)],
        ["Cut.", "Stir the soup.", "Wipe."],
        [3.0, 5.0, 8.0],
    )
    masks = [left_half(), np.ones((64, 64)), left_half()[:, ::-1]]
    together = pipe(scenes, prompts, mask=masks, motion=motions, generator=seeded(7, 8, 9), **FAST)
    for i in range(3):
        alone = pipe(scenes[i], prompts[i], mask=masks[i], motion=motions[i], generator=seeded(7 + i), **FAST)
        assert np.abs(alone.frames[0].astype(int) - together.frames[i]).max() <= 1


def test_one_picture_many_prompts(pipe):
    out = pipe(scene(), ["Cut.", "Stir."], generator=torch.Generator().manual_seed(0), **FAST)
    assert out.frames.shape[0] == 2


def test_lists_that_disagree_are_refused(pipe):
    with pytest.raises(InputError, match="2 of prompt for a batch of 3"):
        pipe([scene()] * 3, ["a", "b"], **FAST)
    with pytest.raises(InputError, match="some clips of the batch have a mask"):
        pipe([scene()] * 2, "Cut.", mask=[left_half(), None], **FAST)
    with pytest.raises(InputError, match="different shapes"):
        pipe([scene(), scene(0, 64, 128)], "Cut.", **FAST)


# ------------------------------------------------------------------------------ numbers and callbacks


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_frames": 0}, "a clip of 0 frames"),
        ({"num_frames": 1}, "a clip of 1 frames"),
        ({"num_inference_steps": -3}, "-3 denoising steps for stage 2"),
        ({"area_inference_steps": 0}, "0 denoising steps for stage 1"),
        ({"guidance_scale": -1.0}, "guidance -1.0"),
        ({"guidance_scale": float("nan")}, "guidance nan"),
        ({"strength": 0.0}, "strength 0.0"),
        ({"output_type": "gif"}, "output_type 'gif'"),
        ({"height": 64}, "go together"),
        ({"height": 60, "width": 64}, "multiples of 8"),
        ({"prompt": "  "}, "the prompt is empty"),
    ],
)
def test_bad_numbers_are_refused(pipe, arguments, message):
    with pytest.raises(InputError, match=message):
        pipe(**{"image": scene(), "prompt": "Cut.", **FAST, **arguments})


def test_no_guidance_means_no_unconditional_branch(pipe):
    sizes = []
    hook = pipe.unet.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    try:
        pipe(scene(), "Cut.", mask="full", guidance_scale=1.0, **FAST)
        pipe(scene(), "Cut.", mask="full", guidance_scale=2.0, **FAST)
    finally:
        hook.remove()
    assert sizes == [1, 1, 2, 2]


def test_callback_sees_both_stages_may_change_latents_and_can_stop(pipe):
    seen = []

    def watch(pipe, step, timestep, state):
        seen.append((state["stage"], step, state["latents"].shape))
        return {"latents": state["latents"] * 0} if state["stage"] == 2 else None

    out = pipe(scene(), "Cut.", callback_on_step_end=watch, output_type="latent", **FAST)
    assert [entry[:2] for entry in seen] == [(1, 0), (2, 0), (2, 1)]
    assert (out.frames == 0).all()

    def stop(pipe, step, timestep, state):
        if state["stage"] == 1:
            pipe.interrupt()

    out = pipe(scene(), "Cut.", callback_on_step_end=stop, **FAST)
    assert out.interrupted
    assert out.frames is None
    assert not pipe(scene(), "Cut.", **FAST).interrupted


def test_truncated_prompt_is_said(pipe):
    out = pipe(scene(), "cut " * 100, **FAST)
    assert any("77 are read" in note for note in out.notes)


def test_output_types(pipe):
    kwargs = {"generator": seeded(0), "mask": "full", **FAST}
    frames = pipe(scene(), "Cut.", **kwargs).frames
    pil = pipe(scene(), "Cut.", output_type="pil", **{**kwargs, "generator": seeded(0)}).frames
    pt = pipe(scene(), "Cut.", output_type="pt", **{**kwargs, "generator": seeded(0)}).frames
    assert np.array_equal(np.asarray(pil[0][1]), frames[0, 1])
    assert pt.shape == (1, 3, 3, 64, 64)
    assert torch.equal(
        (pt[0, :, 1] * 255).round().to(torch.uint8), torch.from_numpy(frames[0, 1]).permute(2, 0, 1)
    )


# -------------------------------------------------------------------------------- diffusers' habits


def test_scheduler_swap(pipe):
    before = pipe.scheduler
    results = {}
    try:
        for scheduler in (DDIMScheduler, EulerDiscreteScheduler):
            pipe.scheduler = scheduler.from_config(before.config)
            results[scheduler] = pipe(scene(), "Cut.", mask="full", generator=seeded(0), **FAST).frames
    finally:
        pipe.scheduler = before
    assert not np.array_equal(*results.values())


def test_dtype_and_device(tmp_path):
    pipe = HandiPipeline.from_checkpoint(random_checkpoint(size=64)).to("cpu", torch.bfloat16)
    pipe.set_progress_bar_config(disable=True)
    assert {p.dtype for p in pipe.unet.parameters()} == {torch.bfloat16}
    out = pipe(scene(), "Cut.", generator=seeded(0), **FAST)
    assert out.frames.std() > 0


def test_progress_bar_can_be_turned_off(pipe, capsys):
    pipe.set_progress_bar_config(disable=False)
    try:
        pipe(scene(), "Cut.", **FAST)
        assert "stage 2" in capsys.readouterr().err
        pipe.set_progress_bar_config(disable=True)
        pipe(scene(), "Cut.", **FAST)
        assert capsys.readouterr().err == ""
    finally:
        pipe.set_progress_bar_config(disable=True)


def test_stages_share_vae_and_text_encoder(pipe):
    """Held once: the parts are the four networks, and every parameter belongs to exactly one of them."""
    networks = {name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}
    assert networks.keys() == {"vae", "text_encoder", "unet", "area_unet"}
    owners = [id(p) for network in networks.values() for p in network.parameters()]
    assert len(owners) == len(set(owners))


def test_the_offload_order_names_every_network(pipe):
    """A network left out of it would stay on the GPU; what offloading does is tested on one, below."""
    networks = {name for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}
    absent = {name for name, part in pipe.components.items() if part is None}
    assert networks <= set(pipe.model_cpu_offload_seq.split("->")) <= networks | absent


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_offload_on_a_gpu():
    pipe = HandiPipeline.from_checkpoint(random_checkpoint(size=64))
    pipe.set_progress_bar_config(disable=True)
    on_cpu = pipe(scene(), "Cut.", generator=seeded(0), **FAST).frames
    pipe.enable_model_cpu_offload()
    offloaded = pipe(scene(), "Cut.", generator=seeded(0), **FAST).frames
    assert {p.device.type for p in pipe.unet.parameters()} == {"cpu"}
    assert np.abs(on_cpu.astype(int) - offloaded).mean() < 2
