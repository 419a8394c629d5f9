"""The loop, end to end on the tiny model: stages, resuming, stopping, bad batches, LoRA, accumulation."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import replace

import pytest
import torch
from accelerate.state import AcceleratorState
from helpers.tiny_training import prepared
from safetensors.torch import load_file

from handi.core.errors import InputError, ModelError
from handi.data.dataset import PreparedClips
from handi.models import folder as folders
from handi.models.backbone import Traits
from handi.models.lite import LiteTransformer
from handi.training import build, module, setup, step
from handi.training.augment import mirrored_joints
from handi.training.guards import BadBatch
from handi.training.loop import Run, train
from handi.training.recipe import parse_recipe
from handi.training.track import read_log
from handi.world.rendering import WorldSettings, render_folder


@pytest.fixture(autouse=True)
def _fresh_accelerate():
    yield
    AcceleratorState._reset_state()  # it remembers the precision of the first run of a process


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """clips/, val/ and a tiny autoencoder's run, vae/."""
    home = tmp_path_factory.mktemp("home")
    for name, clips, seed in (("clips", 4, 0), ("val", 2, 800_000)):
        assert not render_folder(
            home / f"world/{name}", clips=clips, seed=seed, settings=WorldSettings(size=32)
        )
        prepared(home / f"world/{name}", home / name)
    train(recipe_of(home, "vae", model={"preset": "tiny"}, out=home / "vae"), say=quiet)
    return home


def quiet(message):
    pass


def recipe_of(home, stage, *, out, model=None, **overrides):
    """Two steps of two clips, four frames each; the hand loss is off, as the tiny model shows none."""
    content = {
        "stage": stage,
        "model": model or {"init": str(home / "vae" / "model")},
        "data": {"path": str(home / "clips"), "frames": 4, "flip": True, "workers": 0},
        "loss": {"hand": {"weight": 0}},
        "optim": {"lr": 1e-3, "batch": 2, "ema": 0.9},
        "run": {"out": str(out), "steps": 2, "log_every": 1, "device": "cpu"},
    }
    return parse_recipe(content, {key.replace("__", "."): value for key, value in overrides.items()})


def weights(run, step, group="model"):
    return load_file(run / "checkpoints" / f"step-{step:08d}" / f"{group}.safetensors")


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# ----------------------------------------------------------------------------------- every stage


@pytest.mark.parametrize(("stage", "network"), [("stage1", "area_unet"), ("stage2", "unet")])
def test_a_stage_trains_its_network_only_and_leaves_a_model_that_generates(
    home, tmp_path, handi, stage, network
):
    out = tmp_path / "run"
    recipe = recipe_of(home, stage, out=out, data__validation=str(home / "val"), run__validate_every=1)
    recipe = replace(recipe, run=replace(recipe.run, sample_every=2, samples=1, gradients_every=1))
    assert train(recipe, say=quiet) == 0
    before, after = folders.load(home / "vae" / "model"), folders.load(out / "model")
    for name in ("unet", "area_unet", "vae", "text_encoder"):
        untouched = same(getattr(before, name).state_dict(), getattr(after, name).state_dict())
        assert untouched == (name != network), name
    assert after.card.weights == "trained"
    assert (after.card.height, after.card.frames) == (32, 16)
    lines = read_log(out / "log.jsonl", kind="train")
    assert [line["step"] for line in lines] == [1, 2]
    assert [line["samples"] for line in lines] == [2, 4]
    terms = {"noise", "miou"} if stage == "stage1" else {"noise"}
    for line in lines:
        assert line["total"] == pytest.approx(sum(line[term] for term in terms), rel=1e-5)
        assert all(line[f"gradient/{term}"] > 0 for term in terms)
        assert line["gradient"] > 0
    assert len(read_log(out / "log.jsonl", kind="validate")) == 2
    assert (out / "samples" / "step-00000002.png").exists()
    code, _, err = handi(
        "generate",
        "--image",
        "example",
        "--prompt",
        "cut it",
        "--model",
        out / "model",
        "--out",
        tmp_path / "v",
    )
    assert code == 0, err


