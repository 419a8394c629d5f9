"""Every shipped recipe opens what the commands of its header make: toy sets, in the folders that it names."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
from helpers.small_footage import movie, read_hands
from helpers.source_layouts import epic_row, fho_action, fho_video, write_ego4d, write_json, write_table
from helpers.tiny_backbones import save_base, tiny_ltx, tiny_wan

from handi import HandiPipeline
from handi.commands import app as cli
from handi.data.prepare import ToolsMaker
from handi.models.fresh import random_checkpoint
from handi.recipes import HOME, bundled, find_recipe
from handi.training import setup
from handi.training.recipe import load_recipe

TOY = {
    "prepare": "--size 64x112 --executor serial",
    "areas": "--area-steps 1 --area-guidance 1 --device cpu",
    "world": "--size 32 --workers 1",
}
BASES = {"Wan-AI/Wan2.2-TI2V-5B-Diffusers": tiny_wan, "Lightricks/LTX-Video": tiny_ltx}
ADAPTERS = [name for name in bundled() if name.startswith(("wan", "ltx"))]
FULL_SIZE = [name for name in bundled() if name.startswith(("epic", "ego4d"))]


def lego(name, group, actions):
    """One of LEGO's lists: a clip for each action."""
    said = {"image_0": "a.jpg", "image_1": "b.jpg"}
    clips = {
        id: {**said, "action": text, "llava_forecast_finetune": f"The person {text}."} for id, text in actions
    }
    write_json(name, {group: clips})


def write_footage(home):
    """EPIC-KITCHENS, ego4d_data and LEGO as they are downloaded, of one short video each."""
    rows = [epic_row(f"P01_01_{n}", 0.2, 2.2, "cut carrot") for n in range(3)]
    root = home / "EPIC-KITCHENS"
    write_table(root / "annotations/EPIC_100_train.csv", rows[:2])
    write_table(root / "annotations/EPIC_100_validation.csv", rows[2:])
    (root / "P01/videos").mkdir(parents=True)
    movie(root / "P01/videos/P01_01.mp4").rename(root / "P01/videos/P01_01.MP4")
    actions = [fho_action("#C C cuts the carrot", 6, 66, uid=f"u{n}") for n in range(3)]
    v2 = write_ego4d(home / "ego4d_data/v2", [fho_video("aa", actions)], {"aa": "train"})
    (v2 / "full_scale").mkdir()
    movie(v2 / "full_scale/aa.mp4")
    for split, ids in (("train", (0, 1)), ("val", (2,))):
        lego(home / f"LEGO/epickitchen_{split}.json", "P01_01", [(f"P01_01_{n}", "cut carrot") for n in ids])
        lego(home / f"LEGO/ego4d_{split}.json", "aa-0", [(f"u{n}", "#C C cuts the carrot") for n in ids])


def stand_in_hands(models, number, load=ToolsMaker.__call__):
    """`ToolsMaker.__call__` with hands that need no network."""
    return replace(load(models, number), detect=read_hands)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder to stand in: footage, models, what the headers' commands make of them, clips of the world."""
    home = tmp_path_factory.mktemp("home")
    write_footage(home)
    parts = random_checkpoint(size=64)
    for name in ("epic", "ego4d"):
        HandiPipeline.from_checkpoint(parts).save_pretrained(home / f"runs/{name}_stage1/model")
    published = home / "models/animate-anything"
    shutil.copytree(home / "runs/epic_stage1/model", published)
    shutil.rmtree(published / "area_unet")
    for name in ("handi.json", "prior_mask.safetensors"):
        (published / name).unlink()
    for name, make in BASES.items():
        save_base(make(networks=1), home / name)
    (home / "footage").mkdir()
    movie(home / "footage/cut.mp4").with_suffix(".txt").write_text("Cut the carrot.\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setattr(
            "handi.data.prepare.HandDetector", SimpleNamespace(from_pretrained=lambda *_, **__: None)
        )
        patch.setattr(ToolsMaker, "__call__", stand_in_hands)
        for command in commands():
            small = TOY[command.split()[1]]
            if any(base in command for base in BASES):
                small = "--size 64x96 --frames 9 --fps 5 --executor serial"
            patch.setattr(sys, "argv", [*shlex.split(command), *shlex.split(small)])
            with pytest.raises(SystemExit) as stop:
                cli.main()
            assert not stop.value.code, command
    return home


def commands():
    """What the headers say is to be run, each once, `prepare` before `areas`."""
    lines = [line for name in bundled() for line in (HOME / f"{name}.yaml").read_text().splitlines()]
    wanted = re.compile(r"#.*?\b(handi (prepare|areas|world) .*)")
    found = [re.sub(r"--clips \d+", "--clips 1", match[1]) for line in lines if (match := wanted.match(line))]
    return sorted(dict.fromkeys(found), key=lambda command: "areas" in command)


@pytest.mark.parametrize("name", bundled())
def test_a_recipe_opens_what_its_header_makes(name, home, monkeypatch):
    monkeypatch.chdir(home)
    small = {"data.size": "64,112"} if name in FULL_SIZE or name == "folder_lora" else {}
    if name in ADAPTERS:
        small = {"data.size": "64,96", "data.frames": "9", "data.fps": "5"}
    recipe = load_recipe(find_recipe(name), small)
    clips, held_out = setup.open_data(recipe)
    batch = setup.training_batches(recipe, clips).at(0, 1)
    assert (held_out is None) == (name in ("folder_lora", *ADAPTERS))
    assert batch.frames.shape[1] == recipe.data.frames
    if name not in FULL_SIZE:
        return
    assert batch.texts[0] in ("", "The person cut carrot.", "The person #C C cuts the carrot.")
    parts = setup.open_model(recipe, home)
    setup.check_areas(recipe, [clips, held_out.clips], parts)
    notes = setup.use_cached(recipe, [clips, held_out.clips], parts)
    assert clips.latents, notes
    assert held_out.clips.latents
    if recipe.data.mask.generated:
        (row,) = [clips[n] for n in range(len(clips)) if clips[n].name == batch.names[0]]
        assert (batch.mask[0].numpy() == row.generated).all()
    assert (batch.mask == 1).all() or not recipe.data.mask.full


def test_prepared_clips_have_the_part_of_their_area_that_is_each_frame_s(home, monkeypatch):
    monkeypatch.chdir(home)
    recipe = load_recipe(find_recipe("epic_stage1"), {"data.size": "64,112", "data.target": "per_frame"})
    clips, _ = setup.open_data(recipe)
    batch = setup.training_batches(recipe, clips).at(0, 2)
    assert batch.frame_areas.shape == (2, 16, 64, 112)
    assert (batch.frame_areas.amax(1) == batch.area).all()
    assert batch.frame_areas.any()
