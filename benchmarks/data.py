"""How fast prepared clips are read, against how fast a training step uses them up.

    python benchmarks/data.py VIDEO --clips 64 [--threads 1 2] [--step 4.5]

Clips of VIDEO are prepared at 256×448 three times: frames as jpg, frames and latents, latents alone (noise in
the published autoencoder's shape: what latents say does not matter here, their bytes do). Batches are then
made as training makes them. --step: clips/s of a training step to compare with, as `handi train RECIPE
--estimate` measures it on the machine that will train.
"""

from __future__ import annotations

import argparse
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from prepare import clips_of

from handi.data.clips import Batches, Drawing
from handi.data.executors import Serial
from handi.data.prepare import Settings, Tools
from handi.data.produce import produce
from handi.data.shard_clips import ShardClips
from handi.prepare import Models

SIZE, LATENTS = (256, 448), (4, 32, 56)


@dataclass(frozen=True)
class WithLatents:
    """Real hands; latents of the published autoencoder's shape, drawn from a fixed noise."""

    models: Models

    def __call__(self, number: int) -> Tools:
        noise = np.random.default_rng(0).standard_normal((16, *LATENTS)).astype(np.float16)
        return Tools(self.models(number).detect, encode=lambda frames: noise)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("video", type=Path)
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--batch", type=int, default=6)
    parser.add_argument("--batches", type=int, default=40)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--step", type=float, help="clips/s of a training step")
    parser.add_argument("--out", type=Path, default=Path("runs/bench_data"))
    arguments = parser.parse_args()
    found = clips_of(arguments.video, arguments.clips)
    for name, pictures, cached in (
        ("frames", "jpg", False),
        ("both", "jpg", True),
        ("latents", "none", True),
    ):
        out = arguments.out / name
        models = Models("cpu", "lite")
        cached_by = {"vae": "noise"} if cached else {}
        settings = Settings(size=SIZE, pictures=pictures, camera="ignore", models=cached_by)
        if not (out / "prepared.json").exists():
            shutil.rmtree(out, ignore_errors=True)
            produce(found, out, settings, WithLatents(models) if cached else models, Serial())
        clips = ShardClips(out)
        clips.latents = cached
        size = sum(clips.row(index)["bytes"] for index in range(len(clips))) / len(clips)
        for threads in arguments.threads:
            batches = Batches(clips, Drawing(), 0)
            positions = range(0, arguments.batch * arguments.batches, arguments.batch)
            begin, cpu = time.perf_counter(), time.process_time()
            for batch in batches.stream(positions, arguments.batch, workers=threads):
                assert len(batch) == arguments.batch
            seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
            count = arguments.batch * arguments.batches
            line = (
                f"{name}: {size / 1000:.0f} kB a clip, {threads} threads: {count / seconds:.1f} clips/s, "
                f"{1000 * cpu / count:.1f} CPU ms a clip"
            )
            if arguments.step:
                line += f", {count / seconds / arguments.step:.0f} times a step's {arguments.step} clips/s"
            print(line, flush=True)


if __name__ == "__main__":
    main()
