"""`handi generate` as its user runs it: outputs, batches, resume, and every kind of bad input."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from handi.core.images import read_image
from handi.core.video import probe_video, read_video

FAST = ("--frames", 3, "--steps", 1, "--area-steps", 1)
FILES = {"video.mp4", "motion_area.png", "motion_area_soft.png", "motion_flow.png", "last_frame.png",
         "run.json"}  # fmt: skip


@pytest.fixture
def one(handi, picture, model_folder, tmp_path):
    """handi generate for one clip with the small model; changes come as keyword arguments."""

    def run(*extra, image=picture, prompt="Cut the carrot.", out=tmp_path / "out", model=model_folder):
        code, _, err = handi(
            "generate", "--image", image, "--prompt", prompt, "--model", model, "--out", out, *FAST, *extra
        )
        return code, err

    return run


def test_one_clip(one, tmp_path, picture):
    code, err = one("--save-frames", "--seed", 4)
    assert code == 0, err
    out = tmp_path / "out"
    assert {p.name for p in out.iterdir()} == FILES | {"frames"}
    info = probe_video(out / "video.mp4")
    assert (info.height, info.width, info.frames, info.fps) == (56, 80, 3, 8.0)
    frames = [read_image(out / "frames" / f"{i:04d}.png") for i in range(3)]
    assert np.abs(read_video(out / "video.mp4").astype(int) - np.stack(frames)).mean() < 12
    for name in ("motion_area", "motion_area_soft", "motion_flow"):
        assert read_image(out / f"{name}.png").shape == (56, 80, 3)
    assert set(np.unique(read_image(out / "motion_area.png"))) <= {0, 255}
    record = json.loads((out / "run.json").read_text())
    assert record["request"]["prompt"] == "Cut the carrot."
    assert record["seed"] == 4
    assert len(record["model"]["sha256"]) == 64
    assert record["model"]["weights"] == "random"
    assert set(record["seconds"]) == {"load", "encode", "stage1", "stage2", "decode", "write"}
    assert record["versions"]["torch"]
    assert f"{picture}: 96×64 is resized to 80×56" in record["notes"]
    assert "its pixels mean nothing" in err
    assert "stage 1, motion area: 1 of 1 steps" in err


def test_same_seed_same_file_other_seed_other_file(one, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert one("--seed", seed, "--save-frames", out=tmp_path / name)[0] == 0
    last = [read_image(tmp_path / name / "frames/0002.png") for name in "abc"]
    assert np.array_equal(last[0], last[1])
    assert not np.array_equal(last[0], last[2])


def test_the_saved_area_can_be_passed_in_again(one, tmp_path):
    assert one()[0] == 0
    code, err = one("--mask", tmp_path / "out/motion_area.png", out=tmp_path / "again")
    assert code == 0, err
    assert np.array_equal(
        read_image(tmp_path / "out/motion_area.png"), read_image(tmp_path / "again/motion_area.png")
    )
    assert "stage1" not in json.loads((tmp_path / "again/run.json").read_text())["seconds"]


def test_the_example_and_the_random_model_work_out_of_the_box(handi, tmp_path):
    code, _, err = handi(
        "generate", "--image", "example", "--prompt", "Cut the carrot.", "--out", tmp_path / "o", *FAST
    )
    assert code == 0, err
    assert read_video(tmp_path / "o/video.mp4").shape == (3, 128, 128, 3)


def test_background_choice(one, tmp_path):
    mask = tmp_path / "mask.png"
    Image.fromarray(np.pad(np.full((64, 40), 255, np.uint8), ((0, 0), (0, 56)))).save(mask)
    for choice in ("restore", "generate"):
        code, err = one("--mask", mask, "--background", choice, "--save-frames", out=tmp_path / choice)
        assert code == 0, err
    restored, generated = (read_image(tmp_path / c / "frames/0002.png") for c in ("restore", "generate"))
    first = read_image(tmp_path / "restore/frames/0000.png")
    assert np.array_equal(restored[:, 40:], first[:, 40:])
    assert not np.array_equal(generated[:, 40:], first[:, 40:])


# --------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (("--frames", 0), "a clip of 0 frames"),
        (("--frames", 1), "a clip of 1 frames"),
        (("--steps", -4), "-4 denoising steps"),
        (("--guidance", -1), "guidance -1.0"),
        (("--size", "12x"), "--size '12x'"),
        (("--size", "60x64"), "multiples of 8"),
        (("--prompt", ""), "the prompt is empty"),
        (("--model", "/no/such/folder"), "no such model folder"),
        (("--device", "tpu"), "no device 'tpu'"),
        (("--image", "/no/such.png"), "no such picture"),
        (("--mask", "/no/such.png"), "no such picture"),
    ],
)
def test_bad_arguments_are_one_clear_line(one, tmp_path, extra, message):
    code, err = one(*extra)
    assert code == 1
    assert message in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["folder", "empty", "text", "cut", "video", "tiny", "long"])
def test_bad_pictures_are_one_clear_line(one, tmp_path, kind):
    path = tmp_path / ("a.mp4" if kind == "video" else "a.png")
    if kind == "folder":
        path.mkdir()
    elif kind in ("empty", "video"):
        path.write_bytes(b"\0" * (100 if kind == "video" else 0))
    elif kind == "text":
        path.write_text("hello")
    else:
        size = {"cut": (200, 200), "tiny": (1, 1), "long": (600, 60)}[kind]
        Image.effect_noise(size, 50).save(path)
        if kind == "cut":
            path.write_bytes(path.read_bytes()[:9000])
    code, err = one(image=path)
    assert (code, err.count("\n")) == (1, 1)
    assert str(path) in err
    assert not (tmp_path / "out").exists()


def test_a_12000_by_9000_picture(one, tmp_path):
    Image.new("RGB", (12000, 9000), (90, 80, 70)).save(tmp_path / "huge.jpg")
    code, err = one(image=tmp_path / "huge.jpg")
    assert code == 0, err
    assert "12000×9000 is resized to" in err


@pytest.mark.parametrize(("kind", "code"), [("empty", 1), ("colour", 0), ("other size", 0)])
def test_masks(one, tmp_path, kind, code):
    mask = np.zeros((64, 96, 3), np.uint8)
    if kind != "empty":
        mask[10:40, 10:60] = (200, 0, 0)
    if kind == "other size":
        mask = mask[::2, ::2]
    Image.fromarray(mask).save(tmp_path / "mask.png")
    got, err = one("--mask", tmp_path / "mask.png")
    assert got == code, err
    if kind == "empty":
        assert "the mask is empty" in err
        return
    area = read_image(tmp_path / "out/motion_area.png")[..., 0] > 0
    assert area.mean() == pytest.approx(30 * 50 / (64 * 96), abs=0.05)
    assert ("the mask is resized" in err) == (kind == "other size")


def test_a_long_prompt_is_cut_and_said(one):
    code, err = one(prompt="cut the carrot " * 40)
    assert code == 0
    assert "the first 77 are read" in err


@pytest.mark.parametrize("what", ["file in the way", "cut weights", "no text encoder"])
def test_bad_folders_are_one_clear_line(one, tmp_path, model_folder, what):
    import shutil

    model, out = shutil.copytree(model_folder, tmp_path / "model"), tmp_path / "out"
    if what == "file in the way":
        out.write_text("precious")
    elif what == "cut weights":
        weights = model / "unet/diffusion_pytorch_model.safetensors"
        weights.write_bytes(weights.read_bytes()[:5000])
    else:
        shutil.rmtree(model / "text_encoder")
    code, err = one(model=model, out=out)
    assert (code, err.count("\n")) == (1, 1)
    assert {
        "file in the way": "choose another folder",
        "cut weights": "/unet",
        "no text encoder": "text_encoder",
    }[what] in err
    assert out.read_text() == "precious" if what == "file in the way" else not out.exists()


def test_a_full_disk_leaves_nothing(picture, model_folder, tmp_path):
    """A limit on file size stands in for the disk: the first file over it cannot be written."""
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500));"
        "from handi.commands.app import main; main()"
    )
    arguments = ["generate", "--image", picture, "--prompt", "Cut.", "--model", model_folder]
    arguments += ["--out", tmp_path / "out", *FAST]
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "free some space" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(one, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    code, err = one(out=tmp_path / "locked" / "out")
    assert (code, err.count("\n")) == (1, 1)
    assert "may write to" in err


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("generate",),
        ("generate", "--out", "x"),
        ("generate", "--out", "x", "--image", "a.png"),
        ("generate", "--out", "x", "--batch", "a.jsonl", "--prompt", "Cut."),
        ("generate", "--out", "x", "--image", "a.png", "--prompt", "Cut.", "--steps", "many"),
        ("generate", "--out", "x", "--image", "a.png", "--prompt", "Cut.", "--no-such-option"),
        ("dance",),
    ],
)
def test_wrong_usage_exits_with_2(handi, arguments):
    code, _, err = handi(*arguments)
    assert code == 2
    assert err


def test_help_teaches(handi):
    code, out, _ = handi("generate", "--help")
    assert code == 0
    assert 'handi generate --image kitchen.jpg --prompt "Julienne carrot." --out out/carrot' in out
    assert "(default: the model's own)" in out


def test_debug_shows_the_traceback(picture, tmp_path):
    arguments = [
        "generate",
        "--image",
        picture,
        "--prompt",
        "Cut.",
        "--model",
        "/no",
        "--out",
        tmp_path / "o",
    ]
    for extra, expected in (([], False), (["--debug"], True)):
        done = subprocess.run(
            [sys.executable, "-m", "handi", *map(str, arguments), *extra],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert ("Traceback" in done.stderr) == expected


# ------------------------------------------------------------------------------------------- batch


@pytest.fixture
def batch(handi, picture, model_folder, tmp_path):
    """handi generate --batch with the given lines."""

    def run(lines, *extra):
        path = tmp_path / "clips.jsonl"
        path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
        arguments = ("--batch", path, "--model", model_folder, "--out", tmp_path / "out", *FAST, *extra)
        code, _, err = handi("generate", *arguments)
        return code, err

    return run


def lines_of(picture, count=3):
    return [
        {"image": str(picture), "prompt": f"Cut carrot {i}.", "seed": i, "id": f"c{i}"} for i in range(count)
    ]


def test_batch_makes_the_same_clips_as_one_by_one(batch, one, picture, tmp_path):
    code, err = batch(lines_of(picture), "--batch-size", 2, "--save-frames")
    assert code == 0, err
    assert "3 of 3 clips are in" in err
    code, _ = one("--seed", 1, "--save-frames", prompt="Cut carrot 1.", out=tmp_path / "alone")
    assert code == 0
    frames = [read_image(tmp_path / name / "frames/0002.png").astype(int) for name in ("out/c1", "alone")]
    assert np.abs(frames[0] - frames[1]).max() <= 1


def test_bad_lines_are_named_and_the_others_run(batch, picture, tmp_path):
    good = lines_of(picture, 2)
    lines = [
        good[0],
        "{not json",
        "",
        {"image": str(picture)},
        {"image": str(picture), "promt": "Cut."},
        {"image": str(picture), "prompt": "Cut.", "id": "../up"},
        {"image": str(picture), "prompt": "Cut.", "id": "c0"},
        {"image": str(picture), "prompt": "Cut.", "seed": "one"},
        {"image": "missing.png", "prompt": "Cut.", "id": "gone"},
        good[1],
    ]
    code, err = batch(lines, "--batch-size", 4)
    assert code == 1
    for expected in (
        "line 2: is not JSON",
        "line 4: has no prompt",
        "line 5: promt is not an entry; did you mean prompt?",
        "line 6: the id '../up'",
        "line 7: the id 'c0' was used before",
        "line 8: seed is 'one'",
        "missing.png: no such picture",
        "2 of 9 clips are in",
    ):
        assert expected in err
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"c0", "c1", "ledger.jsonl"}
    ledger = [json.loads(line) for line in (tmp_path / "out/ledger.jsonl").read_text().splitlines()]
    assert [(line["id"], line["status"]) for line in ledger] == [
        ("c0", "made"), ("gone", "failed"), ("c1", "made")
    ]  # fmt: skip
    assert "no such picture" in ledger[1]["reason"]


@pytest.mark.timeout(900)  # of a busy machine: each worker loads torch
def test_two_processes_make_the_same_clips(batch, picture, tmp_path):
    lines = lines_of(picture)
    for workers in (1, 2):
        code, err = batch(lines, "--save-frames", "--workers", workers, "--out", tmp_path / str(workers))
        assert code == 0, err
        assert ("generate: 3 of 3 clips" in err) == (workers == 2)
    for name in ("frames/0002.png", "motion_area_soft.png", "video.mp4"):
        for clip in ("c0", "c1", "c2"):
            one, two = (tmp_path / str(workers) / clip / name for workers in (1, 2))
            assert one.read_bytes() == two.read_bytes(), (clip, name)
    code, err = batch(lines, "--save-frames", "--workers", 2, "--out", tmp_path / "1")
    assert "3 of 3 are finished already" in err


def test_a_rerun_goes_on_where_it_stopped(batch, picture, tmp_path):
    lines = lines_of(picture)
    assert batch(lines[:2])[0] == 0
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("run.json")}
    (tmp_path / "out/c1/run.json").unlink()  # as if stopped before the last file
    code, err = batch(lines)
    assert code == 0
    assert "1 of 3 are finished already" in err
    for path, time in times.items():
        assert (path.stat().st_mtime_ns == time) == (path.parent.name == "c0")
    code, err = batch(lines, "--guidance", 2)  # other settings: another result
    assert code == 0
    assert "finished already" not in err


def test_batch_file_that_cannot_be_read(handi, tmp_path):
    code, _, err = handi("generate", "--batch", tmp_path / "no.jsonl", "--out", tmp_path / "out")
    assert (code, err.count("\n")) == (1, 1)
    (tmp_path / "latin.jsonl").write_bytes(b'{"prompt": "caf\xe9"}')
    code, _, err = handi("generate", "--batch", tmp_path / "latin.jsonl", "--out", tmp_path / "out")
    assert (code, err.count("\n")) == (1, 1)
    assert "UTF-8" in err


def test_relative_paths_count_from_the_file(batch, picture, tmp_path):
    (tmp_path / "scene.png").write_bytes(picture.read_bytes())
    assert batch([{"image": "scene.png", "prompt": "Cut."}])[0] == 0
    assert (tmp_path / "out/00001/video.mp4").exists()
