"""How fast prepared clips are read, against how fast a training step uses them up.

    python -m benchmarks.data --video VIDEO --clips 64 [--threads 1 2]
    python -m benchmarks.data --size 128x128 --recipe mini_stage2 --set model.init=mini model.from_stage1=0

Clips of VIDEO, by default a film of the synthetic world, are prepared three times: frames as jpg, frames and
latents, latents alone (noise in the published autoencoder's shape: what latents say does not matter here,
their bytes do). Batches are then made as training makes them. --recipe: measures a training step of it on
this machine too, as `handi train RECIPE --estimate` does, just before the reading and just after it; its
clips should be of --size.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.prepare import clips_of, film
from experiments.hand_loss.train import entries
from handi.core.executors import Serial
from handi.data.dataset import PreparedClips
from handi.data.prepare import ToolsMaker, write_shards
from handi.data.stages import PrepareSettings, Tools
from handi.recipes import find_recipe
from handi.training.batches import Batches, Sampling
from handi.training.estimate import estimate
from handi.training.recipe import load_recipe


@dataclass(frozen=True)
class WithLatents:
    """Real hands; latents of the published autoencoder's shape, drawn from a fixed noise."""

    models: ToolsMaker
    size: tuple[int, int]

    def __call__(self, number: int) -> Tools:
        shape = (16, 4, self.size[0] // 8, self.size[1] // 8)
        noise = np.random.default_rng(0).standard_normal(shape).astype(np.float16)
        return Tools(self.models(number).detect, encode=lambda frames: noise)


def clips_per_second(arguments: argparse.Namespace) -> float | None:
    """Of a training step of the recipe on this machine."""
    if arguments.recipe is None:
        return None
    result = estimate(load_recipe(arguments.recipe, entries(arguments.set)))
    if result.seconds_per_step is None:
        raise SystemExit(f"this machine cannot run a step: {'; '.join(result.notes)}")
    speed = result.clips * result.accumulate / result.seconds_per_step
    print(
        f"a step of {result.recipe}, {result.clips} clips of {result.frames} frames "
        f"{result.height}×{result.width} on {result.device}: {result.seconds_per_step:.3f} s, "
        f"{speed:.2f} clips/s",
        flush=True,
    )
    return speed


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--video", type=Path)
    parser.add_argument("--size", default="256x448")
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--batch", type=int, default=6)
    parser.add_argument("--batches", type=int, default=40)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--recipe", type=find_recipe, help="whose step is measured")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="entries of the recipe")
    parser.add_argument("--out", type=Path, default=Path("runs/bench_data"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    found = clips_of(arguments.video or film(arguments.out, scenes=2), arguments.clips)
    height, width = (int(side) for side in arguments.size.split("x"))
    steps = [clips_per_second(arguments)]
    speeds: list[tuple[str, float]] = []
    for name, pictures, cached in (
        ("frames", "jpg", False),
        ("both", "jpg", True),
        ("latents", "none", True),
    ):
        out = arguments.out / f"{name}-{arguments.size}"
        models = ToolsMaker("cpu", "lite")
        cached_by = {"vae": "noise"} if cached else {}
        settings = PrepareSettings(size=(height, width), pictures=pictures, camera="ignore", models=cached_by)
        if not (out / "prepared.json").exists():
            shutil.rmtree(out, ignore_errors=True)
            tools = WithLatents(models, (height, width)) if cached else models
            write_shards(found, out, settings, tools, Serial())
        clips = PreparedClips(out)
        clips.latents = cached
        size = sum(clips.row(index)["bytes"] for index in range(len(clips))) / len(clips)
        for threads in arguments.threads:
            batches = Batches(clips, Sampling(), 0)
            positions = range(0, arguments.batch * arguments.batches, arguments.batch)
            begin, cpu = time.perf_counter(), time.process_time()
            for batch in batches.stream(positions, arguments.batch, workers=threads):
                assert len(batch) == arguments.batch
            seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
            count = arguments.batch * arguments.batches
            print(
                f"{name}: {size / 1000:.0f} kB a clip, {threads} threads: {count / seconds:.1f} clips/s, "
                f"{1000 * cpu / count:.1f} CPU ms per clip",
                flush=True,
            )
            speeds.append((f"{name}, {threads} threads", count / seconds))
    steps.append(clips_per_second(arguments))
    fastest = max(step for step in steps if step is not None) if arguments.recipe else None
    for name, speed in speeds if fastest else []:
        print(f"{name}: {speed / fastest:.0f} times the faster step's {fastest:.2f} clips/s")
    print(f"{os.cpu_count()} CPU cores here; networks on one thread")


if __name__ == "__main__":
    main()
