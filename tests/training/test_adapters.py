"""Training adapters on a base of diffusers: tiny random models of each family, from clips to a folder."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
import yaml
from accelerate.state import AcceleratorState
from diffusers import LTXImageToVideoPipeline, WanImageToVideoPipeline
from helpers.bench_data import write_data
from helpers.lossless import lossless
from helpers.small_footage import FPS, read_hands
from helpers.tiny_backbones import HEIGHT, WIDTH, save_base, tiny_ltx, tiny_wan, tiny_wan_i2v
from PIL import Image
from safetensors.torch import load_file

from handi import HandiPipeline
from handi.commands import app as cli
from handi.core.errors import InputError, ModelError
from handi.core.images import read_image
from handi.data.dataset import PreparedClips
from handi.data.prepare import ToolsMaker
from handi.hands.pose_files import write_poses
from handi.method import diffusion, losses
from handi.models import folder as model_folder
from handi.recipes import find_recipe
from handi.training import build, estimate, setup, step
from handi.training.batches import Batches, Sampling
from handi.training.loop import train
from handi.training.recipe import load_recipe
from handi.training.track import read_log

HAND = Path(__file__).parents[1] / "pictures/hands/cut.png"
FAMILIES = {"wan": (tiny_wan, 5), "ltx": (tiny_ltx, 9), "wan_i2v": (tiny_wan_i2v, 5)}
# Each run costs seconds: what does not depend on the family is tested with one, what the kinds of Wan share
# with one of them. Families are in the order of FAMILIES: pytest sorts tests by their place in these lists.
WAN = pytest.mark.parametrize("home", ["wan"], indirect=True)
WAN_AND_LTX = pytest.mark.parametrize("home", ["wan", "ltx"], indirect=True)


@pytest.fixture(autouse=True)
def _fresh_accelerate():
    yield
    AcceleratorState._reset_state()


def hand_film(path, light):
    """A real hand, at half its picture's size, that grows brighter."""
    picture = read_image(HAND)[: 2 * HEIGHT, : 2 * WIDTH].reshape(HEIGHT, 2, WIDTH, 2, 3).mean((1, 3))
    lights = np.linspace(0.6, 1, 24) * light
    frames = (picture * lights[:, None, None, None]).astype(np.uint8)
    return lossless(path, frames, fps=FPS)


def its_hand(frames):
    """Where it is, in the place of Υ."""
    hands = read_hands(frames)
    roi = torch.tensor([45.0, 24.5, 29.2, 1.33]) * hands.visible[..., None]
    return replace(hands, rois=roi)


def tools_for_its_hand(maker, number, make=ToolsMaker.__call__):
    return replace(make(replace(maker, detects=False), number), detect=its_hand)


class Home:
    """A base, and two clips prepared with it: with latents, still latents and text states."""

    def __init__(self, family, folder):
        make, self.frames = FAMILIES[family]
        self.family, self.folder = family, folder
        self.parts = make(networks=1)
        self.base = save_base(self.parts, folder / "base")
        footage = folder / "footage"
        footage.mkdir()
        for name, light, text in (("a", 1.0, "Cut the carrot."), ("b", 0.5, "Lift the cup.")):
            hand_film(footage / f"{name}.mp4", light)
            (footage / f"{name}.txt").write_text(text)
        options = ["--size", f"{HEIGHT}x{WIDTH}", "--frames", self.frames, "--fps", 4, "--pictures", "png"]
        options += ["--model", self.base, "--text-states", "--camera", "ignore", "--held-out", 0]
        options += ["--executor", "serial", "--device", "cpu", "--out", folder / "clips"]
        arguments = ["handi", "prepare", "folder", footage, *options]
        with (
            mock.patch.object(ToolsMaker, "__call__", tools_for_its_hand),
            mock.patch.object(sys, "argv", [str(argument) for argument in arguments]),
            pytest.raises(SystemExit) as stop,
        ):
            cli.main()
        assert not stop.value.code

    def stage(self, stage, out):
        """Thirty steps of a stage, the second from the model of the first and with poses."""
        init = self.folder / "stage1/model" if stage == "stage2" else None
        poses = {"model__poses": stage == "stage2"}
        return self.recipe(stage, out, init, run__steps=30, run__save_every=26, **poses)

    def recipe(self, stage, out, init=None, **changes):
        small = {
            "model.init": str(init or self.base),
            "model.lora_rank": 4,
            "model.frozen": "fp32",
            "data.path": str(self.folder / "clips"),
            "data.size": f"{HEIGHT},{WIDTH}",
            "data.frames": self.frames,
            "data.fps": 4,
            "data.workers": 0,
            "loss.hand.weight": 0,
            "optim.accumulate": 1,
            "optim.batch": 2,
            "optim.lr": "1e-2",
            "optim.warmup": 0,
            "run.precision": "no",
            "run.device": "cpu",
            "run.steps": 4,
            "run.save_every": 2,
            "run.log_every": 1,
            "run.out": str(out),
        }
        changes = {name.replace("__", "."): value for name, value in changes.items()}
        entries = {name: str(value) for name, value in (small | changes).items()}
        return load_recipe(find_recipe(f"{self.parts.card.backbone}_{stage}"), entries)


