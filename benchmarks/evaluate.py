"""How fast is each metric on one CPU core, and does memory grow with the number of videos?

    python benchmarks/evaluate.py                         # the metrics that need no downloaded weights
    python benchmarks/evaluate.py --metrics fid fvd clip  # others, where their weights are
    python benchmarks/evaluate.py --memory                # peak memory at 8, 64 and 256 videos

Speed on a clip of the size that the paper's have, 16 frames of 256×448, in CPU time on one thread (other work
on the machine does not count). A video is both sides, generated and true, as in a first run; where the true
side lies in the cache it is half.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from estimates import table

from handi.bench.cache import FeatureCache
from handi.bench.evaluate import Settings, build_metrics, evaluate
from handi.images import resize, write_image
from handi.metrics.protocol import Figure, Pair, PairMetric
from handi.world import render_clip, write_clip

SEED, SIZE = 900_000, 128
HEIGHT, WIDTH, FRAMES = 256, 448, 16
COUNTS = (8, 64, 256)


def pairs(count: int) -> Iterator[Pair]:
    """World clips enlarged to the paper's size, and what a poor model would make of them."""
    clip = render_clip(SEED, size=SIZE)
    true = resize(clip.frames, HEIGHT, WIDTH)
    area = resize(clip.area_hull.astype(np.uint8), HEIGHT, WIDTH) > 0
    with tempfile.TemporaryDirectory() as folder:
        truth = write_clip(folder, clip, pictures="png")
        for n in range(count):
            noise = np.random.default_rng(n).normal(0, 6, true.shape)
            made = (true + noise).clip(0, 255).astype(np.uint8)
            made[0] = true[0]
            yield Pair(f"{n}", made[1:], true[1:], true[0], made[0], area, text=clip.text,
                       description=clip.enriched, truth=truth)  # fmt: skip


def speed(count: int, names: list[str]) -> str:
    """A row a metric: CPU seconds a video, videos a minute."""
    from handi.bench.sets import Sets
    from handi.bench.tally import Tally

    built = build_metrics(names, "cpu")
    rows: list[list[object]] = []
    for metric in built.metrics:
        cache, seconds = FeatureCache(None), []
        for pair in pairs(count):
            begin = time.process_time()
            if isinstance(metric, PairMetric):
                tally = Tally()
                tally.score(metric, pair, cache)
                assert tally.values, tally.missing
            else:
                with tempfile.TemporaryDirectory() as folder:
                    Sets(Path(folder), 1, [metric]).add([pair], cache)
            seconds.append(time.process_time() - begin)
        typical = float(np.median(seconds[1:]))  # the first one warms up
        rows.append([metric.name, f"{typical:.2f}", f"{60 / typical:.0f}"])
    rows += [[name, "–", why] for name, why in built.skipped.items()]
    return table(["metric", "CPU s a video", "videos a minute"], rows)


def peak(count: int) -> float:
    """Peak memory in MB of an evaluation of `count` videos of 64 px: motion, and a set as wide as FID's.

    The process's own memory, sampled; pages of mapped files are the system's to drop.
    """
    with tempfile.TemporaryDirectory() as name:
        ref, pred = Path(name) / "ref", Path(name) / "pred"
        ref.mkdir()
        pred.mkdir()
        rng = np.random.default_rng(0)
        for n in range(count):
            frames = rng.integers(0, 256, (FRAMES, 64, 64, 3), dtype=np.uint8)
            np.save(ref / f"{n:04}.npy", frames)
            np.save(pred / f"{n:04}.npy", frames[::-1])
            write_image(ref / "motion_area" / f"{n:04}.png", np.eye(64) > 0)
        built = build_metrics(("motion",), "cpu")
        built.sets.append(RowsDistance())
        highest, done = [0.0], threading.Event()

        def watch() -> None:
            while not done.wait(0.02):
                status = Path("/proc/self/status").read_text()
                highest[0] = max(highest[0], int(status.split("RssAnon:")[1].split()[0]) / 1024)

        watcher = threading.Thread(target=watch)
        watcher.start()
        evaluate(pred, ref, Path(name) / "out", Settings(resamples=200), built=built, say=lambda line: None)
        done.set()
        watcher.join()
    return highest[0]


class Rows:
    """An extractor as wide as Inception's features, and free."""

    key = "rows"

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        return frames.reshape(len(frames), -1)[:, :2048].astype(np.float32)


class RowsDistance:
    """A set metric over `Rows`: Fréchet distance's first term."""

    name = "rows"
    figures = (Figure("rows", "rows", "lower"),)
    needs = wants = ()
    scoped = True
    preprocessing = "none"
    extractor = Rows()
    enough = 0

    def __init__(self) -> None:
        self.weights: dict[str, str] = {}

    def distance(self, generated: np.ndarray, reference: np.ndarray) -> float:
        means = [
            sum(
                np.asarray(side[first : first + 1024]).sum(0, dtype=np.float64)
                for first in range(0, len(side), 1024)
            )
            / len(side)
            for side in (generated, reference)
        ]
        return float(np.square(means[0] - means[1]).sum())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=int, default=3)
    parser.add_argument("--metrics", nargs="*", default=["hand", "pixels", "motion", "world"])
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)  # one count, in a process of its own
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.peak:
        print(peak(options.peak))
    elif options.memory:
        for count in COUNTS:
            run = [sys.executable, __file__, "--peak", str(count)]
            megabytes = float(subprocess.run(run, check=True, capture_output=True, text=True).stdout)
            print(f"{count} videos: {megabytes:.0f} MB at most", flush=True)
    else:
        print(speed(options.videos, options.metrics))


if __name__ == "__main__":
    main()
