"""`handi generate --prompt A --prompt B`: clips that go on from one another, as one video."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest

from handi.core.errors import InputError
from handi.core.images import read_image, write_image
from handi.core.video import read_video
from handi.generation.requests import ClipRequest, GenerationSettings
from handi.generation.run import Runner
from handi.generation.sequence import Part, join, run_sequence

PROMPTS = ("Pick up the knife.", "Cut the carrot.", "Put down the knife.")
FRAMES = 3


@pytest.fixture(scope="module")
def settings(model_folder):
    return GenerationSettings(str(model_folder), frames=FRAMES, steps=1, area_steps=1, save_frames=True)


@pytest.fixture(scope="module")
def sequence(picture, settings, tmp_path_factory):
    """A sequence of three clips with the small model: its folder, their frames, what was said."""
    out, lines = tmp_path_factory.mktemp("sequences") / "meal", []
    run_sequence(ClipRequest(str(picture), ""), PROMPTS, settings, out, say=lines.append)
    return out, [frames_of(out / f"clips/{number}") for number in (1, 2, 3)], lines


def frames_of(clip) -> np.ndarray:
    return np.stack([read_image(path) for path in sorted((clip / "frames").iterdir())])


def everything(folder) -> dict[str, bytes]:
    """All files but the records, in which the seconds differ."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "run.json")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_each_clip_starts_from_the_last_frame_of_the_one_before(sequence):
    out, clips, lines = sequence
    for number, (before, after) in enumerate(pairwise(clips), start=1):
        assert np.array_equal(read_image(out / f"clips/{number}/last_frame.png"), before[-1])
        assert np.array_equal(after[0], before[-1])
        assert not np.array_equal(after[-1], after[0])
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
    out, clips, _ = sequence
    frames = np.concatenate([clips[0], *(clip[1:] for clip in clips[1:])])
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


def test_clips_that_do_not_go_on_are_refused(sequence, settings, tmp_path):
    _, clips, _ = sequence
    area = np.ones(clips[0].shape[1:3], bool)
    parts = [
        Part(ClipRequest("", PROMPTS[0]), clips[0], area),
        Part(ClipRequest("", "B."), 255 - clips[1], area),
    ]
    with pytest.raises(InputError, match="does not start from"):
        join(parts, settings, tmp_path / "out", fps=8)
    assert not (tmp_path / "out").exists()


def test_a_finished_one_is_left_as_it_is(sequence, picture, settings, monkeypatch):
    out, _, _ = sequence
    monkeypatch.setattr(Runner, "__init__", lambda *_: pytest.fail("a model is loaded"))
    lines = list[str]()
    run_sequence(ClipRequest(str(picture), ""), PROMPTS, settings, out, say=lines.append)
    assert lines == [f"{out} is finished already"]


def test_stopped_it_resumes_after_the_last_whole_clip(sequence, picture, settings, tmp_path, monkeypatch):
    whole, _, _ = sequence
    out, first, run = tmp_path / "meal", ClipRequest(str(picture), ""), Runner.run

    def stop_at_3(self, requests, folders, *rest):
        if requests[0].id == "3":
            raise KeyboardInterrupt
        return run(self, requests, folders, *rest)

    monkeypatch.setattr(Runner, "run", stop_at_3)
    with pytest.raises(KeyboardInterrupt):
        run_sequence(first, PROMPTS, settings, out, say=lambda _: None)
    monkeypatch.setattr(Runner, "run", run)
    assert not (out / "run.json").exists()
    lines = list[str]()
    run_sequence(first, PROMPTS, settings, out, say=lines.append)
    assert [line for line in lines if line.startswith("clip ")] == [
        "clip 1 of 3 is finished already", "clip 2 of 3 is finished already", f"clip 3 of 3: {PROMPTS[2]}",
    ]  # fmt: skip
    assert everything(out) == everything(whole)


def test_a_clip_that_does_not_go_on_from_the_one_before_is_made_anew(picture, settings, tmp_path):
    out, first, lines = tmp_path / "meal", ClipRequest(str(picture), ""), list[str]()
    run_sequence(first, PROMPTS[:2], settings, out, say=lambda _: None)
    before = everything(out)
    # As a run that was killed leaves it, in which another first clip had stood here once.
    (out / "run.json").unlink()
    for number, change in ((1, 0), (2, 255)):
        frames = frames_of(out / f"clips/{number}") ^ np.uint8(change)
        area = read_image(out / f"clips/{number}/motion_area.png")[..., 0] > 0
        Part(first, frames, area).keep(out / f"clips/{number}.npz")
    run_sequence(first, PROMPTS[:2], settings, out, say=lines.append)
    assert [line for line in lines if line.startswith("clip ")] == [
        "clip 1 of 2 is finished already", f"clip 2 of 2: {PROMPTS[1]}",
    ]  # fmt: skip
    assert everything(out) == before


def test_a_batch_says_that_a_line_is_one_clip(handi, tmp_path):
    line = {"image": "example", "prompt": ["A.", "B."]}
    (tmp_path / "batch.jsonl").write_text(json.dumps(line) + "\n")
    code, _, err = handi("generate", "--batch", tmp_path / "batch.jsonl", "--out", tmp_path / "out")
    assert code == 1
    assert "for a sequence give --prompt several times" in err


def test_one_movement_is_not_for_several_clips(handi, tmp_path):
    code, _, err = handi("generate", "--image", "example", "--prompt", "A.", "--prompt", "B.", "--poses", "x",
                         "--out", tmp_path / "out")  # fmt: skip
    assert code == 2
    assert "--poses is the movement of one clip" in err
