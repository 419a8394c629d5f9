"""What preparing clips costs, that it scales, that memory stays flat, and that kill -9 leaves no trace.

    python -m benchmarks.prepare speed  --video VIDEO --clips 64 --workers 1 2
    python -m benchmarks.prepare memory --clips 2000 --size 64x64 --complexity lite [--hands made-up]
    python -m benchmarks.prepare kills  --clips 208 --kills 10 --workers 2

VIDEO is any footage with hands in it: overlapping parts of it, 2.5 s each, are the clips. Without one it is a
film of the synthetic world, 128 px. All stages are real: decoding, camera motion, hands, areas, and with
--model the latents; only --hands made-up, for a machine that has no hour to spare, does without the networks.
docs/data.md has what was measured.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
import torch

from handi.core.executors import executor
from handi.core.types import Frames, Hands
from handi.core.video import frame_times, write_video
from handi.data import shards
from handi.data.ledger import read_rows
from handi.data.prepare import ToolsMaker, write_shards
from handi.data.sources.common import Clip, SourceClips
from handi.data.stages import PrepareSettings, Tools
from handi.world import render_clip
from handi.world.files import FPS

SECONDS = 2.5  # of a clip: EPIC-KITCHENS-100's median action is about as long
SOURCE = 150_000  # clips of both published sets in LEGO's selection, about


def film(out: Path, scenes: int = 8) -> Path:
    """A video of a few hand-held clips of the synthetic world, one after the other; made once."""
    path = out / "film.mp4"
    if not path.exists():
        clips = [render_clip(seed, size=128, handheld=True).frames for seed in range(scenes)]
        write_video(path, np.concatenate(clips), fps=FPS)
    return path


def clips_of(video: Path, count: int) -> SourceClips:
    """Parts of a video, each a little later than the one before."""
    length = frame_times(video).end or 0.0
    starts = [(length - SECONDS) * n / max(1, count - 1) for n in range(count)]
    return SourceClips(
        [
            Clip(f"clip_{n:05d}", video, start, start + SECONDS, action="Use the hand.")
            for n, start in enumerate(starts)
        ]
    )


def settings_of(arguments: argparse.Namespace) -> tuple[PrepareSettings, ToolsMaker]:
    models = ToolsMaker("cpu", arguments.complexity, arguments.model)
    height, width = (int(side) for side in arguments.size.split("x"))
    settings = PrepareSettings(
        size=(height, width),
        camera=arguments.camera,
        clips_per_shard=arguments.clips_per_shard,
        models=models.hashes(),
    )
    return settings, models


def run(arguments: argparse.Namespace, out: Path, workers: int) -> dict[str, float]:
    """One run: seconds from the first clip's start on, and CPU seconds of all processes, models and all."""
    settings, models = settings_of(arguments)
    found = clips_of(arguments.video, arguments.clips)
    before = cpu_seconds()
    begin = time.perf_counter()
    write_shards(found, out, settings, models, executor(arguments.executor, workers))
    return {"seconds": time.perf_counter() - begin, "cpu": cpu_seconds() - before}


