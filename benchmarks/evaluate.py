"""How fast is each metric on one CPU core, and does memory grow with the number of videos?

    python -m benchmarks.evaluate                                  # what needs no downloaded weights
    python -m benchmarks.evaluate --metrics fid fvd clip           # others, where their weights are
    python -m benchmarks.evaluate --random --metrics fid fvd clip  # or with random ones of the same layout
    python -m benchmarks.evaluate --memory                         # peak memory at 64, 256 and 512 videos

Speed on a clip of the size that the paper's have, 16 frames of 256×448, in CPU time on one thread (other work
on the machine still slows it by the caches and the memory that the cores share). A video is both sides,
generated and true, as in a first run; where the true side lies in the cache it is half. The first of several
videos warms up and is not counted; of a single one, its own time stands.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.random_weights import put_random_weights
from experiments.estimates import table
from handi.core.images import resize, write_image
from handi.evaluation.metrics import distances
from handi.evaluation.metrics.frechet import kernel_distance
from handi.evaluation.metrics.protocol import Metric, Pair, PairMetric, SetMetric
from handi.evaluation.run import EvaluationConfig, evaluate
from handi.evaluation.scoring import LoadedMetrics, load_metrics
from handi.world import render_clip, write_clip

SEED, SIZE = 900_000, 128
HEIGHT, WIDTH, FRAMES = 256, 448, 16
COUNTS = (64, 256, 512)


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


def speed(metric: Metric, count: int) -> list[object]:
    """A metric's row: CPU seconds per video (median, range), videos per minute, number of videos."""
    seconds = []
    for pair in pairs(count):
        begin = time.process_time()
        if isinstance(metric, PairMetric):
            assert metric.scores(pair, lambda extractor, frames: extractor(frames))
        else:
            assert isinstance(metric, SetMetric)
            for frames in (pair.reference, pair.generated):
                assert frames is not None
                assert np.isfinite(metric.extractor(frames)).all()
        seconds.append(time.process_time() - begin)
    counted = seconds[1:] or seconds
    typical, spread = float(np.median(counted)), f"{min(counted):.2f} to {max(counted):.2f}"
    return [metric.name, f"{typical:.2f}", spread, f"{60 / typical:.3g}", len(counted)]


def speeds(names: list[str], count: int, random: bool) -> str:
    """A row a metric; one is loaded after the other, as all networks need much memory."""
    rows: list[list[object]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            if random:
                put_random_weights(name, Path(folder))
            loaded = load_metrics([name], "cpu")
            for metric in loaded.metrics:
                rows.append(speed(metric, count))
                print(*rows[-1], file=sys.stderr, flush=True)
            rows += [[name, "–", "", why, ""] for name, why in loaded.skipped.items()]
    return table(["metric", "CPU s a video", "range", "videos a minute", "n"], rows)


def peak(count: int) -> float:
    """Peak memory in MB of an evaluation of `count` videos of 64 px: motion, FID, KID, FVD and KVD.

    The distances are the real ones, on rows as wide as Inception's and I3D's that cost no network; KID and
    KVD take 2 subsets instead of 100, one after the other either way. The process's own memory, sampled;
    pages of mapped files are the system's to drop.
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
        metrics = dict(load_metrics(("motion",), "cpu").by_name)
        for kind, rows in (
            (distances.Fid, Rows(FRAMES - 1, 2048)),
            (distances.Kid, Rows(FRAMES - 1, 2048)),
            (distances.Fvd, Rows(1, 400)),
            (distances.Kvd, Rows(1, 400)),
        ):
            metric = object.__new__(kind)  # without weights to read
            metric.extractor, metric.weights = rows, {}  # type: ignore[assignment]
            if not metric.enough:
                metric.distance = partial(kernel_distance, subsets=2)  # type: ignore[method-assign]
            metrics[metric.name] = metric
        highest, done = [0.0], threading.Event()

        def watch() -> None:
            while not done.wait(0.02):
                status = Path("/proc/self/status").read_text()
                highest[0] = max(highest[0], int(status.split("RssAnon:")[1].split()[0]) / 1024)

        watcher = threading.Thread(target=watch)
        watcher.start()
        found = evaluate(
            pred,
            ref,
            Path(name) / "out",
            EvaluationConfig(resamples=40),
            loaded=LoadedMetrics(metrics),
            say=lambda line: None,
        )
        done.set()
        watcher.join()
        assert all("value" in found["metrics"][name] for name in ("fid", "kid", "fvd", "kvd")), found[
            "metrics"
        ]
    return highest[0]


class Rows:
    """An extractor as wide as a network's features, and free."""

    def __init__(self, rows: int, width: int) -> None:
        self.rows, self.width, self.key = rows, width, f"{rows} rows of {width}"

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        return frames.reshape(self.rows, -1)[:, : self.width].astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=int, default=3)
    parser.add_argument("--metrics", nargs="*", default=["hand", "pixels", "motion", "world"])
    parser.add_argument(
        "--random", action="store_true", help="seeded random weights where a metric needs files"
    )
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)  # one count, in a process of its own
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.peak:
        print(peak(options.peak))
    elif options.memory:
        for count in COUNTS:
            run = [sys.executable, "-m", "benchmarks.evaluate", "--peak", str(count)]
            megabytes = float(subprocess.run(run, check=True, capture_output=True, text=True).stdout)
            print(f"{count} videos: {megabytes:.1f} MB at most", flush=True)
    else:
        print(speeds(options.metrics, options.videos, options.random))


if __name__ == "__main__":
    main()