def test_the_prior_mask_is_the_mean_of_the_training_areas(home, tmp_path):
    train(recipe_of(home, "stage1", out=tmp_path / "run"), say=quiet)
    clips = PreparedClips(home / "clips")
    mean = torch.stack([torch.from_numpy(clips[n].area).float() for n in range(4)]).mean(0)
    assert torch.allclose(folders.load(tmp_path / "run" / "model").prior_mask, mean, atol=1e-5)


def test_stage_1_learns_what_the_words_mean(home, tmp_path):
    """Both terms fall on four clips; a clip without words has none."""
    recipe = recipe_of(home, "stage1", out=tmp_path / "run", loss__grounding=0.25, data__flip=False)
    recipe = replace(
        recipe,
        optim=replace(recipe.optim, batch=4, lr=1e-2, ema=0.0),
        data=replace(recipe.data, dropout=0.0),
        run=replace(recipe.run, steps=40, save_every=40),
    )
    train(recipe, say=quiet)
    lines = read_log(tmp_path / "run" / "log.jsonl", kind="train")
    for term in ("things", "hands"):
        assert lines[-1][term] < 0.5 * lines[0][term]
    assert folders.load(tmp_path / "run" / "model").area_unet.finder.stem.conv.weight.any()

    clips, _ = setup.open_data(recipe)
    batch = setup.training_batches(recipe, clips).at(0, 4)
    networks = build.networks_of(recipe, setup.open_model(recipe, home))
    silent = replace(batch, texts=[""] * 4)
    terms = step.stage1_step(networks, silent, recipe.loss, torch.Generator().manual_seed(0))
    assert (terms["things"].item(), terms["hands"].item()) == (0, 0)
    networks.area_unet = LiteTransformer(**{**networks.area_unet.config, "grounding": False})
    with pytest.raises(ValueError, match="no finder"):
        step.stage1_step(networks, batch, recipe.loss, torch.Generator().manual_seed(0))


def test_grounding_teaches_the_finder(home, tmp_path):
    recipe = recipe_of(
        home, "stage1", out=tmp_path / "run", model__train="area_unet.finder.*", loss__grounding=1.0,
        data__dropout=0.0, data__flip=False,
    )  # fmt: skip
    recipe = replace(
        recipe,
        optim=replace(recipe.optim, lr=1e-2, ema=0.0),
        run=replace(recipe.run, steps=40, save_every=40, validate_every=0, sample_every=0),
    )
    assert train(recipe, say=quiet) == 0
    lines = read_log(tmp_path / "run" / "log.jsonl", kind="train")
    for term in ("things", "hands"):
        assert lines[-1][term] < 0.6 * lines[0][term]
    before, after = folders.load(home / "vae" / "model"), folders.load(tmp_path / "run" / "model")
    for name, value in after.area_unet.state_dict().items():
        untouched = torch.equal(value, before.area_unet.state_dict()[name])
        assert not (untouched and name == "finder.stem.conv.weight")
        assert untouched or name.startswith("finder.")


def test_poses_are_learned_from_first_frames_and_from_clips(home, tmp_path):
    """A PoseNet of its own is all that is trained; the model keeps it, and predicts with it."""
    first = WorldSettings(size=32, first_frames=True)
    assert not render_folder(tmp_path / "world", clips=2, seed=0, settings=first)
    prepared(tmp_path / "world", tmp_path / "first")
    entries = {"data__frames": 1, "data__dropout": 0.0, "loss__pure_noise": 0.7}
    recipe = recipe_of(
        home, "poses", out=tmp_path / "run", data__path=str(tmp_path / "first"),
        **entries,
    )  # fmt: skip
    recipe = replace(
        recipe,
        optim=replace(recipe.optim, batch=12, lr=3e-3, ema=0.0),
        run=replace(recipe.run, steps=25, save_every=25, sample_every=25, samples=1),
    )
    assert train(recipe, say=quiet) == 0
    lines = read_log(tmp_path / "run" / "log.jsonl", kind="train")
    for term in ("way", "start", "there"):
        assert lines[-1][term] < 0.6 * lines[0][term]
    assert (tmp_path / "run" / "samples" / "step-00000025.png").exists()
    before, after = folders.load(home / "vae" / "model"), folders.load(tmp_path / "run" / "model")
    assert before.pose_net is None
    for name in ("unet", "area_unet", "text_encoder"):
        old, new = getattr(before, name).state_dict(), getattr(after, name).state_dict()
        assert all(torch.equal(new[key], old[key]) for key in old)

    again = recipe_of(
        home, "poses", model={"init": str(tmp_path / "run" / "model")}, out=tmp_path / "more", **entries
    )
    assert train(again, say=quiet) == 0  # on clips
    more = folders.load(tmp_path / "more" / "model").pose_net.state_dict()
    assert any(not torch.equal(more[key], value) for key, value in after.pose_net.state_dict().items())


