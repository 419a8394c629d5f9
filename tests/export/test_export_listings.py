"""`handi export` for baselines: each layout read by a reader written from its project's documentation."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import get_args, get_type_hints

import cv2
import numpy as np
import pytest
from helpers.small_footage import movie, simple_tools

from handi.commands.export import export
from handi.core.errors import InputError
from handi.core.images import write_image
from handi.core.video import probe_video, read_video, write_video
from handi.data.dataset import PreparedClips
from handi.export import FORMATS
from handi.export.clips import clips_of
from handi.world import render_clip

FRAMES, SIZE = 17, (64, 96)  # lengths and sides that every project takes
TEXTS = ['Cut the "big" carrot, slowly.', "Stir."]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """Two training clips and one of test; one with an enriched text that a CSV has to quote."""
    from handi.core.executors import executor
    from handi.data.prepare import write_shards
    from handi.data.sources import read_source
    from handi.data.stages import PrepareSettings

    folder = tmp_path_factory.mktemp("export")
    rows = [("a", "Cut.", TEXTS[0], "train"), ("b", TEXTS[1], None, "train"), ("c", "Pour.", None, "test")]
    for number, (name, *_) in enumerate(rows):
        movie(folder / f"{name}.mp4", size=SIZE, brightness=220 - 40 * number)
    lines = [{"video": f"{n}.mp4", "action": a, "description": d, "split": s} for n, a, d, s in rows]
    (folder / "list.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    settings = PrepareSettings(size=SIZE, frames=FRAMES, fps=8, pictures="png", camera="ignore")
    found = read_source("folder", folder / "list.jsonl")
    write_shards(found, folder / "out", settings, simple_tools, executor("serial", 1))
    return folder / "out"


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def animate_anything(folder: Path) -> list[tuple[str, Path]]:
    """README, "Using Captions": video_dir, and video_json with caption and video."""
    return [
        (item["caption"], folder / item["video"]) for item in json.loads((folder / "clips.json").read_text())
    ]


def dynamicrafter(folder: Path) -> list[tuple[str, Path]]:
    """WebVid: data_dir/videos/page_dir/videoid.mp4; rows with an empty field are dropped."""
    rows = [row for row in table(folder / "clips.csv") if all(row.values())]
    return [(row["name"], folder / "videos" / row["page_dir"] / f"{row['videoid']}.mp4") for row in rows]


def pia(folder: Path) -> list[tuple[str, Path]]:
    """WebVid10M: video_folder/videoid.mp4; the columns videoid, name and page_dir."""
    rows = table(folder / "clips.csv")
    assert all("page_dir" in row for row in rows)
    return [(row["name"], folder / "videos" / f"{row['videoid']}.mp4") for row in rows]


def opensora(folder: Path) -> list[tuple[str, Path]]:
    """docs/train.md: these columns are required at least."""
    rows = table(folder / "clips.csv")
    for row in rows:
        info = probe_video(row["path"])
        assert (int(row["num_frames"]), float(row["fps"])) == (len(read_video(row["path"])), info.fps)
        assert (int(row["height"]), int(row["width"])) == (info.height, info.width)
        assert float(row["aspect_ratio"]) == pytest.approx(info.height / info.width)
        assert int(row["resolution"]) == info.height * info.width
    return [(row["text"], Path(row["path"])) for row in rows]


def cogvideox(folder: Path) -> list[tuple[str, Path]]:
    """training/cogvideox, "Small format": a prompt on each line of one file, a path on each of the other."""
    prompts, videos = ((folder / f"{name}.txt").read_text().splitlines() for name in ("prompts", "videos"))
    return [(prompt, folder / video) for prompt, video in zip(prompts, videos, strict=True)]


def diffsynth(folder: Path) -> list[tuple[str, Path]]:
    """Model_Training.md: metadata.csv with the columns video and prompt, paths from the base path."""
    return [(row["prompt"], folder / row["video"]) for row in table(folder / "metadata.csv")]


def ltx_trainer(folder: Path) -> list[tuple[str, Path]]:
    """dataset-preparation.md: a JSON list of caption and media_path."""
    items = json.loads((folder / "dataset.json").read_text())
    return [(item["caption"], folder / item["media_path"]) for item in items]


READERS = {
    "animate-anything": animate_anything,
    "dynamicrafter": dynamicrafter,
    "pia": pia,
    "opensora": opensora,
    "cogvideox": cogvideox,
    "diffsynth": diffsynth,
    "ltx-trainer": ltx_trainer,
}


def test_every_format_has_a_reader_and_a_word_of_the_command():
    assert set(READERS) == set(FORMATS) - {"lerobot"}
    assert get_args(get_type_hints(export)["to"]) == FORMATS


@pytest.mark.parametrize("form", READERS)
def test_the_project_s_layout(form, handi, prepared, tmp_path):
    out = tmp_path / "out"
    code, _, err = handi("export", prepared, "--to", form, "--out", out)
    assert code == 0, err
    found = READERS[form](out / "train")
    assert [text for text, _ in found] == TEXTS
    clips = PreparedClips(prepared)
    for number, (_, path) in enumerate(found):
        frames = read_video(path)
        assert frames.shape == (FRAMES, *SIZE, 3)
        assert np.abs(frames.astype(int) - clips[number].frames).mean() < 4
    assert [text for text, _ in READERS[form](out / "test")] == ["Pour."]
    readme = (out / "README.md").read_text()
    assert "https://github.com/" in readme
    assert "```" in readme
    assert "{" not in readme.split("```")[1].replace("{}", "")


def test_motion_areas_go_along_to_animate_anything(handi, prepared, tmp_path):
    assert handi("export", prepared, "--to", "animate-anything", "--out", tmp_path / "out")[0] == 0
    items = json.loads((tmp_path / "out/train/clips.json").read_text())
    mask = cv2.imread(str(tmp_path / "out/train" / items[0]["mask"]), cv2.IMREAD_GRAYSCALE)
    np.testing.assert_array_equal(mask > 127, PreparedClips(prepared)[0].area)


def test_resume_keeps_videos_and_other_exports_are_refused(handi, prepared, tmp_path):
    out = tmp_path / "out"
    command = ("export", prepared, "--to", "pia", "--out", out)
    assert handi(*command)[0] == 0
    videos = sorted((out / "train/videos").iterdir())
    before = videos[1].stat().st_mtime_ns
    videos[0].unlink()
    assert handi(*command)[0] == 0
    assert videos[0].is_file()
    assert videos[1].stat().st_mtime_ns == before
    code, _, err = handi("export", prepared, "--to", "diffsynth", "--out", out)
    assert (code, "holds another export" in err) == (1, True)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").touch()
    code, _, err = handi("export", prepared, "--to", "pia", "--out", tmp_path / "full")
    assert (code, "holds other files" in err) == (1, True)


def test_clips_that_a_project_cannot_take(handi, prepared, tmp_path, monkeypatch):
    code, _, err = handi("export", tmp_path, "--to", "pia", "--out", tmp_path / "out")
    assert (code, "holds neither prepared nor generated clips" in err) == (1, True)
    monkeypatch.setattr("handi.export.LISTINGS", {"pia": _strict(chunk=5), "diffsynth": _strict(multiple=64)})
    for form, message in (
        ("pia", "prepare with --frames 16"),
        ("diffsynth", "multiples of 64, these are 64×96"),
    ):
        code, _, err = handi("export", prepared, "--to", form, "--out", tmp_path / "out")
        assert (code, message in err) == (1, True), err
    assert not (tmp_path / "out").exists()


def test_generated_clips_are_those_of_finished_runs(tmp_path):
    result = {"frames": 4, "height": 32, "width": 32, "fps": 8}
    for name, more in (("a", {}), ("b", {"description": {"text": "Cut it slowly."}}), ("a/clips/1", {})):
        movie(tmp_path / name / "video.mp4", frames=4, size=(32, 32))
        record = {"request": {"prompt": "Cut."}, "result": result, **more}
        (tmp_path / name / "run.json").write_text(json.dumps(record))
    found = clips_of(tmp_path)
    assert [(clip.id, clip.text) for clip in found.clips] == [("a", "Cut."), ("b", "Cut it slowly.")]
    assert (found.frames, found.size, found.fps) == (4, (32, 32), 8)
    assert [clip.text for clip in clips_of(tmp_path, "short").clips] == ["Cut.", "Cut."]
    other = {"request": {"prompt": "x"}, "result": result | {"fps": 4}}
    (tmp_path / "b/run.json").write_text(json.dumps(other))
    with pytest.raises(InputError, match="clips of 2 kinds"):
        clips_of(tmp_path)


def test_a_generated_clip_is_read_with_its_area_and_hands(tmp_path):
    world = render_clip(3, size=128)
    write_video(tmp_path / "video.mp4", world.frames[:2], fps=8)
    write_image(tmp_path / "motion_area.png", world.area_moved.astype(np.uint8) * 255)
    result = {"frames": 2, "height": 128, "width": 128, "fps": 8}
    (tmp_path / "run.json").write_text(json.dumps({"request": {"prompt": "Cut."}, "result": result}))
    content = clips_of(tmp_path).clips[0].read()
    assert content.frames.shape == (2, 128, 128, 3)
    np.testing.assert_array_equal(content.area, world.area_moved)
    assert content.visible[0].any()
    hand = content.joints[0].reshape(2, 21, 2)[content.visible[0]]
    truth = world.joints2d[0].reshape(2, 21, 2)[content.visible[0]]
    assert np.abs(hand - truth).mean() < 0.05


def _strict(**limits):
    from dataclasses import replace

    from handi.export.pia import FORMAT

    return replace(FORMAT, **limits)