def cpu_seconds() -> float:
    """Of this process and of its children that have ended."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )


def speed(arguments: argparse.Namespace) -> None:
    """Clips a minute and clips a CPU hour for each number of workers; what the published sets would take."""
    rows = []
    for workers in arguments.workers:
        out = arguments.out / f"speed-{workers}"
        shutil.rmtree(out, ignore_errors=True)
        figures = run(arguments, out, workers)
        rows.append({"workers": workers, **figures})
        minutes, each = figures["seconds"] / 60, figures["cpu"] / arguments.clips
        print(
            f"{workers} workers: {arguments.clips / minutes:.1f} clips/min, "
            f"{3600 / each:,.0f} clips/CPU-hour, {each:.2f} CPU s a clip"
        )
    cost = rows[0]["cpu"] / arguments.clips
    print(f"{os.cpu_count()} cores here; what more workers than {max(arguments.workers)} take is projected:")
    for workers in (1, 8, 64):
        hours = SOURCE * cost / workers / 3600
        print(f"{SOURCE:,} clips on {workers} workers of a core each: {hours:,.1f} h")
    print(json.dumps(rows))


def made_up(frames: Frames) -> Hands:
    """A left hand in the middle of each frame, at once; what is measured is everything but the networks."""
    count, height, width = frames.shape[:3]
    joints = torch.zeros(count, 2, 21, 2)
    joints[:, 0] = 0.3 + 0.4 * torch.rand(21, 2, generator=torch.Generator().manual_seed(0))
    visible = torch.tensor([True, False]).expand(count, 2)
    rois = torch.tensor([width / 2, height / 2, width / 2, 0.0]) * visible[..., None]
    scores = visible.float()
    return Hands(joints.reshape(count, 42, 2), scores, scores, rois, visible, (height, width), "made up")


@dataclass(frozen=True)
class Watched:
    """A worker's models; each use of the detector, one per clip, writes down the worker's resident memory."""

    models: ToolsMaker
    log: Path
    made_up: bool = False

    def __call__(self, number: int) -> Tools:
        tools, process = self.models(number), psutil.Process()

        def detect(frames: Frames) -> Hands:
            hands = made_up(frames) if self.made_up else tools.detect(frames)
            with self.log.open("a") as file:
                file.write(f"{process.pid} {process.memory_info().rss}\n")
            return hands

        return replace(tools, detect=detect)


def memory(arguments: argparse.Namespace) -> None:
    """Resident memory of one worker process over its clips."""
    settings, models = settings_of(arguments)
    out, log = arguments.out / "memory", arguments.out / "memory.log"
    shutil.rmtree(out, ignore_errors=True)
    log.unlink(missing_ok=True)
    found = clips_of(arguments.video, arguments.clips)
    watched = Watched(models, log, arguments.hands == "made-up")
    about = write_shards(found, out, settings, watched, executor("processes", 1))
    lines = [line.split() for line in log.read_text().splitlines()]
    assert len({pid for pid, _ in lines}) == 1, "the worker died on the way"
    mib = np.array([int(rss) for _, rss in lines]) / 2**20
    for count in range(len(mib) // 10, len(mib) + 1, len(mib) // 10):
        print(f"{count} clips: {mib[count - 1]:.1f} MiB")
    late = mib[len(mib) // 10 :]
    slope = np.polyfit(np.arange(len(late)), late, 1)[0]
    kept = sum(split["kept"] for split in about["splits"].values())
    print(f"{kept} of {arguments.clips} clips kept")
    print(
        f"after the first tenth {late.min():.1f} to {late.max():.1f} MiB; "
        f"a straight line through them rises by {1024 * slope:.2f} KiB a clip"
    )


def kills(arguments: argparse.Namespace) -> None:
    """Kill everything at random points, again and again; then finish, and compare with an undisturbed run."""
    whole, out = arguments.out / "whole", arguments.out / "killed"
    for folder in (whole, out):
        shutil.rmtree(folder, ignore_errors=True)
    settings, models = settings_of(arguments)
    write_shards(clips_of(arguments.video, arguments.clips), whole, settings, models, executor("serial", 1))
    chance = random.Random(arguments.seed)
    names = [path.stem for path in (whole / "shards").glob("*.jsonl")]
    command = [sys.executable, "-m", "benchmarks.prepare", "child", *sys.argv[2:]]
    for number in range(arguments.kills):
        child = subprocess.Popen(
            command,
            start_new_session=True,
            stderr=subprocess.DEVNULL,
        )
        # Somewhere between this part of the work and the next: before, in and after the writing of a shard.
        goal = len(names) * (number + 0.5) / arguments.kills
        while child.poll() is None and len(list(out.glob("shards/*.jsonl"))) < int(goal):
            time.sleep(0.05)
        time.sleep(chance.uniform(0, arguments.pause))
        finished = child.poll() is not None
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        done = len(list(out.glob("shards/*.jsonl")))
        half = len(list(out.glob("shards/.*")))
        say = "had finished" if finished else "killed"
        print(f"{number + 1}: {say}: {done} of {len(names)} shards done, {half} half-written", flush=True)
    subprocess.run(
        command,
        check=True,
        stderr=subprocess.DEVNULL,
    )
    one, two = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (whole, out)
    )
    ids = [row["id"] for row in read_rows(out / shards.LEDGER)]
    print(f"{len(ids)} clips in the ledger, {len(set(ids))} of them different")
    print(f"{len(one)} files, {sum(map(len, one.values())):,} bytes; byte-identical: {one == two}")
    sys.exit(one != two)


def child(arguments: argparse.Namespace) -> None:
    """A run that is to be killed."""
    run(arguments, arguments.out / "killed", arguments.workers[0])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["speed", "memory", "kills", "child"])
    parser.add_argument("--video", type=Path, help="by default a film of the synthetic world")
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--size", default="256x448")
    parser.add_argument("--model", help="cache this model's latents too")
    parser.add_argument("--complexity", choices=["full", "lite"], default="full")
    parser.add_argument("--hands", choices=["found", "made-up"], default="found", help="of memory alone")
    parser.add_argument("--camera", choices=["measure", "stabilise", "ignore"], default="measure")
    parser.add_argument("--executor", choices=["serial", "processes", "ray"], default="processes")
    parser.add_argument("--clips-per-shard", type=int, default=8)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--pause", type=float, default=5.0, help="s, at most, before a kill")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/bench_prepare"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    arguments.video = arguments.video or film(arguments.out)
    {"speed": speed, "memory": memory, "kills": kills, "child": child}[arguments.what](arguments)


if __name__ == "__main__":
    main()