def test_the_way_of_a_clip_is_mirrored_with_it_and_whole_whatever_frames_are_drawn(home):
    recipe = recipe_of(home, "poses", out=home / "none", data__frames=1)
    clips, _ = setup.open_data(recipe)
    batch = setup.training_batches(recipe, clips).at(0, 8)
    assert batch.joints.shape[1] == 1
    torch.testing.assert_close(batch.way[:, :1], batch.joints)
    names = [name.removesuffix(" mirrored") for name in batch.names]
    mirrored = [row for row, name in enumerate(batch.names) if name.endswith("mirrored")]
    assert 0 < len(mirrored) < 8
    known = {clips[index].name: torch.tensor(clips[index].joints) for index in range(len(clips))}
    for row, name in enumerate(names):
        way = known[name].float()
        expected = mirrored_joints(way, 32) if row in mirrored else way
        torch.testing.assert_close(batch.way[row], expected)


def test_a_picture_with_several_requests_is_looked_at_once(home, tmp_path, monkeypatch):
    """And each gets the scores that it gets alone."""
    assert not render_folder(
        tmp_path / "world", clips=2, seed=0, settings=WorldSettings(size=32, first_frames=True)
    )
    prepared(tmp_path / "world", tmp_path / "first")
    recipe = recipe_of(
        home, "poses", out=tmp_path / "run", data__frames=1, data__flip=False,
        data__path=str(tmp_path / "first"),
    )  # fmt: skip
    clips, _ = setup.open_data(recipe)
    networks = build.networks_of(recipe, setup.open_model(recipe, home))
    batches, finder = setup.training_batches(recipe, clips), networks.area_unet.finder
    scores, looks, see, answer = [], [], finder.see, finder.answer
    monkeypatch.setattr(finder, "see", lambda z: looks.append(len(z)) or see(z))
    monkeypatch.setattr(finder, "answer", lambda *given: scores.append(answer(*given)) or scores[-1])
    step.poses_step(networks, batches.at(0, 12), recipe.loss, torch.Generator())
    assert looks == [2]
    step.poses_step(networks, batches.at(7, 1), recipe.loss, torch.Generator())
    torch.testing.assert_close(scores[0][7:8], scores[1])


def test_grounding_is_refused_where_nothing_can_say_or_learn_it(home, tmp_path, monkeypatch):
    parts = folders.load(home / "vae" / "model")
    without = LiteTransformer(**{**parts.area_unet.config, "grounding": False})
    setup.write_model(replace(parts, area_unet=without), tmp_path / "without")
    model = {"init": str(tmp_path / "without")}
    with pytest.raises(InputError, match="no finder"):
        train(recipe_of(home, "stage1", model=model, out=tmp_path / "run", loss__grounding=0.25), say=quiet)
    recipe = recipe_of(home, "stage1", out=tmp_path / "run", loss__grounding=0.25)
    read = PreparedClips.read
    monkeypatch.setattr(PreparedClips, "read", lambda *given: replace(read(*given), referents=None))
    with pytest.raises(InputError, match="do not say which things and hands"):
        train(recipe, say=quiet)