@pytest.fixture(scope="module", params=FAMILIES)
def home(request, tmp_path_factory):
    return Home(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def trained(home):
    """The runs of both stages, stage 2 from stage 1's model."""
    runs = {}
    for stage in ("stage1", "stage2"):
        runs[stage] = home.folder / stage
        train(home.stage(stage, runs[stage]), say=quiet)
        AcceleratorState._reset_state()
    return runs


def quiet(message):
    pass


def logged(run, name="total"):
    return [row[name] for row in read_log(run / "log.jsonl") if row["kind"] == "train"]


def adapters_in(folder):
    return {path.name: load_file(path) for path in sorted(folder.glob("*.safetensors"))}


def adapters(run):
    return adapters_in(run / "model")


def test_what_is_cached_is_what_would_be_computed(home):
    recipe = home.recipe("stage2", home.folder / "x")
    plain, cached = PreparedClips(home.folder / "clips"), PreparedClips(home.folder / "clips")
    assert setup.has_text_states(recipe, [cached])
    parts = setup.open_model(recipe, home.folder)
    assert setup.use_cached(recipe, [cached], parts) == []
    networks = build.networks_of(recipe, parts)
    sampling = Sampling(frames=home.frames, dropout=0.5)
    one, two = (Batches(clips, sampling, 6).at(0, 4) for clips in (plain, cached))
    assert one.texts == two.texts
    assert "" in two.texts
    assert len(set(two.texts)) > 1
    assert two.embeddings.shape[1] < 32
    with torch.no_grad():
        states = [step.text_states(networks, batch) for batch in (one, two)]
    torch.testing.assert_close(networks.backbone.padded(states[1]), states[0], atol=2e-3, rtol=0)
    layouts = [
        networks.backbone.clip(parts.unet, step.given_of(networks, batch), batch.area) for batch in (one, two)
    ]
    torch.testing.assert_close(layouts[0].z, layouts[1].z, atol=2e-3, rtol=2e-3)
    assert torch.equal(layouts[1].context, layouts[1].z[:, :, :1])


def test_thirty_steps_overfit_two_clips(trained):
    for run in trained.values():
        noise = logged(run, "noise")
        assert sum(noise[-5:]) < 0.9 * sum(noise[:5]), noise


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_a_resumed_run_is_the_whole_run_to_the_bit(home, trained, tmp_path, stage):
    run = tmp_path / "run"
    shutil.copytree(trained[stage], run)
    shutil.rmtree(run / "model")
    shutil.rmtree(run / "checkpoints/step-00000030")
    train(home.stage(stage, run), resume="resume", say=quiet)
    one, two = adapters(trained[stage]), adapters(run)
    assert one.keys() == two.keys()
    for file, weights in one.items():
        assert all(torch.equal(weights[key], two[file][key]) for key in weights), file


def test_stage_two_keeps_the_adapter_of_stage_one(trained):
    first, second = adapters(trained["stage1"]), adapters(trained["stage2"])
    assert set(first) == {"area.safetensors", "prior_mask.safetensors"}
    assert set(second) == {*first, "clip.safetensors", "poses.safetensors"}
    for file, weights in first.items():
        assert all(torch.equal(value, second[file][key]) for key, value in weights.items())
    assert any(value.any() for key, value in second["clip.safetensors"].items() if "lora_B" in key)
    assert second["poses.safetensors"]["weight"].any()


@WAN_AND_LTX
def test_what_was_trained_makes_the_same_clip_in_plain_diffusers(home, trained):
    """Where all but the first frame is generated, both sample the same task."""
    folder = trained["stage2"] / "model"
    pipe = HandiPipeline.from_pretrained(folder)
    kinds = {"wan": WanImageToVideoPipeline, "ltx": LTXImageToVideoPipeline}
    published = kinds[home.family].from_pretrained(home.base, local_files_only=True)
    published.load_lora_weights(folder, weight_name="clip.safetensors", adapter_name="clip")
    assert published.get_active_adapters() == ["clip"]
    picture = read_image(HAND)[:HEIGHT, :WIDTH]
    asked = {"height": HEIGHT, "width": WIDTH, "num_frames": home.frames, "num_inference_steps": 3,
             "guidance_scale": 2.0, "output_type": "latent"}  # fmt: skip

    def seeded():
        return torch.Generator().manual_seed(5)

    mine = pipe(picture, "Cut the carrot.", mask="full", generator=seeded(), **asked).frames
    with torch.no_grad():
        text, null = pipe.encode_text(["Cut the carrot.", ""]).split(1)
        still = pipe.encode_images(picture[None])
    noise = diffusion.clip_noise(mine.shape[1:], diffusion.clip_seeds(seeded(), 1), stream=2)
    more = {"prompt_embeds": text, "negative_prompt_embeds": null, "latents": noise}
    if home.family == "ltx":  # its pipeline takes latents with the picture in them, as tokens
        more["latents"] = torch.cat([still, noise[:, :, 1:]], 2).flatten(2).mT
        more["prompt_attention_mask"], more["negative_prompt_attention_mask"] = text.any(-1), null.any(-1)
    theirs = published(image=Image.fromarray(picture), **asked, **more).frames
    published.unload_lora_weights()
    plain = published(image=Image.fromarray(picture), **asked, **more).frames
    if home.family == "ltx":
        theirs, plain = (z.mT.unflatten(2, mine.shape[2:]) for z in (theirs, plain))
    torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)
    assert (mine - plain).abs().mean() > 0.01


