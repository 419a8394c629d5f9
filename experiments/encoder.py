"""Whether the same frames give the same file: many encodings under load, by settings of the encoder.

    .venv/bin/python -m experiments.encoder --repeats 1000

Two busy processes run beside it, the number of threads that the machine seems to have changes from repeat to
repeat, and so does what freed memory holds. A row says how many different files the same 16 frames gave.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import random
import tempfile
import time
from pathlib import Path

import numpy as np

from handi.core import video
from handi.world import render_clip

QUALITY = {"crf": "14", "preset": "medium"}
SETTINGS = {
    "medium": {},
    "medium, threads=1": {"threads": "1"},
    "medium, threads=1, mbtree=0": {"x264-params": "threads=1:mbtree=0"},
    "medium, threads=1, asm=0": {"x264-params": "threads=1:asm=0"},
    "medium, threads=1, rc-lookahead=0": {"x264-params": "threads=1:rc-lookahead=0"},
    "veryfast, threads=1, mbtree=0": {"preset": "veryfast", "x264-params": "threads=1:mbtree=0"},
    "shipped": video.ENCODER,
}
SIZES = ((64, 64), (128, 128), (144, 192), (56, 80), (256, 448))  # H, W px


def busy() -> None:
    """A core's worth of work, for ever."""
    while True:
        np.linalg.svd(np.random.default_rng().random((64, 64)))


def stir(chance: random.Random) -> None:
    """Leave other numbers in freed memory."""
    for _ in range(8):
        np.full(chance.randrange(1 << 10, 1 << 20), chance.randrange(256), np.uint8)


def measure(
    frames: np.ndarray, settings: dict[str, str], repeats: int, chance: random.Random
) -> tuple[int, int, float]:
    """(different files, bytes of the first, ms each)."""
    found: dict[str, int] = {}
    seconds = 0.0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        for _ in range(repeats):
            stir(chance)
            fixed = "threads" in settings or "threads=" in settings.get("x264-params", "")
            threads = {} if fixed else {"threads": str(chance.choice((1, 2, 3, 6)))}
            video.ENCODER = QUALITY | threads | settings
            begin = time.perf_counter()
            video.write_video(path, frames)
            seconds += time.perf_counter() - begin
            found.setdefault(hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size)
    return len(found), next(iter(found.values())), 1000 * seconds / repeats


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--only", nargs="*", choices=SETTINGS, help="settings to measure")
    parser.add_argument("--idle", action="store_true", help="no busy processes beside it")
    arguments = parser.parse_args()
    load = [multiprocessing.Process(target=busy, daemon=True) for _ in range(0 if arguments.idle else 2)]
    for process in load:
        process.start()
    clip = render_clip(7, size=448).frames
    chance = random.Random(0)
    print("| settings | size | different files | bytes | ms per clip |\n|---|---|---|---|---|")
    for name in arguments.only or SETTINGS:
        for height, width in SIZES:
            frames = np.stack([video.resize(frame[: height * 448 // width], height, width) for frame in clip])
            files, size, ms = measure(frames, SETTINGS[name], arguments.repeats, chance)
            print(f"| {name} | {width}×{height} | {files} | {size:,} | {ms:.1f} |", flush=True)
    for process in load:
        process.terminate()


if __name__ == "__main__":
    main()