@pytest.mark.parametrize(
    ("stage", "steps", "lr", "fall"),
    # most of the autoencoder is its basis, which is fitted before: little is left to learn
    [("vae", 60, 3e-3, 0.95), ("stage1", 60, 1e-2, 0.25), ("stage2", 50, 1e-2, 0.5)],
)
def test_four_clips_are_learned_by_heart(home, tmp_path, stage, steps, lr, fall):
    """The loss falls, and goes on falling."""
    recipe = recipe_of(home, stage, out=tmp_path / "run", loss__snr_gamma=5)
    recipe = replace(
        recipe,
        data=replace(recipe.data, flip=False, dropout=0.0, texts=("short",)),
        optim=replace(recipe.optim, batch=4, lr=lr, ema=0.0),
        run=replace(recipe.run, steps=steps, save_every=steps),
    )
    train(recipe, say=quiet)
    curve = [line["total"] for line in read_log(tmp_path / "run" / "log.jsonl", kind="train")]
    middle = len(curve) // 2
    start, middle, end = (sum(curve[n : n + 10]) / 10 for n in (0, middle - 5, len(curve) - 10))
    assert start > middle > end
    assert end < fall * start, (start, middle, end)


def test_a_published_folder_without_a_stage_1_trains_one(home, tmp_path, model_folder):
    published = tmp_path / "published"
    shutil.copytree(model_folder, published)
    shutil.rmtree(published / "area_unet")
    for name in ("handi.json", "prior_mask.safetensors"):
        (published / name).unlink()
    recipe = recipe_of(home, "stage1", out=tmp_path / "run", model={"init": str(published)})
    recipe = replace(recipe, optim=replace(recipe.optim, batch=1), run=replace(recipe.run, steps=1))
    train(recipe, say=quiet)
    trained, start = folders.load(tmp_path / "run" / "model"), folders.load(published)
    assert trained.card.stage1 is not None
    assert same(trained.unet.state_dict(), start.unet.state_dict())
    moved, origin = trained.area_unet.state_dict(), start.unet.state_dict()
    assert not same(moved, origin)
    assert all(torch.allclose(moved[name], origin[name], atol=0.01) for name in origin)


# --------------------------------------------------------------------------- stopping and resuming


@pytest.mark.parametrize("stage", ["vae", "stage1", "stage2"])
def test_pieces_add_up_to_the_same_run_to_the_bit(home, tmp_path, monkeypatch, stage):
    def run(out, piece=None):
        recipe = recipe_of(home, stage, out=tmp_path / out, run__steps=5, optim__schedule="cosine")
        with monkeypatch.context() as patch:
            if piece:
                patch.setattr(Run, "out_of_time", lambda self: self.step == piece)
            assert train(recipe, say=quiet) == 0

    run("whole")
    for piece in (2, 3, None):
        run("pieces", piece)
    for group in ("model", "ema", "optimizer"):
        assert same(weights(tmp_path / "whole", 5, group), weights(tmp_path / "pieces", 5, group)), group
    logs = [read_log(tmp_path / out / "log.jsonl", kind="train") for out in ("whole", "pieces")]
    for lines in logs:
        for line in lines:
            del line["time"], line["seconds_per_step"]
    assert logs[0] == logs[1]
    models = [folders.load(tmp_path / out / "model") for out in ("whole", "pieces")]
    assert folders.fingerprint(models[0]) == folders.fingerprint(models[1])


def test_a_fresh_model_is_the_same_when_its_run_goes_on_although_clips_have_come(home, tmp_path, monkeypatch):
    world, clips, out, said = tmp_path / "world", tmp_path / "clips", tmp_path / "run", []
    render_folder(world, clips=1, seed=0, settings=WorldSettings(size=32, pictures="png"))
    prepared(world, clips)
    recipe = recipe_of(home, "vae", out=out, model={"preset": "tiny"}, data__path=str(clips))
    with monkeypatch.context() as patch:
        patch.setattr(Run, "out_of_time", lambda self: self.step == 1)
        train(recipe, say=quiet)
    basis = folders.load(out / "start").vae.state_dict()["basis.components"]
    render_folder(world, clips=2, seed=0, settings=WorldSettings(size=32, pictures="png"))
    prepared(world, clips)
    train(recipe, say=said.append)
    assert torch.equal(folders.load(out / "model").vae.state_dict()["basis.components"], basis)
    assert any("the training clips have changed: 2, there were 1" in line for line in said)


