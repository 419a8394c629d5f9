"""`handi areas`: stage 1's areas beside the shards, resumed when killed, given to stage 2 as in sampling."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.plain_work import Sent
from helpers.small_footage import content
from helpers.tiny_training import SIZE, tiny_clip

import handi.training.areas
from handi import HandiPipeline
from handi.core.errors import InputError
from handi.core.executors import Serial
from handi.data.areas import StoredAreas
from handi.data.claim import claimed
from handi.data.dataset import PreparedClips
from handi.data.prepare import ToolsMaker, write_shards
from handi.data.sources import read_source
from handi.data.stages import PrepareSettings
from handi.method.area import usable_area
from handi.models.fresh import random_checkpoint
from handi.training import build, setup
from handi.training.areas import AreaSettings, clip_generator, make_areas
from handi.training.recipe import parse_recipe
from handi.training.step import stage2_step
from handi.world.files import write_clip

QUICK = AreaSettings(steps=1, guidance=1.0, batch=2)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """model/, a random one of both stages; data/ with frames and bare/ with latents alone: 3 + 1 clips."""
    home = tmp_path_factory.mktemp("home")
    pipe = HandiPipeline.from_checkpoint(random_checkpoint(size=SIZE))
    pipe.set_progress_bar_config(disable=True)
    context = pipe.encode_images(tiny_clip(0).frames[:1])
    soft = pipe.soft_areas(context, ["Cut."], (SIZE, SIZE), steps=1, guidance=1)
    with torch.no_grad():  # so that some of the picture is above one half, not all and not none
        pipe.vae.decoder.conv_out.bias += 2 * (0.5 - float(np.median(soft)))
    pipe.save_pretrained(home / "model")
    for seed in (0, 1, 2, 800_000):
        write_clip(home / "clips", replace(tiny_clip(seed % 1000), seed=seed), pictures="png")
    found = read_source("world", home / "clips")
    true = PrepareSettings(size=(SIZE, SIZE), truth="moved", clips_per_shard=2, pictures="png")
    write_shards(found, home / "data", true, ToolsMaker(detects=False), Serial())
    models = ToolsMaker("cpu", detects=False, model=str(home / "model"))
    bare = replace(true, pictures="none", models=models.hashes())
    write_shards(found, home / "bare", bare, models, Serial())
    return home


@pytest.fixture(scope="module")
def made(home):
    """data/ with its areas."""
    summary = make_areas(str(home / "model"), home / "data", QUICK)
    assert (summary.clips, summary.made) == (4, 4)
    assert 0 <= summary.iou <= 1
    return home / "data"


@pytest.fixture(scope="module")
def pipe(home):
    pipe = HandiPipeline.from_pretrained(home / "model")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def recipe_of(home, data, out, *, mask=None, **changes):
    made = {
        "stage": "stage2",
        "model": {"init": str(home / "model")},
        "data": {"path": str(data), "workers": 0, "mask": mask or {"generated": 1}},
        "loss": {"hand": {"weight": 0}},
        "run": {"out": str(out), "steps": 1, "device": "cpu"},
    }
    return parse_recipe(made, {key.replace("__", "."): value for key, value in changes.items()})


def test_an_area_is_what_the_pipeline_makes_of_the_clip(made, pipe):
    clips = PreparedClips(made)
    stored = StoredAreas(made)
    clip, row = clips[2], clips.row(2)  # alone in its batch, as here
    output = pipe(
        clip.frames[0], clip.texts["enriched"][0], height=SIZE, width=SIZE, num_inference_steps=1,
        area_inference_steps=1, area_guidance_scale=1, output_type="latent",
        generator=clip_generator(clip.name, 0),
    )  # fmt: skip
    np.testing.assert_allclose(stored.soft(row), output.motion_area_soft[0], atol=0.51 / 255)
    np.testing.assert_array_equal(stored.area(row), output.motion_area[0])
    names = [clips.row(n)["id"] for n in range(3)]
    assert len({stored.soft(clips.row(n)).tobytes() for n in range(3)}) == 3, names


def test_stage_2_is_given_in_a_step_what_it_is_given_in_sampling(home, made, pipe, tmp_path):
    recipe = recipe_of(home, made, tmp_path, data__texts="enriched", data__dropout=0)
    clips, _ = setup.open_data(recipe)
    parts = setup.open_model(recipe, tmp_path)
    setup.check_areas(recipe, [clips], parts)
    batches = setup.training_batches(recipe, clips)
    position = next(n for n in range(3) if batches.at(n, 1).names == [clips[2].name])
    batch = batches.at(position, 1)
    given = []

    def keep(module, args, kwargs):
        given.append(kwargs["mask"])

    networks = build.networks_of(recipe, parts)
    for network in (networks.unet, pipe.unet):
        network.register_forward_pre_hook(keep, with_kwargs=True)
    stage2_step(networks, batch, recipe.loss, torch.Generator().manual_seed(0))
    pipe(
        batch.frames[0, 0].numpy(), batch.texts[0], height=SIZE, width=SIZE, num_inference_steps=1,
        guidance_scale=1, area_inference_steps=1, area_guidance_scale=1, output_type="latent",
        generator=clip_generator(clips[2].name, 0),
    )  # fmt: skip
    pipe.unet._forward_pre_hooks.clear()
    torch.testing.assert_close(given[0], given[1])
    assert 0 < given[0].mean() < 1


def test_shares_flips_and_the_held_out_clips(home, made, tmp_path):
    shares = {"true": 0.25, "generated": 0.25, "prior": 0.25, "full": 0.25}
    recipe = recipe_of(home, made, tmp_path, mask=shares, data__flip=True, data__validation=str(made))
    clips, held_out = setup.open_data(recipe)
    stored = {clips[n].name: clips[n].generated for n in range(3)}
    true = {clips[n].name: clips[n].area for n in range(3)}
    batches = setup.training_batches(recipe, clips)
    counts = dict.fromkeys(shares, 0)
    for position in range(80):
        batch = batches.at(position, 1)
        (name,), area = batch.names, batch.mask[0].numpy()
        flip = (lambda x: x[:, ::-1]) if name.endswith(" mirrored") else (lambda x: x)
        name = name.removesuffix(" mirrored")
        kinds = {"true": flip(true[name]), "generated": flip(stored[name]), "prior": batches.prior,
                 "full": np.ones((SIZE, SIZE))}  # fmt: skip
        found = [kind for kind, one in kinds.items() if np.array_equal(area, one)]
        assert found
        counts[found[0]] += 1
        assert batch.to_generate is None
    assert min(counts.values()) >= 10, counts
    assert held_out.clips[0].generated is not None


def test_a_run_that_is_stopped_goes_on_and_ends_the_same(home, made, tmp_path, monkeypatch):
    data = tmp_path / "data"
    shutil.copytree(made, data)
    shutil.rmtree(data / "areas")
    shards, whole = [], handi.training.areas.make_shard

    def once(pipe, clips, shard, *rest):
        if shards:
            (data / "areas" / ".train-00001-left").write_text("half")
            raise KeyboardInterrupt
        shards.append(shard)
        return whole(pipe, clips, shard, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(handi.training.areas, "make_shard", once)
        with pytest.raises(KeyboardInterrupt):
            make_areas(str(home / "model"), data, QUICK)
    with pytest.raises(
        InputError, match=r"1 of 3 clips have no generated motion area.*run handi areas again"
    ):
        setup.open_data(recipe_of(home, data, tmp_path / "run"))
    assert make_areas(str(home / "model"), data, QUICK).made == 2
    (data / "areas" / "train-00001.jsonl").unlink()  # stopped between a tar and its lines, written last
    assert make_areas(str(home / "model"), data, QUICK).made == 1
    assert content(data) == content(made)


def test_other_processes_make_the_same_areas(home, made, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(made, data)
    shutil.rmtree(data / "areas")
    assert make_areas(str(home / "model"), data, QUICK, Sent()).made == 4
    assert content(data) == content(made)


def test_latents_alone_give_nearly_the_same_areas(home, made):
    make_areas(str(home / "model"), home / "bare", QUICK)
    for place in (0, 2):
        rows = [PreparedClips(folder).row(place) for folder in (made, home / "bare")]
        one, other = (StoredAreas(f).soft(row) for f, row in zip((made, home / "bare"), rows, strict=True))
        assert np.abs(one - other).mean() < 0.01  # float16


def test_what_does_not_fit_is_refused(home, made, tmp_path, handi):
    data = tmp_path / "data"
    shutil.copytree(made, data)
    with pytest.raises(InputError, match="steps 1, not 3"):
        make_areas(str(home / "model"), data, replace(QUICK, steps=3))
    other = HandiPipeline.from_checkpoint(random_checkpoint(size=SIZE, seed=1))
    other.save_pretrained(tmp_path / "other")
    recipe = recipe_of(home, data, tmp_path / "run", model__init=str(tmp_path / "other"))
    clips, _ = setup.open_data(recipe)
    with pytest.raises(InputError, match="made by another stage 1"):
        setup.check_areas(recipe, [clips], setup.open_model(recipe, tmp_path))

    tar = data / "areas" / "train-00000.tar"
    place = StoredAreas(data).of_shard("train-00000")[clips.row(0)["id"]]["offset"]
    damaged = bytearray(tar.read_bytes())
    damaged[place + 20] ^= 1
    tar.write_bytes(damaged)
    said = r"areas.train-00000\.tar: the area of [^(]* is damaged \([^:]*\); delete [^;]*\.jsonl"
    with pytest.raises(InputError, match=said):  # not the shard's clip
        clips[0]
    shutil.rmtree(data / "areas")
    clips, _ = setup.open_data(recipe)
    with pytest.raises(InputError, match=r"have not been made; run handi areas --model .* --data"):
        setup.check_areas(recipe, [clips], setup.open_model(recipe, tmp_path))
    shutil.rmtree(tmp_path / "other" / "area_unet")
    for name in ("handi.json", "prior_mask.safetensors"):
        (tmp_path / "other" / name).unlink()
    code, _, err = handi("areas", "--model", tmp_path / "other", "--data", data)
    assert code == 1
    assert "this model has no stage 1" in err


def test_the_folder_stays_one_of_prepared_clips(made):
    """`handi prepare` goes on in a folder that has areas."""
    import json

    settings = json.loads((made / "settings.json").read_text())
    with claimed(made, settings):
        pass
    assert usable_area(np.zeros((8, 8), np.float32)).all()
