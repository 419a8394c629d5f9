"""The paper's whole way, by the commands of the docs, with a tiny model in AnimateAnything's layout."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import av
import numpy as np
import pytest
from helpers.bench_data import clip
from helpers.small_footage import read_hands

from handi import HandiPipeline
from handi.core.images import resize, write_image
from handi.data.prepare import ToolsMaker
from handi.models.fresh import random_checkpoint

SIZE = (64, 128)
TINY = ("--data.size", "64,128", "--data.frames", "4", "--data.workers", "0", "--optim.batch", "1",
        "--optim.accumulate", "1", "--run.steps", "2", "--run.precision", "no",
        "--run.checkpointing", "false", "--run.device", "cpu", "--run.log_every", "1",
        "--run.validate_every", "2", "--run.validation_clips", "1", "--run.sample_every", "0",
        "--run.save_every", "2")  # fmt: skip
QUICK = "steps: 1\narea_steps: 1\nguidance: 1.0\narea_guidance: 1.0\ndevice: cpu\n"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder to stand in, with footage as a user has it and the published model, of random weights."""
    home = tmp_path_factory.mktemp("chain")
    HandiPipeline.from_checkpoint(random_checkpoint(size=64)).save_pretrained(home / "aa")
    shutil.rmtree(home / "aa/area_unet")
    for name in ("handi.json", "prior_mask.safetensors"):
        (home / "aa" / name).unlink()
    (home / "footage").mkdir()
    for seed in (3, 4, 5):
        np.save(home / f"{seed}.npy", np.stack([resize(frame, *SIZE) for frame in clip(seed)]))
    return home


def as_video(home, frames, name):
    """Lossless, so that no encoder decides what is found in it."""
    with av.open(str(home / "footage" / f"{name}.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=8)
        stream.width, stream.height, stream.pix_fmt = SIZE[1], SIZE[0], "bgr0"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    (home / "footage" / f"{name}.txt").write_text("Cut the carrot.\nSlice the carrot thinly.\n")


def test_the_chain(handi, home, monkeypatch):
    monkeypatch.chdir(home)
    real = ToolsMaker.__call__
    # Υ itself is tested elsewhere; here every frame has a hand in its middle for the loss to read.
    monkeypatch.setattr(ToolsMaker, "__call__", lambda self, n: _with_hands(real(self, n)))
    for seed in (3, 4, 5):
        as_video(home, np.load(f"{seed}.npy"), seed)

    def run(*words):
        code, out, err = handi(*words)
        assert code == 0, f"{words}: {err[-2000:]}"
        return out, err

    run("prepare", "folder", "footage", "--out", "data/epic", "--size", "64x128", "--executor", "serial",
        "--pictures", "png", "--model", "aa", "--device", "cpu")  # fmt: skip
    run("report", "data/epic", "--validate")
    paths = ("--data.path", "data/epic", "--data.validation", "data/epic")
    run("train", "epic_stage1", "--model.init", "aa", *paths, *TINY)
    run("areas", "--model", "runs/epic_stage1/model", "--data", "data/epic", "--area-steps", 1,
        "--area-guidance", 1, "--device", "cpu")  # fmt: skip
    hand = ("--loss.hand.noise_limit", "1e9", "--loss.hand.frames", "1")
    run("train", "epic_stage2", "--model.init", "runs/epic_stage1/model", *paths, *TINY, *hand)
    log = [json.loads(line) for line in (home / "runs/epic_stage2/log.jsonl").read_text().split("\n") if line]
    assert any("hand" in row for row in log)
    assert any(row.get("kind") == "validate" for row in log)

    write_image(home / "context.png", np.load("3.npy")[0])
    run("generate", "--image", "context.png", "--prompt", "Cut.", "--model", "runs/epic_stage2/model",
        "--steps", 1, "--area-steps", 1, "--guidance", 1, "--area-guidance", 1, "--device", "cpu",
        "--out", "out/clips/3")  # fmt: skip
    true = home / "true"
    true.mkdir()
    np.save(true / "3.npy", np.stack([resize(frame, 72, 144) for frame in np.load("3.npy")]))  # another size
    run("evaluate", "--pred", "out/clips", "--ref", "true", "--metrics", "pixels", "--resamples", 20,
        "--device", "cpu", "--out", "out/scores")  # fmt: skip
    scores = json.loads((home / "out/scores/results.json").read_text())
    assert scores["n"] == 1
    assert any("resized to their true video" in note for note in scores["notes"])

    (home / "quick.yaml").write_text(f"kind: handi\nmodel: {home}/runs/epic_stage2/model\n{QUICK}")
    for table in ("table1", "table2", "table4"):
        more = {"table1": ("--runs", 1), "table2": ("--no-intensive", "--metrics", "pixels")}.get(table, ())
        code, _, err = handi("bench", table, "--data", "epic=data/epic", "--methods", "handi=quick.yaml",
                               "static", "--out", f"out/{table}", *more)  # fmt: skip
        if table == "table4" and code:  # without BLIP's weights: said in the first seconds
            assert "none of the metrics can be measured" in err
        else:
            assert code == 0, err[-2000:]
            assert (home / f"out/{table}/{table}.md").is_file()
    table = (home / "out/table2/table2.md").read_text()
    assert "generated from the enriched text, which 0 of 1 clips have" in table

    run("ablate", "epic_stage2", "--model.init", "runs/epic_stage1/model", *paths, *TINY, *hand, "--data",
        "epic=data/epic", "--masks", "true", "--hrl", "on", "--scopes", "full", "--metrics", "pixels",
        "--out", "out/ablation")  # fmt: skip
    assert "| GT | ✓ | here, n = 1 |" in (home / "out/ablation/table3.md").read_text()
    run("gallery", "--ref", "data/epic", "--methods", "out/table2/videos/epic/handi",
        "out/table2/videos/epic/static", "--results", "out/table2/results/epic",
        "--out", "page.html")  # fmt: skip
    assert (home / "page.html").stat().st_size > 10_000


def _with_hands(tools):
    return replace(tools, detect=read_hands)