def test_a_signal_saves_and_ends_with_its_code(home, tmp_path, monkeypatch):
    recipe = recipe_of(home, "stage1", out=tmp_path / "run", run__steps=9)
    original = Run.forward_backward

    def passing(self, *arguments, **options):
        if self.step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, *arguments, **options)

    monkeypatch.setattr(Run, "forward_backward", passing)
    assert train(recipe, say=quiet) == 128 + signal.SIGTERM
    assert weights(tmp_path / "run", 2)


def test_minutes_stop_the_run_with_a_checkpoint_and_a_model(home, tmp_path):
    out = tmp_path / "run"
    recipe = recipe_of(home, "stage1", out=out, run__steps=100_000)
    assert train(replace(recipe, run=replace(recipe.run, minutes=0.02)), say=quiet) == 0
    (saved,) = (out / "checkpoints").iterdir()
    step = int(saved.name.removeprefix("step-"))
    assert 0 < step < 100_000
    made = folders.fingerprint(folders.load(out / "model"))
    shutil.rmtree(out / "model")
    assert train(replace(recipe, run=replace(recipe.run, minutes=0)), say=quiet) == 0  # just the model
    assert folders.fingerprint(folders.load(out / "model")) == made
    assert [entry.name for entry in (out / "checkpoints").iterdir()] == [saved.name]


def test_resume_and_fresh(home, tmp_path):
    out = tmp_path / "run"
    recipe = recipe_of(home, "stage1", out=out)
    with pytest.raises(InputError, match="no checkpoint to resume from"):
        train(recipe, resume="resume", say=quiet)
    train(recipe, say=quiet)
    other = recipe_of(home, "stage1", out=out, optim__lr="5e-4", run__steps=3)
    with pytest.raises(InputError, match=r"optim\.lr 0\.001, now 0\.0005"):
        train(other, say=quiet)
    train(replace(other, run=replace(other.run, accept_changes=True)), resume="resume", say=quiet)
    assert weights(out, 3)
    said = []
    train(recipe, resume="fresh", say=said.append)
    assert weights(tmp_path / "run.1", 3)
    assert not (out / "checkpoints" / "step-00000003").exists()
    assert any("run.1" in line for line in said)


# ------------------------------------------------------------------------------------ what may go wrong


@pytest.mark.parametrize("bad", ["loss", "gradient", "explosion"])
def test_a_bad_batch_stops_the_run_and_is_named(home, tmp_path, monkeypatch, bad):
    calls = []

    def step(networks, batch, loss, generator):
        calls.append(batch.names)
        weight = next(p for p in networks.vae.parameters() if p.requires_grad)
        term = weight.square().mean() + 1
        if len(calls) == 25:
            if bad == "loss":
                term = term * float("nan")
            elif bad == "gradient":
                term = term + (weight.square() * 0).sqrt().sum()  # finite, its slope is not
            else:
                term = term * 1000
        return {"noise": term}

    monkeypatch.setitem(module.STEPS, "vae", step)
    recipe = recipe_of(home, "vae", out=tmp_path / "run", run__steps=40, run__save_every=24)
    with pytest.raises(BadBatch) as error:
        train(recipe, say=quiet)
    assert all(name in str(error.value) for name in calls[-1])
    assert f"the {'loss' if bad != 'gradient' else 'gradient'}" in str(error.value)
    report = json.loads((tmp_path / "run" / "bad_batch.json").read_text())
    assert report["step"] == 25
    assert [clip["name"] for clip in report["passes"][0]["clips"]] == calls[-1]
    assert all(value.isfinite().all() for value in weights(tmp_path / "run", 24).values())
    assert not (tmp_path / "run" / "model").exists()


