"""Training on prepared shards: from frames, and from cached latents where frames are not kept."""

from __future__ import annotations

import pytest
import torch
from accelerate.state import AcceleratorState
from helpers.tiny_training import tiny_clip
from safetensors.torch import load_file

from handi.core.errors import InputError
from handi.core.executors import Serial
from handi.data.dataset import PreparedClips
from handi.data.prepare import ToolsMaker, write_shards
from handi.data.sources import read_source
from handi.data.stages import PrepareSettings
from handi.training import build, setup
from handi.training.batches import Batches, Sampling
from handi.training.loop import train
from handi.training.recipe import parse_recipe
from handi.training.step import latents_of, text_states
from handi.training.track import read_log
from handi.world.files import write_clip


def quiet(message):
    pass


@pytest.fixture(autouse=True)
def _fresh_accelerate():
    yield
    AcceleratorState._reset_state()


def recipe_of(home, data, stage, out, **overrides):
    content = {
        "stage": stage,
        "model": {"init": str(home / "vae" / "model")},
        "data": {"path": str(home / data), "frames": 4, "workers": 0},
        "loss": {"hand": {"weight": 0}},
        "optim": {"lr": 1e-3, "batch": 2, "ema": 0.9},
        "run": {"out": str(out), "steps": 2, "log_every": 1, "device": "cpu"},
    }
    return parse_recipe(content, {key.replace("__", "."): value for key, value in overrides.items()})


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Tiny clips prepared three times: with frames, with latents and text beside them, with latents alone."""
    home = tmp_path_factory.mktemp("home")
    for seed in range(4):
        write_clip(home / "clips", tiny_clip(seed), pictures="png")
    found = read_source("world", home / "clips")
    true = {"size": (32, 32), "truth": "moved", "clips_per_shard": 3}
    nothing = ToolsMaker(detects=False)
    write_shards(found, home / "frames", PrepareSettings(**true, pictures="png"), nothing, Serial())
    recipe = recipe_of(home, "frames", "vae", home / "vae", model__preset="tiny", model__init="none")
    train(recipe, say=quiet)
    AcceleratorState._reset_state()
    models = ToolsMaker("cpu", detects=False, model=str(home / "vae" / "model"), embeddings=True)
    for name, pictures in (("both", "png"), ("latents", "none")):
        settings = PrepareSettings(**true, pictures=pictures, models=models.hashes())
        write_shards(found, home / name, settings, models, Serial())
    return home


def losses(run):
    """And gradients: a fresh network's loss hardly depends on its context."""
    rows = [row for row in read_log(run / "log.jsonl") if row["kind"] == "train"]
    return [row[name] for row in rows for name in ("noise", "gradient")]


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_cached_latents_train_as_the_frames_do(home, tmp_path, stage):
    runs = {}
    for name in ("frames", "both", "latents"):
        run = tmp_path / name
        train(recipe_of(home, name, stage, run, data__dropout=0.5), say=quiet)
        AcceleratorState._reset_state()
        runs[name] = losses(run), load_file(run / "model" / "unet" / "diffusion_pytorch_model.safetensors")
    assert runs["both"][0] == runs["latents"][0]
    assert runs["latents"][0] == pytest.approx(runs["frames"][0], rel=2e-3)
    assert runs["latents"][0] != runs["frames"][0]  # float16: they were read


def test_what_is_cached_is_what_would_be_computed(home):
    recipe = recipe_of(home, "both", "stage2", home / "x")
    parts = setup.open_model(recipe, home)
    networks = build.networks_of(recipe, parts)
    plain, cached = PreparedClips(home / "both"), PreparedClips(home / "both")
    assert setup.use_cached(recipe, [cached], parts) == []
    sampling = Sampling(frames=5, texts=("short", "paraphrase", "enriched"), dropout=0.4)
    one, two = (Batches(clips, sampling, 7).at(0, 8) for clips in (plain, cached))
    assert one.texts == two.texts
    assert "" in two.texts
    assert two.latents is not None
    assert two.embeddings is not None
    assert (latents_of(networks, one) - latents_of(networks, two)).abs().max() < 5e-3
    with torch.no_grad():
        assert (text_states(networks, one) - text_states(networks, two)).abs().max() < 5e-3


def test_the_hand_loss_reads_the_latents_where_frames_are_not_kept(home, tmp_path):
    run = tmp_path / "run"
    changes = {"loss__hand__weight": 0.1, "loss__hand__noise_limit": 1e9, "run__steps": 1}
    train(recipe_of(home, "latents", "stage2", run, **changes), say=quiet)
    (row,) = [row for row in read_log(run / "log.jsonl") if row["kind"] == "train"]
    assert "hand" in row or "_hands" in row


def test_what_cannot_be_trained_on_says_why(home, tmp_path):
    run = tmp_path / "run"
    for changes, message in (
        ({"data__flip": True}, "data.flip asks for mirrored"),
        ({"run__sample_every": 1}, "set run.sample_every to 0"),
        ({"model__train": "unet.*,vae.basis.*"}, "vae is trained|matches no weight"),
        ({"model__init": "mini"}, "another model made them"),
    ):
        with pytest.raises(InputError, match=message):
            train(recipe_of(home, "latents", "stage2", run, **changes), say=quiet)
        AcceleratorState._reset_state()
    with pytest.raises(InputError, match="an autoencoder learns from frames"):
        train(recipe_of(home, "latents", "vae", run), say=quiet)
    with pytest.raises(InputError, match=r"holds clips of 32×32, data\.size is 64×64"):
        train(recipe_of(home, "both", "stage2", run, data__size="64,64"), say=quiet)
    notes = []
    train(recipe_of(home, "both", "stage2", run, data__flip=True), say=notes.append)
    assert any("stays unused: data.flip" in note for note in notes)
