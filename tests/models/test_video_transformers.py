"""Wan and LTX, tiny and random: training reaches adapters alone, and sampling keeps what is known."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.hooks import CpuOffload
from diffusers import WanImageToVideoPipeline, WanTransformer3DModel
from helpers.tiny_backbones import HEIGHT, WIDTH, save_base, tiny_ltx, tiny_wan, tiny_wan_i2v
from peft import LoraConfig
from PIL import Image

from handi.core.errors import InputError, ModelError
from handi.core.images import read_image
from handi.hands import HandDetector
from handi.method import diffusion, losses
from handi.method.pipeline import HandiPipeline
from handi.models.backbone import Given
from handi.models.base import save_adapters
from handi.models.pose_stem import PoseStem
from handi.training import step
from handi.training.batch import Batch
from handi.training.build import enable_checkpointing
from handi.training.module import StepModule, total_of
from handi.training.optim import choose_trained
from handi.training.recipe import HandLossRecipe, LossRecipe, ModelRecipe
from handi.training.step import Networks

HAND = Path(__file__).parents[1] / "pictures/hands/cut.png"
FAMILIES = {"wan": tiny_wan, "wan_i2v": tiny_wan_i2v, "ltx": tiny_ltx}


@pytest.fixture(params=FAMILIES, scope="module")
def parts(request):
    return FAMILIES[request.param]()


def cells_of(backbone):
    cell = backbone.multiple // backbone.patch
    return HEIGHT // cell, WIDTH // cell


def batch_of(frames):
    """Two clips of a real hand, at half its picture's size; all frames are the same one."""
    picture = read_image(HAND)[: 2 * HEIGHT, : 2 * WIDTH].reshape(HEIGHT, 2, WIDTH, 2, 3).mean((1, 3))
    area = torch.zeros(2, HEIGHT, WIDTH)
    area[:, 8:30, 34:60] = 1
    visible = torch.zeros(2, frames, 2, dtype=torch.bool)
    visible[:, :, 0] = True
    rois = torch.zeros(2, frames, 2, 4)
    rois[:, :, 0] = torch.tensor([45.0, 24.5, 29.2, 1.33])
    return Batch(
        names=["a", "b"],
        frames=torch.from_numpy(picture.astype(np.uint8)).expand(2, frames, -1, -1, -1),
        frame_index=torch.arange(frames).expand(2, -1),
        area=area,
        texts=["cut the carrot", ""],
        joints=torch.zeros(2, frames, 42, 2),  # the hand loss reads the true frames
        visible=visible,
        rois=rois,
    )


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_of_each_stage_reaches_the_adapters_alone(family, stage, monkeypatch):
    parts = FAMILIES[family]()
    batch = batch_of(parts.card.frames)
    # A random decoder shows no hands: the gate on their presence is opened.
    monkeypatch.setattr(step.losses, "hand_refinement", partial(losses.hand_refinement, readable=-1.0))
    detector = HandDetector.from_pretrained(backend="torch") if stage == "stage2" else None
    networks = Networks(
        parts.backbone(),
        parts.vae,
        parts.text_encoder,
        parts.unet,
        parts.area_unet,
        parts.prior_mask,
        detector,
    )
    hand = HandLossRecipe(weight=0.1, frames=2, noise_limit=1e9, features=1.0)
    module = StepModule(networks, stage, LossRecipe(hand=hand, low_noise=0.5))
    default = {"stage1": "area_unet", "stage2": "unet"}[stage]
    names = choose_trained(module, ModelRecipe(init="x", lora_rank=2), default)
    assert names
    assert all(name.startswith(f"{default}.") and ".lora_" in name for name in names)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "lora_B" in name:  # zero at the start: nothing would reach the other half
                parameter.normal_(0, 0.02, generator=torch.Generator().manual_seed(2))
    terms = module(batch, torch.Generator().manual_seed(1))
    own = {"stage1": {"noise", "miou"}, "stage2": {"noise", "hand", "hand_features"}}[stage]
    assert own <= terms.keys()
    parameters = dict(module.named_parameters())
    for term in own:
        found = torch.autograd.grad(
            terms[term], [parameters[name] for name in names], retain_graph=True, allow_unused=True
        )
        assert all(gradient is not None and bool(gradient.any()) for gradient in found), term
    total_of(terms).backward()
    assert {name for name, p in parameters.items() if p.grad is not None} == set(names)