def test_wrong_recipes_are_refused_before_a_folder_is_made(home, tmp_path):
    out = tmp_path / "run"
    for recipe, message in (
        (recipe_of(home, "stage1", out=out, data__path=str(tmp_path)), "holds no prepared clips"),
        (recipe_of(home, "stage1", out=out, data__frames=17), r"set data\.frames to 16"),
        (recipe_of(home, "stage1", out=out, data__frames=17), "clips of 16 frames, data.frames is 17"),
        (
            recipe_of(home, "stage1", out=out, data__fps=8.0),
            "spread over each action, data.fps asks for 4 at 8",
        ),
        (
            recipe_of(home, "stage1", out=out, data__path=str(home / "val")),
            "no clips of the split 'train'; it has 2 val",
        ),
    ):
        with pytest.raises(InputError, match=message):
            train(recipe, say=quiet)
    assert not out.exists()
    with pytest.raises(InputError, match="needs a GPU"):
        train(recipe_of(home, "stage1", out=out, run__precision="fp16"), say=quiet)
    with pytest.raises(InputError, match=r"model\.preset is 'large'"):
        train(recipe_of(home, "vae", out=out, model={"preset": "large"}), say=quiet)
    with pytest.raises(InputError, match=r"'area_net\.\*' matches no weight"):
        train(recipe_of(home, "stage1", out=out, model__train="area_net.*"), say=quiet)
    with pytest.raises(ModelError, match="no such model folder"):
        train(recipe_of(home, "stage1", out=out, model={"init": "nowhere/at/all"}), say=quiet)


# ------------------------------------------------------------------------------- how steps are made up


def test_stage_2_is_told_the_area_of_stage_1(home):
    """A share of the samples: what lies outside that area is frozen to the context, as in generating."""
    recipe = recipe_of(home, "stage2", out=home / "unused")
    clips, _ = setup.open_data(recipe)
    batch = replace(setup.training_batches(recipe, clips).at(0, 4), texts=["Cut the carrot."] * 4)
    networks = build.networks_of(recipe, setup.open_model(recipe, home))
    corner = torch.zeros(32, 32)
    corner[8:16, 8:16] = 1
    picture = (2 * corner - 1).expand(4, 3, 1, 32, 32)
    told = []

    def stage1(sample, timestep, text, **conditions):
        assert (timestep == 999).all()
        return networks.backbone.encode(picture)

    def stage2(sample, timestep, text, *, mask, **conditions):
        told.append(mask[:, 0, 0])
        return sample

    networks.area_unet, networks.unet = stage1, stage2
    for network in (stage1, stage2):
        network.traits, network.mask_mode = Traits(one_mask=network is stage1), "area"
    loss = recipe.loss
    for kind in ("true", "generated"):
        batch = replace(batch, kinds=[kind] * 4)
        step.stage2_step(networks, batch, loss, torch.Generator().manual_seed(0))
    own = torch.nn.functional.adaptive_avg_pool2d(batch.area, told[0].shape[-2:])
    assert torch.allclose(told[0], own)
    cells = torch.nn.functional.adaptive_avg_pool2d(corner[None], told[1].shape[-2:])
    assert ((told[1] > 0) >= (cells > 0)).all()
    assert not told[1][:, 3].any()  # far from the corner
    picture = torch.full((4, 3, 1, 32, 32), -1.0)  # nothing is found: the whole frame, as in the pipeline
    step.stage2_step(networks, batch, loss, torch.Generator().manual_seed(0))
    assert (told[2] == 1).all()
    step.stage2_step(networks, replace(batch, texts=[""] * 4), loss, torch.Generator().manual_seed(0))
    assert torch.allclose(told[3], own)  # a sample whose words are dropped keeps its own area
    networks.area_unet = None
    with pytest.raises(ValueError, match="needs a model with a stage 1"):
        step.stage2_step(networks, batch, loss, torch.Generator().manual_seed(0))


def reconstruct(networks, batch, loss, generator):
    """A step without chance, and of the same weight for every clip."""
    pictures = batch.frames[:, 1].permute(0, 3, 1, 2).float() / 127.5 - 1
    latents = networks.vae.encode(pictures).latent_dist.mode()
    return {"l2": (networks.vae.decode(latents).sample - pictures).square().mean()}


