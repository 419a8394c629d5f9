"""`handi generate --prompt A --prompt B`: clips that go on from one another, as one video."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from handi.core.errors import InputError
from handi.core.images import read_image, write_image
from handi.core.video import read_video
from handi.generation.sequence import join

PROMPTS = ("Pick up the knife.", "Cut the carrot.", "Put down the knife.")
FRAMES = 3


@pytest.fixture(scope="module")
def sequence(picture, model_folder, tmp_path_factory):
    """A sequence of three clips with the small model, and what it gave."""
    from handi.generation.requests import ClipRequest, GenerationSettings
    from handi.generation.sequence import run_sequence

    out, lines = tmp_path_factory.mktemp("sequences") / "meal", []
    settings = GenerationSettings(str(model_folder), frames=FRAMES, steps=1, area_steps=1, save_frames=True)
    parts = run_sequence(ClipRequest(str(picture), ""), PROMPTS, settings, out, say=lines.append)
    return out, parts, lines


def test_each_clip_starts_from_the_last_frame_of_the_one_before(sequence):
    out, parts, lines = sequence
    for number, (before, after) in enumerate(pairwise(parts), start=1):
        assert np.array_equal(read_image(out / f"clips/{number}/last_frame.png"), before.frames[-1])
        assert np.array_equal(after.frames[0], before.frames[-1])
        assert not np.array_equal(after.frames[-1], after.frames[0])
    record = json.loads((out / "clips/2/run.json").read_text())
    assert record["request"]["prompt"] == PROMPTS[1]
    assert record["request"]["image"].endswith("clips/1/last_frame.png")
    assert [line for line in lines if line.startswith("clip ")] == [
        f"clip {number} of 3: {prompt}" for number, prompt in enumerate(PROMPTS, start=1)
    ]


def test_outside_all_areas_it_is_the_first_photo_to_the_bit(handi, picture, model_folder, tmp_path):
    mask = np.zeros((64, 96), np.uint8)
    mask[16:48, 24:72] = 255
    write_image(tmp_path / "mask.png", mask)
    code, _, err = handi(
        "generate", "--image", picture, "--prompt", PROMPTS[0], "--prompt", PROMPTS[1], "--model",
        model_folder, "--mask", tmp_path / "mask.png", "--save-frames", "--frames", FRAMES, "--steps", 1,
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert code == 0, err
    outside = read_image(tmp_path / "out/motion_area.png")[..., 0] == 0
    frames = [read_image(path) for path in sorted((tmp_path / "out/clips").glob("*/frames/*.png"), key=str)]
    assert len(frames) == 2 * FRAMES
    assert 0.3 < outside.mean() < 0.9
    assert all(np.array_equal(frame[outside], frames[0][outside]) for frame in frames)
    assert any((frame[~outside] != frames[0][~outside]).any() for frame in frames)


def test_one_video_of_all(sequence, picture):
    out, parts, _ = sequence
    frames = np.concatenate([parts[0].frames, *(part.frames[1:] for part in parts[1:])])
    assert len(frames) == 3 * FRAMES - 2
    shown = read_video(out / "video.mp4")
    assert shown.shape == frames.shape
    assert np.abs(shown.astype(int) - frames).mean() < 12
    record = json.loads((out / "run.json").read_text())
    assert record["request"]["image"] == str(picture)
    assert record["request"]["prompt"] == " ".join(PROMPTS)
    assert record["prompts"] == list(PROMPTS)
    areas = [read_image(out / f"clips/{number}/motion_area.png")[..., 0] for number in (1, 2, 3)]
    assert np.array_equal(read_image(out / "motion_area.png")[..., 0], np.max(areas, axis=0))


def test_one_row_of_the_gallery(sequence, handi, tmp_path):
    out, _, _ = sequence
    page = tmp_path / "page.html"
    code, _, err = handi("gallery", "--methods", out.parent, "--out", page)
    assert code == 0, err
    text = page.read_text()
    assert text.count('alt="video"') == 1
    assert "Pick up the knife. Cut the carrot. Put down the knife." in text


def test_clips_that_do_not_go_on_are_refused(sequence, tmp_path):
    _, parts, _ = sequence
    wrong = replace(parts[1], frames=255 - parts[1].frames)
    with pytest.raises(InputError, match="does not start from"):
        join([parts[0], wrong], tmp_path / "out", fps=8)
    assert not (tmp_path / "out").exists()


def test_one_movement_is_not_for_several_clips(handi, tmp_path):
    code, _, err = handi("generate", "--image", "example", "--prompt", "A.", "--prompt", "B.", "--poses", "x",
                         "--out", tmp_path / "out")  # fmt: skip
    assert code == 2
    assert "--poses is the movement of one clip" in err
