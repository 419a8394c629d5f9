"""handi's pipeline as users of diffusers call, load and save it."""

from __future__ import annotations

import copy
import json
import shutil

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

from handi import HandiPipeline
from handi.assets import MINI
from handi.core.errors import InputError, ModelError
from handi.models.folder import INDEX

FAST = {"mask": "full", "num_frames": 2, "num_inference_steps": 1, "height": 32, "width": 32}


def seeded(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(n) for n in range(count)]


def frames(pipe, picture, **more):
    options = {"prompt": "Cut it.", "generator": torch.Generator().manual_seed(3), **FAST, **more}
    return pipe(picture, **options).frames


@pytest.mark.parametrize("kind", ["HandiUNet", "mini"])
def test_diffusers_loads_our_folder(model_folder, picture, kind):
    folder = MINI if kind == "mini" else model_folder
    index = json.loads((folder / INDEX).read_text())
    assert index["_class_name"] == "HandiPipeline"
    loaded = DiffusionPipeline.from_pretrained(folder)
    ours = HandiPipeline.from_pretrained(folder)
    assert type(loaded) is HandiPipeline
    assert loaded.card == ours.card
    assert torch.equal(loaded.prior_mask, ours.prior_mask)
    assert type(loaded.unet) is type(ours.unet)
    assert {part.dtype for part in (loaded.unet, loaded.vae, loaded.text_encoder)} == {torch.float32}
    loaded.set_progress_bar_config(disable=True)
    ours.set_progress_bar_config(disable=True)
    more = {"mask": None, "area_inference_steps": 1, "height": 64, "width": 64}
    assert np.array_equal(frames(loaded, picture, **more), frames(ours, picture, **more))


def test_what_diffusers_loads_can_be_saved_again(model_folder, tmp_path):
    DiffusionPipeline.from_pretrained(model_folder, trust_remote_code=False).save_pretrained(tmp_path / "a")
    first, again = (HandiPipeline.from_pretrained(folder) for folder in (model_folder, tmp_path / "a"))
    assert again.card == first.card
    assert torch.equal(again.prior_mask, first.prior_mask)
    assert (tmp_path / "a" / INDEX).read_text() == (model_folder / INDEX).read_text()


def test_negative_prompts(pipe, picture):
    pipe_of = {"guidance_scale": 5.0, "generator": seeded(2)}
    two = {"prompt": ["Cut it.", "Open it."], **pipe_of}
    none = frames(pipe, picture, **two)
    assert np.array_equal(none, frames(pipe, picture, **(two | {"generator": seeded(2)}), negative_prompt=""))
    lists = frames(pipe, picture, **(two | {"generator": seeded(2)}), negative_prompt=["blurred hands", None])
    assert not np.array_equal(none[0], lists[0])
    assert np.array_equal(none[1], lists[1])
    with pytest.raises(InputError, match="negative_prompt is no text"):
        frames(pipe, picture, negative_prompt=5)
    with pytest.raises(InputError, match="2 of prompt for a batch of 3"):
        frames(pipe, picture, **two, negative_prompt=["a", "b", "c"])


def test_several_videos_of_each_prompt(pipe, picture):
    clips = frames(
        pipe, picture, prompt=["Cut it.", "Open it."], num_videos_per_prompt=2, generator=seeded(4)
    )
    assert len(clips) == 4
    for number, prompt in enumerate(["Cut it.", "Cut it.", "Open it.", "Open it."]):
        alone = frames(pipe, picture, prompt=prompt, generator=seeded(4)[number])
        assert np.array_equal(alone[0], clips[number])
    for wrong in (0, True, 1.5):
        with pytest.raises(InputError, match="num_videos_per_prompt is"):
            frames(pipe, picture, num_videos_per_prompt=wrong)


def test_a_tuple_where_it_is_asked_for(pipe, picture):
    whole = pipe(picture, "Cut it.", generator=seeded(1), **FAST)
    video, area, soft = pipe(picture, "Cut it.", generator=seeded(1), **FAST, return_dict=False)
    assert np.array_equal(video, whole.frames)
    assert np.array_equal(area, whole.motion_area)
    assert np.array_equal(soft, whole.motion_area_soft)


def test_unknown_arguments_are_refused_with_the_nearest_name(pipe, picture):
    with pytest.raises(InputError, match="no argument 'guidance'; did you mean guidance_scale"):
        frames(pipe, picture, guidance=3.0)
    with pytest.raises(InputError, match="no argument 'foo'"):
        frames(pipe, picture, foo=1)


@pytest.fixture(scope="module")
def half(pipe, tmp_path_factory):
    """A folder that holds fp16 weight files only, as many on the hub do."""
    folder = tmp_path_factory.mktemp("half") / "model"
    pipe.save_pretrained(folder)
    for name in ("unet", "area_unet", "vae", "text_encoder"):
        part = copy.deepcopy(getattr(pipe, name))  # the model is other tests', too
        shutil.rmtree(folder / name)
        part.half().save_pretrained(folder / name, variant="fp16")
    return folder


def test_a_folder_of_fp16_files_loads_with_its_variant(half, handi, picture, tmp_path):
    with pytest.raises(ModelError, match=r"holds only fp16 weights; say --variant fp16"):
        HandiPipeline.from_pretrained(half)
    loaded = HandiPipeline.from_pretrained(half, variant="fp16")
    assert loaded.unet.dtype == torch.float32
    one = (
        "generate",
        "--image",
        picture,
        "--prompt",
        "Cut.",
        "--model",
        half,
        "--mask",
        "full",
        "--frames",
        2,
    )
    code, _, err = handi(*one, "--steps", 1, "--out", tmp_path / "a")
    assert (code, "say --variant fp16" in err) == (1, True)
    code, _, err = handi(*one, "--steps", 1, "--out", tmp_path / "a", "--variant", "fp16")
    assert code == 0, err


def test_a_variant_that_is_not_there_is_named(model_folder):
    with pytest.raises(ModelError, match="has no bf16 weights; leave --variant out"):
        HandiPipeline.from_pretrained(model_folder, variant="bf16")