@WAN
def test_a_clip_is_generated_with_the_adapters_alone_and_their_base(home, trained, handi, tmp_path):
    """The base has moved since: --base says where to."""
    adapted, base = tmp_path / "adapters", tmp_path / "moved"
    shutil.copytree(trained["stage2"] / "model", adapted)
    card = adapted / "handi.json"
    card.write_text(card.read_text().replace(str(home.base), "/nowhere/base"))
    with pytest.raises(ModelError, match=r"base cannot be found.*--base"):
        HandiPipeline.from_pretrained(adapted)
    base.symlink_to(home.base)
    asked = ["--image", "example", "--prompt", "Cut the carrot.", "--steps", 2, "--area-steps", 2]
    asked += ["--guidance", 1, "--area-guidance", 1, "--size", f"{HEIGHT}x{WIDTH}", "--device", "cpu"]
    poses = np.zeros((home.frames, 42, 2), np.float32)
    poses[:, :21] = np.linspace(0.2, 0.6, 21)[:, None]
    write_poses(tmp_path / "poses.json", poses, height=HEIGHT, width=WIDTH, fps=4, by="me")
    asked += ["--poses", tmp_path / "poses.json", "--pose-guidance", 2]
    code, _, err = handi("generate", "--model", adapted, "--base", base, *asked, "--out", tmp_path / "out")
    assert code == 0, err
    assert (tmp_path / "out/video.mp4").stat().st_size
    assert (tmp_path / "out/poses.json").stat().st_size
    direct = HandiPipeline.from_pretrained(adapted, base=base)
    assert direct.area_unet is direct.unet
    again = tmp_path / "again"
    direct.save_pretrained(again)
    assert adapters_in(again).keys() == adapters_in(adapted).keys()
    with pytest.raises(ModelError, match="holds no adapters"):
        HandiPipeline.from_pretrained(home.base, base=base)


@WAN_AND_LTX
def test_the_hand_loss_decodes_a_square_with_a_smaller_decoder_and_is_balanced(home, tmp_path, monkeypatch):
    monkeypatch.setattr(step.losses, "hand_refinement", partial(losses.hand_refinement, readable=-1.0))
    more = {
        "weight": 0.1,
        "features": 1.0,
        "noise_limit": 1e9,
        "share": 0.5,
        "crop": 32,
        "decoder": home.base,
    }
    changes = {f"loss__hand__{name}": value for name, value in more.items()}
    recipe = home.recipe("stage2", tmp_path, run__steps=2, run__gradients_every=1, **changes)
    train(recipe, say=quiet)
    scale, noise, features = (
        logged(tmp_path, name) for name in ("_hand_scale", "gradient/noise", "gradient/hand_features")
    )
    assert scale[0] == 1
    assert features[0] > 0
    assert (scale[1] > 1) == (features[0] < 0.5 * noise[0])
    assert "hand" in read_log(tmp_path / "log.jsonl")[0]


