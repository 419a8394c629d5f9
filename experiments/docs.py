"""Run the commands of README and docs, in order, each page in an empty folder of its own:

    python -m experiments.docs README.md docs/index.md
    python -m experiments.docs --list

What a reader brings is laid there first: a photo, two videos with their sentences, a table, small models with
random weights, and clips to measure. Numbers are made small (`SMALLER`), all else is as it stands. A comment
before a code block, which no reader of the page sees, says what is not run and why; with a command in
backticks it is about the lines that begin so, and without one about the whole block:

    <!-- not run: `handi app`: it stays until it is closed -->

Without pages: README, CONTRIBUTING and every page of docs. At the end stands what was run and what was not.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch

from handi import HandiPipeline
from handi.core.images import write_image
from handi.core.video import write_video
from handi.data.prepare import prepare_world
from handi.evaluation.folder import read_videos
from handi.export import export_clips
from handi.generation.requests import ClipRequest
from handi.models.fresh import from_preset, random_checkpoint
from handi.models.lite import LiteTransformer
from handi.models.pose_net import PoseNet
from handi.world import render_clip
from handi.world.rendering import WorldSettings, render_folder

ROOT = Path(__file__).parents[1]
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    *sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").glob("*.md")),
)
COMMAND = re.compile(r"(handi|make|pip|jupyter|accelerate|python) \S")
NOT_RUN = re.compile(r"<!-- not run: (?:`([^`]+)`: )?(.+?) -->")
SMALLER = {
    r"--clips \d+": "--clips 2",
    r"--workers \d+": "--workers 1",
    r"(handi train .*)": r"\1 --minutes 0.05 --run.device cpu",
    r"\bFOLDER\b": "models/animate-anything",
}
SENTENCES = ("Cut the carrot.", "Pick up the knife.")
SIZE = 256  # px of the videos' sides


@dataclass(frozen=True)
class Command:
    """A command of a page, as it stands there."""

    line: str
    not_run: str = ""  # the page's reason, "" for one that is run


def main() -> None:
    """Run what was asked for; exit 1 if a command failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pages", nargs="*", default=PAGES)
    parser.add_argument("--list", action="store_true", help="only say what would be run, and what not")
    parser.add_argument(
        "--keep", type=Path, help="work in this folder, keep it, and use again what was laid there"
    )
    options = parser.parse_args()
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    failures: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        work = (options.keep or Path(scratch)).resolve()
        given = work / "given"
        if not options.list and not given.exists():
            lay_out(work / "unfinished")
            (work / "unfinished").rename(given)
        for page in options.pages:
            place = work / Path(page).stem
            shutil.rmtree(place, ignore_errors=True)
            for command in commands(ROOT / page):
                if command.not_run:
                    print(f"{page}: not run, {command.not_run}: {command.line}", flush=True)
                    reasons[command.not_run] += 1
                elif options.list:
                    print(f"{page}: run: {smaller(command.line)}")
                else:
                    if not place.exists():
                        shutil.copytree(given, place)  # at a page's first command
                    if not run(page, command.line, place):
                        failures.append(f"{page}: {command.line}")
                counts["not run" if command.not_run else "run"] += 1
    print(f"\n{counts['run']} commands to run, {counts['not run']} not:")
    for reason, count in reasons.most_common():
        print(f"  {count:3d}  {reason}")
    print(*(f"FAILED: {line}" for line in failures), sep="\n")
    sys.exit(bool(failures))


def commands(page: Path) -> Iterator[Command]:
    """The commands of a page's code blocks, fenced or indented, in order; a line that goes on is one.

    A comment is about the next block alone; several may stand before one.
    """
    text = re.sub(r"\\\n\s*", "", page.read_text())
    fence, indented = None, False
    reasons: list[tuple[str, str]] = []  # (what a command begins with, why it is not run)
    for line in text.splitlines():
        if (mark := re.match(r" *```(\w*)", line)) is not None:
            fence = mark[1] if fence is None else None
            if fence is None:
                reasons = []
            continue
        if fence is None and (found := NOT_RUN.fullmatch(line.strip())) is not None:
            reasons.append((found[1] or "", found[2]))
            continue
        if indented and line.strip() and not line.startswith("    "):
            indented, reasons = False, []
        indented = indented or (fence is None and line.startswith("    "))
        code = fence in ("", "bash", "sh") or (fence is None and line.startswith("    "))
        line = line.strip().removeprefix("$ ").removeprefix(".venv/bin/")
        if code and COMMAND.match(line):
            yield Command(line, next((why for start, why in reasons if line.startswith(start)), ""))