def test_accumulation_equals_a_big_batch(home, tmp_path, monkeypatch):
    monkeypatch.setitem(module.STEPS, "vae", reconstruct)
    for out, batch, parts in (("big", 4, 1), ("small", 1, 4)):
        train(
            recipe_of(home, "vae", out=tmp_path / out, optim__batch=batch, optim__accumulate=parts), say=quiet
        )
    big, small = weights(tmp_path / "big", 2), weights(tmp_path / "small", 2)
    start = folders.load(home / "vae" / "model").vae.state_dict()
    moved = {name: (big[name] - start[name.removeprefix("vae.")]).abs().max() for name in big}
    assert max(moved.values()) > 5e-4
    for name in big:
        assert torch.allclose(big[name], small[name], atol=2e-5), name
    curves = [
        [line["total"] for line in read_log(tmp_path / out / "log.jsonl", kind="train")]
        for out in ("big", "small")
    ]
    assert curves[0] == pytest.approx(curves[1], rel=1e-5)


def test_bf16_and_checkpointing_train_too(home, tmp_path):
    train(recipe_of(home, "stage2", out=tmp_path / "plain"), say=quiet)
    train(recipe_of(home, "stage2", out=tmp_path / "less", run__checkpointing="true"), say=quiet)
    for name, value in weights(tmp_path / "plain", 2).items():
        assert torch.allclose(value, weights(tmp_path / "less", 2)[name], atol=1e-5)
    AcceleratorState._reset_state()
    train(recipe_of(home, "stage2", out=tmp_path / "bf16", run__precision="bf16"), say=quiet)
    assert {value.dtype for value in weights(tmp_path / "bf16", 2).values()} == {torch.float32}
    # At its first step a fresh network says that nothing moves, in any precision.
    totals = [read_log(tmp_path / out / "log.jsonl", kind="train")[-1]["total"] for out in ("plain", "bf16")]
    assert totals[0] != totals[1]
    assert totals[0] == pytest.approx(totals[1], rel=0.05)


def test_lora_trains_adapters_and_merges_them_into_the_model(home, tmp_path, model_folder):
    out = tmp_path / "run"
    model = {"init": str(model_folder), "lora_rank": 2, "lora_targets": ["to_q", "to_v"]}
    recipe = recipe_of(home, "stage2", out=out, model=model, optim__batch=1, optim__lr=0.01)
    run = Run(recipe, "auto", quiet)
    assert all(".lora_" in name for name, p in run.inner.named_parameters() if p.requires_grad)
    base = {n: p.clone() for n, p in run.inner.unet.named_parameters() if not p.requires_grad}
    assert run.go() == 0
    saved = weights(out, 2)
    assert saved
    assert all(".lora_" in name for name in saved)
    assert (out / "checkpoints" / "step-00000002" / "model.safetensors").stat().st_size < 200_000
    merged = folders.load(out / "model").unet.state_dict()
    start = folders.load(model_folder).unet.state_dict()
    assert merged.keys() == start.keys()
    changed = {name for name in start if not torch.equal(start[name], merged[name])}
    assert changed
    assert all(name.endswith(("to_q.weight", "to_v.weight")) for name in changed)
    # by hand: W + (alpha / rank) B A, of the averaged weights
    adapters = load_file(out / "lora.safetensors")
    for name in changed:
        layer = name.removesuffix(".weight")
        up, down = (adapters[f"unet.{layer}.lora_{side}.weight"] for side in "BA")
        assert torch.allclose(merged[name], start[name] + up @ down, atol=1e-6)
        assert torch.equal(base[f"{layer}.base_layer.weight"], start[name])
    train(replace(recipe, run=replace(recipe.run, steps=3, accept_changes=True)), say=quiet)  # and goes on
    assert weights(out, 3)