@WAN
def test_a_base_in_eight_bits_trains_much_the_same_adapter(home, tmp_path):
    runs = {}
    for frozen in ("bf16", "int8"):
        run = tmp_path / frozen
        changes = {"model__frozen": frozen, "run__precision": "bf16", "run__steps": 2}
        train(home.recipe("stage2", run, **changes), say=quiet)
        AcceleratorState._reset_state()
        runs[frozen] = logged(run, "noise")
    assert runs["int8"] == pytest.approx(runs["bf16"], rel=0.05)
    assert runs["int8"] != runs["bf16"]


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_an_estimate_without_weights_is_that_of_a_real_step(home, tmp_path, monkeypatch, stage):
    more = {"loss__hand__weight": 0.1, "loss__hand__crop": 64, "model__poses": True}
    recipe = home.recipe(stage, tmp_path, run__checkpointing=False, **(more if stage == "stage2" else {}))
    measured = estimate.estimate(recipe)
    monkeypatch.setattr(estimate, "CPU_LIMIT", 0)
    counted = estimate.estimate(recipe)
    assert (measured.device, counted.device) == ("CPU", "counted, not run")
    assert counted.trained == measured.trained
    assert counted.flops_per_step == measured.flops_per_step
    assert counted.peak_bytes == pytest.approx(measured.peak_bytes, rel=0.1)
    assert any("taken as stored" in note for note in measured.notes)


@WAN
def test_what_a_base_cannot_be_trained_for_is_said(home, tmp_path):
    for changes, message in (
        ({"model__lora_rank": 0}, "of a base adapters are trained"),
        ({"model__train": "unet.*"}, "leave it out"),
        ({"data__target": "per_frame"}, "one mask a clip"),
        ({"model__area_only": True}, "for lean networks"),
    ):
        with pytest.raises(InputError, match=message):
            setup.open_model(home.recipe("stage1", tmp_path, **changes), tmp_path)
    changes = {"model__frozen": "int8", "run__precision": "bf16"}
    recipe = home.recipe("stage2", tmp_path, "mini", **changes)
    with pytest.raises(InputError, match="int8 is for adapters"):
        setup.open_model(recipe, tmp_path)
    with pytest.raises(InputError, match=r"--frames.*use 13 or 17"):
        model_folder.check_sizes(home.base, 16, (HEIGHT, WIDTH))
    with pytest.raises(InputError, match=r"--size.*use 64x128"):
        model_folder.check_sizes(home.base, 17, (HEIGHT, 120))


@WAN
def test_the_other_commands_take_it_by_name(home, trained, handi, tmp_path):
    """areas and a stage 2 that learns with them, bench, evaluate, gallery, ablate."""

    def run(*arguments):
        code, out, err = handi(*arguments)
        assert code == 0, err
        return out

    model, clips = trained["stage2"] / "model", tmp_path / "clips"
    shutil.copytree(home.folder / "clips", clips)
    run(
        "areas", "--model", model, "--data", clips, "--area-steps", 2, "--area-guidance", 1, "--device", "cpu"
    )
    changes = {"data__path": clips, "data__mask__generated": 1, "data__mask__true": 0, "run__steps": 1}
    train(home.recipe("stage2", tmp_path / "run", trained["stage1"] / "model", **changes), say=quiet)

    data, out = write_data(tmp_path / "squares", ["a"]), tmp_path / "bench"
    spec = tmp_path / "mine.yaml"
    twice = {"steps": 2, "guidance": 1.0, "area_steps": 2, "area_guidance": 1.0, "device": "cpu"}
    spec.write_text(yaml.safe_dump({"kind": "handi", "model": str(model), **twice}))
    run("bench", "table2", "--data", f"squares={data}", "--methods", f"mine={spec}", "--metrics", "pixels",
        "--out", out)  # fmt: skip
    assert "mine" in (out / "table2.md").read_text()
    made = out / "videos/squares/mine"
    run("evaluate", "--pred", made, "--ref", data, "--metrics", "pixels", "--out", tmp_path / "scores")
    run("gallery", "--ref", data, "--methods", made, "--out", tmp_path / "page.html")

    recipe = tmp_path / "small.yaml"
    recipe.write_text(yaml.safe_dump(home.recipe("stage2", tmp_path / "x", model, run__steps=1).as_dict()))
    rows = ["--masks", "prior", "--hrl", "on", "--metrics", "pixels"]
    run("ablate", recipe, "--data", f"squares={data}", *rows, "--out", tmp_path / "ablation")
    assert adapters(tmp_path / "ablation/train/prior-on")["clip.safetensors"]