def smaller(command: str) -> str:
    """The command with small numbers and without its comment."""
    command = re.sub(r"\s+#.*", "", command)
    for pattern, instead in SMALLER.items():
        command = re.sub(pattern, instead, command)
    return command


def run(page: str, command: str, place: Path) -> bool:
    """Run one command in a folder and say how it went."""
    begin = time.perf_counter()
    words = shlex.split(smaller(command))
    programs = {"handi": [sys.executable, "-m", "handi"], "python": [sys.executable]}
    path = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    done = subprocess.run(
        [*programs.get(words[0], words[:1]), *words[1:]],
        cwd=place,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    state = "ok" if done.returncode == 0 else f"FAILED ({done.returncode})"
    print(f"{page}: {state}, {time.perf_counter() - begin:.0f} s: {command}", flush=True)
    if done.returncode:
        print(f"    {done.stderr.strip()[-600:]}", flush=True)
    return done.returncode == 0


def lay_out(folder: Path) -> None:
    """What a reader brings to the pages."""
    lay_out_footage(folder)
    lay_out_models(folder)
    lay_out_clips(folder)
    code = re.search(r"```python\n([^`]*class Sharpness.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.S)
    assert code is not None
    (folder / "sharpness.py").write_text(code[1])


def lay_out_footage(folder: Path) -> None:
    """A photo with an area painted for it, and videos with their sentences: as files, a table, a batch."""
    photo = cv2.cvtColor(cv2.imread(str(ClipRequest("example", "").image_file)), cv2.COLOR_BGR2RGB)
    for name in ("kitchen.jpg", "cup.png"):
        write_image(folder / name, photo)
    area = np.zeros(photo.shape[:2], np.uint8)
    area[64:192, 64:192] = 255
    write_image(folder / "area.png", area)
    rows = []
    for seed, sentence in enumerate(SENTENCES):
        film = folder / f"footage/{sentence.lower().replace(' ', '_').strip('.')}.mp4"
        write_video(film, render_clip(seed, size=SIZE).frames, fps=8)
        film.with_suffix(".txt").write_text(f"{sentence}\n")
        rows.append({"video": film.relative_to(folder), "start": 0, "end": 1.5, "action": sentence})
    for name in ("clip.mp4", "my_hands.mp4"):
        shutil.copy(film, folder / name)
    with (folder / "demonstrations.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)
    lines = (json.dumps({"image": "kitchen.jpg", "prompt": sentence}) for sentence in SENTENCES)
    (folder / "actions.jsonl").write_text("\n".join(lines) + "\n")


def lay_out_models(folder: Path) -> None:
    """Small models with random weights: one of AnimateAnything's layout, one that knows poses."""
    model = HandiPipeline.from_checkpoint(random_checkpoint(size=64))
    model.save_pretrained(folder / "models/animate-anything")
    parts = from_preset("tiny", SENTENCES)
    torch.manual_seed(0)
    parts.vae.basis.fit(torch.rand(64, 3, 32, 32) * 2 - 1)
    config = {name: value for name, value in parts.unet.config.items() if not name.startswith("_")}
    unet = LiteTransformer(**{**config, "poses": True}).eval()
    pose_net = PoseNet(
        latent_channels=parts.vae.config.latent_channels,
        cross_attention_dim=parts.text_encoder.config.hidden_size,
        width=16, heads=2, depth=1, hidden=16,
    ).eval()  # fmt: skip
    torch.nn.init.constant_(pose_net.leave[-1].bias, 0.5)  # all hands are there
    HandiPipeline.from_checkpoint(replace(parts, unet=unet, pose_net=pose_net)).save_pretrained(
        folder / "runs/mini_stage2/model"
    )


def lay_out_clips(folder: Path) -> None:
    """True clips, videos of two methods to measure against them, and a LeRobot dataset."""
    render_folder(folder / "data/test", clips=2, seed=900_000, settings=WorldSettings())
    rng = np.random.default_rng(0)
    for id, entry in read_videos(folder / "data/test").items():
        frames = entry.frames()
        for name, noise in (("clips", 10), ("ours", 10), ("theirs", 30)):
            made = np.clip(frames + rng.normal(0, noise, frames.shape), 0, 255).astype(np.uint8)
            write_video(folder / f"out/{name}/{id}.mp4", made, fps=8)
    world = folder / "world"
    prepare_world([0, 1], WorldSettings(), world)
    export_clips(world, folder / "datasets/kitchen", "lerobot")
    shutil.rmtree(world)


if __name__ == "__main__":
    main()
