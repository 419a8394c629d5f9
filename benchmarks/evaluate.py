"""How fast is each metric on one CPU core, does memory grow with the videos, and how long do thousands take?

    python -m benchmarks.evaluate                                  # what needs no downloaded weights
    python -m benchmarks.evaluate --metrics fid fvd clip           # others, where their weights are
    python -m benchmarks.evaluate --random --metrics fid fvd clip  # or with random ones of the same layout
    python -m benchmarks.evaluate --memory                         # peak memory at 50, 200 and 800 videos
    python -m benchmarks.evaluate --project --metrics pixels motion    # hours for the paper's test sets

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
from handi.evaluation.aggregate import RESAMPLES, SET_SHARE
from handi.evaluation.metrics import distances
from handi.evaluation.metrics.frechet import (
    BLOCK,
    SUBSETS,
    distance_of_moments,
    kernel_distance,
    moments,
)
from handi.evaluation.metrics.protocol import Metric, Pair, PairMetric, SetMetric
from handi.evaluation.run import EvaluationConfig, evaluate
from handi.evaluation.scoring import LoadedMetrics, load_metrics
from handi.world import render_clip, write_clip

SEED, SIZE = 900_000, 128
HEIGHT, WIDTH, FRAMES = 256, 448, 16
COUNTS, TINY = (50, 200, 800), 32
TEST_SETS = (8857, 9931)  # clips of EPIC-KITCHENS and of Ego4D that the paper measures on
WORKERS = (1, 8, 64)
SLOPE = (4, 12)  # videos, whose difference in time is that of the videos alone
FRAME_ROWS, CLIP_ROWS = (FRAMES - 1, 2048), (1, 400)  # of Inception's and I3D's features of a video


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


def peak(count: int, width: int) -> float:
    """Peak memory in MB of an evaluation of `count` videos of 32 px: pixels, motion, FID, KID, FVD and KVD.

    The distances are the real ones, on rows (of frames `width` wide) that cost no network; KID and KVD take
    2 subsets instead of 100, one after the other either way. The process's own memory, sampled; pages of
    mapped files are the system's to drop.
    """
    with tempfile.TemporaryDirectory() as name:
        ref, pred = Path(name) / "ref", Path(name) / "pred"
        ref.mkdir()
        pred.mkdir()
        rng = np.random.default_rng(0)
        for n in range(count):
            frames = rng.integers(0, 256, (FRAMES, TINY, TINY, 3), dtype=np.uint8)
            np.save(ref / f"{n:04}.npy", frames)
            np.save(pred / f"{n:04}.npy", frames[::-1])
            write_image(ref / "motion_area" / f"{n:04}.png", np.eye(TINY) > 0)
        metrics = dict(load_metrics(("pixels", "motion"), "cpu").by_name)
        for kind, rows in (
            (distances.Fid, Rows(FRAMES - 1, width)),
            (distances.Kid, Rows(FRAMES - 1, width)),
            (distances.Fvd, Rows(*CLIP_ROWS)),
            (distances.Kvd, Rows(*CLIP_ROWS)),
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


def seconds_a_video(names: list[str]) -> float:
    """CPU seconds of an evaluation for each further video of the paper's size: reading, metrics, ledger."""
    spent = {}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        for number, pair in enumerate(pairs(SLOPE[1])):
            assert pair.reference is not None
            assert pair.context is not None
            assert pair.area is not None
            for side, frames in (("ref", pair.reference), ("pred", pair.generated)):
                (home / side).mkdir(exist_ok=True)
                np.save(home / side / f"{number:04}.npy", np.concatenate([pair.context[None], frames]))
            write_image(home / "ref" / "motion_area" / f"{number:04}.png", pair.area)
        loaded = load_metrics(names, "cpu")
        for count in (1, *SLOPE):  # the first warms up
            begin = time.process_time()
            config = EvaluationConfig(metrics=tuple(names), limit=count, resamples=2)
            out = home / f"out{count}"
            evaluate(home / "pred", home / "ref", out, config, loaded=loaded, say=lambda line: None)
            spent[count] = time.process_time() - begin
    few, many = SLOPE
    return (spent[many] - spent[few]) / (many - few)


def seconds_a_distance(width: int) -> tuple[float, float, float]:
    """CPU seconds of adding a block of rows to a set's moments, of the distance of two sets' moments, and of
    one of KID's subsets."""
    rng = np.random.default_rng(0)
    block = rng.normal(size=(BLOCK, width)).astype(np.float32)
    one = moments(np.concatenate([block, block + 1]))
    found = []
    for work in (
        lambda: one.merged(moments(block)),
        lambda: distance_of_moments(one, one),
        lambda: kernel_distance(block, block, subsets=1),
    ):
        begin = time.process_time()
        work()
        found.append(time.process_time() - begin)
    return found[0], found[1], found[2]


def project(names: list[str]) -> str:
    """Hours for the paper's test sets, by workers of one core each: one worker's cost, divided."""
    video = seconds_a_video(names)
    lines = [f"{', '.join(names)}: {video:.2f} CPU s for each further video"]
    costs: dict[str, tuple[int, tuple[float, float, float]]] = {}
    for name, (count, width) in (("FID, KID", FRAME_ROWS), ("FVD, KVD", CLIP_ROWS)):
        costs[name] = count, seconds_a_distance(width)
        block, apart, subset = costs[name][1]
        lines.append(
            f"{name}: {block:.2f} CPU s for {BLOCK} rows of {width}, {apart:.2f} for a distance of moments, "
            f"{subset:.2f} for a subset"
        )
    rows: list[list[object]] = []
    for n in TEST_SETS:
        rows.append([f"{n:,}", f"scores: {', '.join(names)}", *_hours(n * video)])
        for name, (count, (block, apart, subset)) in costs.items():
            frechet = 2 * -(-n * count // BLOCK) * block + apart
            again = 1 + RESAMPLES // SET_SHARE  # the videos themselves, and resamples for the interval
            rows.append([f"{n:,}", f"distances: {name}", *_hours(again * (frechet + SUBSETS * subset))])
    heads = ["videos", "what", *(f"{count} worker{'s' if count > 1 else ''}" for count in WORKERS)]
    return "\n".join([*lines, "", table(heads, rows)])


def _hours(seconds: float) -> list[object]:
    return [f"{seconds / 3600 / count:.2g} h" for count in WORKERS]


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
    parser.add_argument("--width", type=int, default=2048, help="of frames' features, for --memory")
    parser.add_argument("--project", action="store_true")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)  # one count, in a process of its own
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.peak:
        print(peak(options.peak, options.width))
    elif options.project:
        print(project(options.metrics))
    elif options.memory:
        for count in COUNTS:
            run = [sys.executable, "-m", "benchmarks.evaluate", "--peak", str(count)]
            run += ["--width", str(options.width)]
            megabytes = float(subprocess.run(run, check=True, capture_output=True, text=True).stdout)
            print(f"{count} videos: {megabytes:.1f} MB at most", flush=True)
    else:
        print(speeds(options.metrics, options.videos, options.random))


if __name__ == "__main__":
    main()