def test_checkpointing_leaves_out_an_autoencoder_that_has_none():
    parts = tiny_wan()
    networks = Networks(parts.backbone(), parts.vae, parts.text_encoder, parts.unet, parts.area_unet, None)
    enable_checkpointing(StepModule(networks, "stage2", LossRecipe()))
    assert parts.unet.gradient_checkpointing


def test_chosen_frames_are_those_of_a_whole_decoding(parts):
    backbone = parts.backbone()
    z = torch.randn(2, 8, 3, *cells_of(backbone))
    last = 2 * backbone.chunk
    clips, frames = torch.tensor([1, 0, 1, 1]), torch.tensor([last, 0, 1, backbone.chunk + 2])
    with torch.no_grad():
        whole = backbone.decode(z)
        assert whole.shape[2] == last + 1
        chosen = backbone.frames(z, clips, frames)
    torch.testing.assert_close(chosen.clamp(-1, 1), whole[clips, :, frames].clamp(-1, 1))
    z.requires_grad_()
    pixels = backbone.frames(z, clips[:1], frames[:1])
    torch.testing.assert_close(pixels, chosen[:1])
    pixels.sum().backward()
    assert z.grad.abs().sum((1, 3, 4)).gt(0).tolist() == [[False] * 3, [False, False, True]]


def test_pixels_beyond_white_keep_their_gradient_and_blocks_may_be_recomputed(parts):
    backbone = parts.backbone()
    z = torch.randn(1, 8, 2, *cells_of(backbone)) * 30
    z.requires_grad_()
    pixels = backbone.frames(z, torch.tensor([0]), torch.tensor([1]))
    assert (pixels.abs() > 1).any()
    outside = (pixels * (pixels.abs() > 1)).sum()
    (gradient,) = torch.autograd.grad(outside, z)
    assert gradient[:, :, 1].any()


def test_the_gradient_is_that_of_a_decoding_without_recomputation(parts):
    """Of the chunk's own latents, with the earlier ones held constant."""
    backbone = parts.backbone()
    earlier, own = torch.randn(2, 1, 8, 1, *cells_of(backbone)) * 0.1
    own.requires_grad_()
    z = torch.cat([earlier, own], 2)
    weights = torch.randn(3, HEIGHT, WIDTH)
    whole = backbone.decode(z)[:, :, 3]
    weights = weights * (whole.abs() < 1)  # where decoding did not clamp
    assert weights.bool().float().mean() > 0.2
    picture = backbone.frames(z, torch.tensor([0]), torch.tensor([3]))
    (mine,) = torch.autograd.grad((picture * weights).sum(), own)
    (plain,) = torch.autograd.grad((whole * weights).sum(), own)
    torch.testing.assert_close(mine, plain)


def test_the_known_part_is_a_still_clip_and_tokens_are_whole(parts):
    backbone, batch = parts.backbone(), batch_of(parts.card.frames)
    video = step.as_video(batch.frames)
    given = Given(backbone.encode(video), batch.frame_index, batch.frames)
    layout = backbone.clip(parts.unet, given, batch.area)
    still = backbone.encode(video[:, :, :1].expand_as(video))
    free = layout.free.expand_as(layout.z).bool()
    assert torch.equal(layout.z[~free], still[~free])
    assert torch.equal(layout.z[free], given.latents[free])
    assert not layout.free[:, :, 0].any()
    side = backbone.multiple  # of a token
    tokens = torch.nn.functional.max_pool2d(batch.area[:, None], side)
    assert torch.equal(
        layout.free[:, :, 1], tokens.repeat_interleave(backbone.patch, 2).repeat_interleave(backbone.patch, 3)
    )
    sampled = Given(given.latents[:, :, :1], batch.frame_index, batch.frames[:, :1])
    torch.testing.assert_close(backbone.clip(parts.unet, sampled, batch.area).z, still)