def test_dropout_is_on_in_trained_networks_only_and_seeded(home, tmp_path, model_folder):
    """AnimateAnything's blocks hold dropout, which draws from torch's own generator."""
    totals = []
    for out in ("one", "two", "pieces"):
        torch.manual_seed(len(totals))
        recipe = recipe_of(home, "stage2", out=tmp_path / out, model={"init": str(model_folder)})
        recipe = replace(recipe, optim=replace(recipe.optim, batch=1))
        for steps in (1, 2) if out == "pieces" else (2,):
            run = replace(recipe.run, steps=steps, accept_changes=True)
            training = Run(replace(recipe, run=run), "auto", quiet)
            training.go()
            dropouts = [m for m in training.inner.unet.modules() if isinstance(m, torch.nn.Dropout)]
            assert any(m.p > 0 for m in dropouts)
            assert all(m.training for m in dropouts)
            assert not training.inner.vae.training
        totals.append([line["total"] for line in read_log(tmp_path / out / "log.jsonl", kind="train")])
    assert totals[0] == totals[1] == totals[2]


def test_workers_change_nothing(home, tmp_path):
    for out, workers in (("none", 0), ("two", 2)):
        train(recipe_of(home, "stage1", out=tmp_path / out, data__workers=workers), say=quiet)
    assert same(weights(tmp_path / "none", 2), weights(tmp_path / "two", 2))


def test_the_command(home, tmp_path, handi):
    path = tmp_path / "mine.yaml"
    recipe = recipe_of(home, "stage1", out=tmp_path / "run")
    path.write_text(json.dumps(recipe.as_dict()))
    code, _, err = handi("train", path, "--run.steps", "1", "--optim.lr=1e-4")
    assert code == 0, err
    assert f"the model is in {tmp_path / 'run' / 'model'}" in err
    assert "lr: 0.0001" in (tmp_path / "run" / "recipe.yaml").read_text()
    for arguments, code, message in (
        ((path, "--optim.lrr", "1"), 1, "did you mean optim.lr?"),
        (("mini_vaee",), 1, "give a YAML file, or one of: "),
        ((path, "--optim.lr"), 2, "--optim.lr has no value"),
        ((path, "--resume", "--fresh"), 2, "exclude each other"),
        ((path, "--minutes", "-1"), 1, "run.minutes is -1"),
    ):
        found, _, err = handi("train", *arguments)
        assert found == code
        assert message in err
        assert err.count("\n") == 1


def test_the_published_kind_of_network_learns_poses_too(home, model_folder, tmp_path):
    model = {"init": str(model_folder), "poses": True}
    assert train(recipe_of(home, "stage2", model=model, out=tmp_path / "run"), say=quiet) == 0
    unet = folders.load(tmp_path / "run/model").unet
    assert unet.config.poses
    assert unet.pose_stem.weight.any()
    refused = recipe_of(home, "stage2", model={**model, "area_only": True}, out=tmp_path / "no")
    with pytest.raises(InputError, match=r"model\.area_only is for lean networks"):
        train(refused, say=quiet)


def test_stage2_given_poses_in_the_areas_cells_trains_and_goes_on_to_the_bit(home, tmp_path):
    changes = {
        "model__poses": True, "model__area_only": True, "data__choice": "random", "data__zoom": 0.3,
        "data__colour": 0.1, "data__poses__share": 0.7, "loss__cells": 6, "loss__on_hands": 1.0,
        "loss__inside_only": True, "run__save_every": 1, "data__validation": str(home / "val"),
        "run__validate_every": 1, "run__validation_clips": 2, "run__samples": 1, "run__sample_every": 2,
    }  # fmt: skip
    whole = recipe_of(home, "stage2", out=tmp_path / "whole", **changes)
    assert train(whole, say=quiet) == 0
    parts = folders.load(tmp_path / "whole/model")
    assert parts.unet.config.poses
    assert parts.unet.config.area_only
    assert parts.unet.pose_stem.frames.weight.any()
    pieces = recipe_of(home, "stage2", out=tmp_path / "pieces", **changes)
    train(replace(pieces, run=replace(pieces.run, steps=1)), say=quiet)
    train(replace(pieces, run=replace(pieces.run, accept_changes=True)), say=quiet)
    one, other = (load_file(tmp_path / run / "model/unet/diffusion_pytorch_model.safetensors")
                  for run in ("whole", "pieces"))  # fmt: skip
    assert all(torch.equal(one[name], other[name]) for name in one)
