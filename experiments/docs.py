"""Run the commands of README and docs, in order, each page in an empty folder of its own:

    python -m experiments.docs README.md docs/index.md
    python -m experiments.docs --list

What a reader brings is laid there first: a photo, two videos with their sentences, a table, and a small model
of AnimateAnything's layout with random weights. Numbers are made small (`SMALLER`), all else is as it stands.
`SKIPPED` says which commands are not run, and why. Without pages: README and every page of docs.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", *sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").glob("*.md")))
COMMAND = re.compile(r"(handi|make|pip|jupyter|accelerate|python) \S")
SKIPPED = {
    r"make (test|lint|docs|install|fuzz)|pip install": "CI and tests/test_packaging.py run it",
    r"make demo": "it makes an environment; CI's own begins so",
    r"python -m (benchmarks|experiments)": "minutes to hours; its figures stand beside it",
    r"python -m pytest": "CI runs all tests",
    r"handi app|tensorboard|trackio": "it stays until it is closed; tests/app has it in a browser",
    r"EPIC|epic|ego4d|lego": "the footage cannot be had without signing for it",
    r"egocentric": "the authors' samples are not handi's to pass on",
    r"[Ww]an|ltx|LTX": "a base of many GB; tests/models has small ones of the same classes",
    r"handi (push|weights get|convert-weights)": "it needs an account or a download; its tests have a server",
    r"accelerate|--gpus|--ray-address|--executor ray": "it needs several GPUs or a cluster",
    r"handi ablate|handi train mini|--preset mini": "hours; `make test` trains each stage for a few steps",
    r"--enrich|--from /mnt": "it needs a model, a server or a folder of the reader's",
    r"--poses": "the bundled model takes no poses; tests/generation has one that does",
    r"data/test|--results results": "its folders are those of other pages; tests/evaluation makes such ones",
    r"[…<>]|\.\.\.|\b(KIND|SOURCE|LIST|DIR|MODEL|RECIPE|NAME|OUT)\b": "a form, for the reader to fill in",
}
SMALLER = {
    r"--clips \d+": "--clips 2",
    r"--workers \d+": "--workers 1",
    r"(handi train .*)": r"\1 --minutes 0.05 --run.device cpu",
    r"\bFOLDER\b": "models/animate-anything",
}
SENTENCES = ("Cut the carrot.", "Pick up the knife.")
SIZE = 256  # px of the videos' sides


def main() -> None:
    """Run what was asked for; exit 1 if a command failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pages", nargs="*", default=PAGES)
    parser.add_argument("--list", action="store_true", help="only say what would be run, and what not")
    options = parser.parse_args()
    failures = 0
    with tempfile.TemporaryDirectory() as scratch:
        given = Path(scratch) / "given"
        if not options.list:
            lay_out(given)
        for page in options.pages:
            place = Path(scratch) / Path(page).stem
            for command in commands(ROOT / page):
                if (why := reason_to_skip(command)) is not None:
                    print(f"{page}: not run, {why}: {command}", flush=True)
                    continue
                if not options.list:
                    if not place.exists():
                        shutil.copytree(given, place)
                    failures += not run(page, command, place)
                else:
                    print(f"{page}: run: {smaller(command)}")
    sys.exit(failures > 0)


def commands(page: Path) -> Iterator[str]:
    """The commands of a page's code blocks, fenced or indented, in order; a line that goes on is one."""
    text = re.sub(r"\\\n\s*", "", page.read_text())
    fence = None
    for line in text.splitlines():
        if (mark := re.match(r" *```(\w*)", line)) is not None:
            fence = mark[1] if fence is None else None
            continue
        code = fence in ("", "bash", "sh") or (fence is None and line.startswith("    "))
        line = line.strip().removeprefix("$ ").removeprefix(".venv/bin/")
        if code and COMMAND.match(line):
            yield line


def reason_to_skip(command: str) -> str | None:
    """Why a command is not run, or None."""
    words = shlex.split(command, comments=True)
    line = smaller(" ".join(words))
    return next((why for pattern, why in SKIPPED.items() if re.search(pattern, line)), None)


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
    program = [sys.executable, "-m", "handi"] if words[0] == "handi" else [sys.executable]
    done = subprocess.run([*program, *words[1:]], cwd=place, capture_output=True, text=True)
    state = "ok" if done.returncode == 0 else f"FAILED ({done.returncode})"
    print(f"{page}: {state}, {time.perf_counter() - begin:.0f} s: {command}", flush=True)
    if done.returncode:
        print(f"    {done.stderr.strip()[-600:]}", flush=True)
    return done.returncode == 0


def lay_out(folder: Path) -> None:
    """What a reader brings to the pages."""
    from handi import HandiPipeline
    from handi.core.images import write_image
    from handi.core.video import write_video
    from handi.generation.requests import ClipRequest
    from handi.models.fresh import random_checkpoint
    from handi.world import render_clip

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
    shutil.copy(film, folder / "clip.mp4")
    with (folder / "demonstrations.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)
    lines = (json.dumps({"image": "kitchen.jpg", "prompt": sentence}) for sentence in SENTENCES)
    (folder / "actions.jsonl").write_text("\n".join(lines) + "\n")
    model = HandiPipeline.from_checkpoint(random_checkpoint(size=64))
    model.save_pretrained(folder / "models/animate-anything")


if __name__ == "__main__":
    main()