def test_states_beyond_a_sentence_are_zero_and_a_cut_is_noted(parts):
    notes: list[str] = []
    limit = parts.tokenizer.model_max_length
    states = parts.backbone().text(["cut", "x" * (limit + 9)], torch.device("cpu"), notes)
    there = states.abs().sum(-1) > 0
    assert there.sum(1).tolist() == [5, limit]
    assert len(notes) == 1
    assert f"the first {limit} are read" in notes[0]


@pytest.mark.parametrize(
    ("parts", "euler"),
    [("wan", False), ("wan", True), ("wan_i2v", False), ("ltx", False)],  # LTX's own is Euler's
    indirect=["parts"],
)
def test_both_stages_sample_and_the_background_is_the_context(parts, euler):
    pipe, frames = HandiPipeline.from_checkpoint(parts), parts.card.frames
    patch = pipe.backbone.patch
    if euler:
        from diffusers import FlowMatchEulerDiscreteScheduler

        pipe.scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    pipe.set_progress_bar_config(disable=True)
    picture = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[:30, 40:60] = True
    size = {"height": HEIGHT, "width": WIDTH}
    z = pipe(picture, "cut", mask=mask, output_type="latent", **size).frames
    video = torch.from_numpy(picture).permute(2, 0, 1)[None, :, None].expand(1, 3, frames, HEIGHT, WIDTH)
    still = pipe.backbone.encode(video / 127.5 - 1)
    assert torch.equal(z[:, :, 0], still[:, :, 0])
    assert torch.equal(z[..., :patch], still[..., :patch])
    column = 40 // (pipe.backbone.multiple // patch)
    assert not torch.equal(z[:, :, 1:, :1, column], still[:, :, 1:, :1, column])
    generator = torch.Generator().manual_seed(3)
    output = pipe(picture, "cut", generator=generator, **size)
    assert output.frames.shape == (1, frames, HEIGHT, WIDTH, 3)
    outside = ~output.motion_area[0]
    assert (output.frames[0][:, outside] == picture[outside]).all()
    assert (output.frames[0, 0] == picture).all()


def hand_at(frames, shown):
    """Poses F×42×2 with a left hand in the upper left corner of the frames `shown`."""
    poses = torch.zeros(frames, 42, 2)
    hand = torch.rand(21, 2, generator=torch.Generator().manual_seed(4))
    poses[shown, :21] = 0.05 + hand * torch.tensor([0.15, 0.3])
    return poses


def test_poses_add_nothing_before_training_and_then_to_the_tokens_of_their_place_and_time(parts):
    backbone, network, frames = parts.backbone(), parts.unet, parts.card.frames
    video = step.as_video(torch.zeros(1, frames, HEIGHT, WIDTH, 3, dtype=torch.uint8))
    given = Given(backbone.encode(video), torch.arange(frames)[None], still=backbone.encode(video))
    x_t, text = torch.randn(given.latents.shape), backbone.text(["cut"], torch.device("cpu"))
    tokens = []

    def answer(shown):
        layout = backbone.clip(
            network, replace(given, poses=hand_at(frames, shown)[None]), torch.ones(1, 64, 96)
        )
        with torch.no_grad():
            return backbone.predict(network, x_t, torch.tensor([500.0]), text, layout)

    def note(block, arguments, named):
        tokens.append(arguments[0] if arguments else named["hidden_states"])

    assert not backbone.traits(network).poses
    before = answer([0, 1])
    network.pose_stem = PoseStem.of(network, backbone.chunk)
    blocks = network.blocks if parts.card.backbone == "wan" else network.transformer_blocks
    handle = blocks[0].register_forward_pre_hook(note, with_kwargs=True)
    try:
        assert backbone.traits(network).poses
        assert torch.equal(answer([0, 1]), before)
        torch.nn.init.normal_(network.pose_stem.weight)
        assert torch.equal(answer([]), before)
        size = [side // backbone.patch for side in x_t.shape[-2:]]
        for shown, time in ((0, 0), (1, 1), (backbone.chunk, 1)):
            assert not torch.equal(answer([shown]), before)
            touched = (tokens[-1] - tokens[0]).any(-1).unflatten(1, (-1, *size))[0]
            assert touched[time].any()
            touched[time, : size[0] // 2, : size[1] // 3] = False
            assert not touched.any()
    finally:
        handle.remove()
        del network.pose_stem


def test_the_wrong_number_of_frames_names_the_nearest(parts):
    backbone, pipe = parts.backbone(), HandiPipeline.from_checkpoint(parts)
    chunk = backbone.chunk
    with pytest.raises(InputError, match=f"use {1 + chunk} or {1 + 2 * chunk}"):
        backbone.encode(torch.zeros(1, 3, chunk + 3, HEIGHT, WIDTH))
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    with pytest.raises(InputError, match=f"use {1 + chunk} or {1 + 2 * chunk}"):
        pipe(picture, "cut", num_frames=chunk + 3)


# ------------------------------------------------------------------------------------------ folders


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A folder as diffusers' own pipeline writes it."""
    return save_base(tiny_wan(networks=1), tmp_path_factory.mktemp("wan") / "base")


SIZE = {"height": HEIGHT, "width": WIDTH, "num_frames": 5}


def generated(pipe, **more):
    pipe.set_progress_bar_config(disable=True)
    picture = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    generator = torch.Generator().manual_seed(0)
    more |= {"num_inference_steps": 2, "guidance_scale": 2.0, "output_type": "latent"}
    return pipe(picture, "cut", generator=generator, **(SIZE | more))


def half():
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[:, : WIDTH // 2] = True
    return mask


def test_a_pipeline_of_ltx_is_read(tmp_path):
    parts = tiny_ltx(networks=1)
    save_base(parts, tmp_path / "base")
    pipe, direct = HandiPipeline.from_pretrained(tmp_path / "base"), HandiPipeline.from_checkpoint(parts)
    made = [generated(one, mask=half(), num_frames=9).frames for one in (pipe, direct)]
    assert torch.equal(*made)


def test_a_pipeline_of_diffusers_runs_with_a_mask_and_without_training(base):
    pipe = HandiPipeline.from_pretrained(base)
    direct = HandiPipeline.from_checkpoint(tiny_wan(networks=1))
    assert torch.equal(generated(pipe, mask=half()).frames, generated(direct, mask=half()).frames)
    assert any("no stage 1" in note for note in generated(pipe).notes)


def test_two_adapters_on_one_base_come_back_and_load_in_diffusers(base, tmp_path):
    parts = tiny_wan(networks=1)
    network = parts.unet
    for seed, name in enumerate(("area", "clip")):
        network.add_adapter(LoraConfig(r=2, lora_alpha=6, target_modules=["to_q", "to_v"]), adapter_name=name)
        with torch.no_grad():
            for key, weight in network.named_parameters():
                if f"lora_B.{name}" in key:
                    weight.normal_(0, 0.3, generator=torch.Generator().manual_seed(seed))
    network.pose_stem = PoseStem.of(network, 4)
    torch.nn.init.normal_(network.pose_stem.weight)
    card = replace(parts.card, base=str(base))
    parts = replace(parts, area_unet=network, card=card)
    save_adapters(network, card, parts.prior_mask, tmp_path / "hands")
    assert {path.name for path in (tmp_path / "hands").iterdir()} == {
        "handi.json",
        "area.safetensors",
        "clip.safetensors",
        "poses.safetensors",
        "prior_mask.safetensors",
    }
    before, after = HandiPipeline.from_checkpoint(parts), HandiPipeline.from_pretrained(tmp_path / "hands")
    mine, theirs = generated(before), generated(after)
    assert torch.equal(mine.frames, theirs.frames)
    assert np.array_equal(mine.motion_area_soft, theirs.motion_area_soft)
    # each stage has its own adapter, and the base has neither
    plain = HandiPipeline.from_pretrained(base)
    unposed = generated(after, mask=half()).frames
    assert not torch.equal(unposed, generated(plain, mask=half()).frames)

    poses = hand_at(5, [0, 1, 2, 3, 4]).numpy()
    mine, theirs = (generated(pipe, mask=half(), poses=poses).frames for pipe in (before, after))
    assert torch.equal(mine, theirs)
    assert not torch.equal(theirs, unposed)
    guided = generated(after, mask=half(), poses=poses, pose_guidance_scale=3.0).frames
    assert not torch.equal(guided, theirs)
    with pytest.raises(InputError, match=r"cannot be given poses.*--model\.poses true"):
        generated(plain, poses=poses)

    published = WanImageToVideoPipeline.from_pretrained(base, local_files_only=True)
    published.load_lora_weights(tmp_path / "hands", weight_name="clip.safetensors", adapter_name="clip")
    assert published.get_active_adapters() == ["clip"]
    x, t, text = torch.randn(1, 8, 2, 4, 6), torch.tensor([500.0]), torch.randn(1, 7, 32)
    with torch.no_grad():
        network.set_adapter("clip")
        own = network(x, t, text, return_dict=False)[0]
        theirs = published.transformer(x, t, text, return_dict=False)[0]
        base_alone = plain.unet(x, t, text, return_dict=False)[0]
    torch.testing.assert_close(theirs, own)
    assert not torch.allclose(base_alone, own, atol=1e-3)

    PoseStem(7, 4).save(tmp_path / "hands/poses.safetensors")
    with pytest.raises(ModelError, match="does not fit"):
        HandiPipeline.from_pretrained(tmp_path / "hands")
    (tmp_path / "hands/poses.safetensors").unlink()
    with pytest.raises(ModelError, match="is missing"):
        HandiPipeline.from_pretrained(tmp_path / "hands")


@pytest.mark.parametrize("family", FAMILIES)
def test_offloading_moves_each_network_before_its_layers_run_and_a_shared_one_once(family, monkeypatch):
    """Without a GPU nothing moves: what the hooks would have moved by then is kept in `there`."""
    parts = FAMILIES[family](networks=1)
    parts.unet.pose_stem = PoseStem.of(parts.unet, parts.backbone().chunk)
    torch.nn.init.normal_(parts.unet.pose_stem.weight)
    frames = parts.card.frames
    asked = {"num_frames": frames, "poses": hand_at(frames, [0, 1]).numpy(), "output_type": "np"}
    pipe = HandiPipeline.from_checkpoint(replace(parts, area_unet=parts.unet))
    before = generated(pipe, **asked)
    there, ran = set(), set()

    def move(hook, network, *arguments, own=CpuOffload.pre_forward, **named):
        if hook.prev_module_hook is not None:
            assert hook.prev_module_hook.model is not network
            there.discard(hook.prev_module_hook.model)
        there.add(network)
        return own(hook, network, *arguments, **named)

    def runs(network, layer, arguments):
        ran.add(network)
        assert network in there, f"{type(layer).__name__} of {type(network).__name__}"

    monkeypatch.setattr(CpuOffload, "pre_forward", move)
    pipe.enable_model_cpu_offload(device="cpu")
    networks = {pipe.text_encoder, pipe.unet, pipe.vae}
    for network in networks:
        elsewhere = set(network.image_encoder.modules()) if hasattr(network, "image_encoder") else set()
        for layer in set(network.modules()) - elsewhere - {network}:  # CLIP's part runs where it is
            layer.register_forward_pre_hook(partial(runs, network))
    after = generated(pipe, **asked)
    assert ran == networks
    assert np.array_equal(after.motion_area_soft, before.motion_area_soft)
    assert np.array_equal(after.frames, before.frames)


def test_networks_that_cannot_be_run_are_refused(base, tmp_path):
    folder = tmp_path / "base"
    shutil.copytree(base, folder)
    config = folder / "transformer/config.json"
    config.write_text(config.read_text().replace("WanTransformer3DModel", "OtherModel"))
    with pytest.raises(ModelError, match="OtherModel"):
        HandiPipeline.from_pretrained(folder)
    WanTransformer3DModel(
        num_attention_heads=1,
        attention_head_dim=12,
        in_channels=24,
        out_channels=8,
        text_dim=32,
        num_layers=1,
    ).save_pretrained(folder / "transformer")
    with pytest.raises(ModelError, match="takes 24 channels and makes 8"):
        HandiPipeline.from_pretrained(folder)
    (folder / "transformer_2").mkdir()
    with pytest.raises(ModelError, match="it has two networks"):
        HandiPipeline.from_pretrained(folder)


def test_an_image_to_video_model_is_told_what_is_known_as_in_diffusers(tmp_path):
    """The first call of its network, where everything but the first frame is generated."""
    folder = save_base(tiny_wan_i2v(networks=1), tmp_path / "base")
    pipe = HandiPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    published = WanImageToVideoPipeline.from_pretrained(folder, local_files_only=True)
    picture = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    asked = {**SIZE, "num_inference_steps": 1, "guidance_scale": 1.0, "output_type": "latent"}
    calls: list[dict] = []

    def note(network, arguments, named):
        names = ("hidden_states", "timestep", "encoder_hidden_states", "encoder_hidden_states_image")
        calls.append(dict(zip(names, arguments, strict=False)) | named)

    for network in (pipe.unet, published.transformer):
        network.register_forward_pre_hook(note, with_kwargs=True)
    pipe(picture, "cut", mask="full", generator=torch.Generator().manual_seed(5), **asked)
    seeds = diffusion.clip_seeds(torch.Generator().manual_seed(5), 1)
    published.encode_image = lambda image, device: calls[0]["encoder_hidden_states_image"]
    published(
        image=Image.fromarray(picture),
        prompt_embeds=calls[0]["encoder_hidden_states"],
        latents=diffusion.clip_noise((8, 2, HEIGHT // 8, WIDTH // 8), seeds, stream=2),
        **asked,
    )
    mine, theirs = calls
    assert mine["hidden_states"].shape[1] == 20
    torch.testing.assert_close(mine["hidden_states"], theirs["hidden_states"])
    torch.testing.assert_close(mine["timestep"], theirs["timestep"].float())
    # CLIP's 2×2 patches of the picture and its class, and other ones of another picture
    assert mine["encoder_hidden_states_image"].shape == (1, 5, 16)
    pipe(255 - picture, "cut", mask="full", **asked)
    assert not torch.allclose(calls[2]["encoder_hidden_states_image"], mine["encoder_hidden_states_image"])


def test_channels_mark_the_known_cells_and_hold_grey_in_the_free_ones():
    parts = tiny_wan_i2v()
    backbone, batch = parts.backbone(), batch_of(5)
    given = Given(backbone.encode(step.as_video(batch.frames)), batch.frame_index, batch.frames)
    layout = backbone.clip(parts.unet, given, batch.area)
    known = (1 - layout.free).expand(-1, 4, -1, -1, -1)
    assert torch.equal(layout.condition[:, :4], known)
    assert known[:, :, 0].all()
    assert 0 < known[:, :, 1].mean() < 1
    video = step.as_video(batch.frames[:, :1]).expand(-1, -1, 5, -1, -1).clone()
    free = layout.free[:, 0, 1].repeat_interleave(8, 1).repeat_interleave(8, 2).bool()
    video.transpose(1, 2)[:, 1:] = video.transpose(1, 2)[:, 1:].masked_fill(free[:, None, None], 0)
    torch.testing.assert_close(layout.condition[:, 4:], backbone.encode(video))
    x_t, t = torch.randn(layout.z.shape), torch.tensor([500.0, 250.0])
    with torch.no_grad():
        answer = backbone.predict(parts.unet, x_t, t, torch.zeros(2, 512, 32), layout)
    reached = x_t - t.view(-1, 1, 1, 1, 1) / 1000 * answer
    torch.testing.assert_close(reached * (1 - layout.free), layout.z * (1 - layout.free))

    masked = backbone.area(parts.area_unet, given, batch.area)
    assert masked.condition[0, :4].amax((0, 2, 3)).tolist() == [1, 1, 0]
    grey = backbone.encode(torch.zeros(2, 3, 1, HEIGHT, WIDTH))
    torch.testing.assert_close(masked.condition[:, 4:, 2:], grey)
    torch.testing.assert_close(masked.condition[:, 4:, :2], masked.z[:, :, :2])
