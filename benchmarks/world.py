"""Clips a minute of the synthetic world, by size: python -m benchmarks.world [--sizes 64 128 256] [--clips 6]

One process renders `--clips` clips of each size, `--repeats` times, after a first clip that compiles and
warms up. CPU time is the process's own and does not feel what else runs; wall time does. The last column
is the projection to two idle cores: 2 × 60 / CPU seconds.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from handi.world import render_clip


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="*", default=[64, 128, 256])
    parser.add_argument("--clips", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    print("| size | clips | CPU s a clip (min–max) | wall s a clip | clips/min on 2 idle cores |")
    print("|---|---|---|---|---|")
    for size in arguments.sizes:
        render_clip(0, size=size)
        cpu, wall = [], []
        for repeat in range(arguments.repeats):
            begin, clock = time.process_time(), time.perf_counter()
            for n in range(arguments.clips):
                render_clip(1000 + repeat * arguments.clips + n, size=size)
            cpu.append((time.process_time() - begin) / arguments.clips)
            wall.append((time.perf_counter() - clock) / arguments.clips)
        middle = float(np.mean(cpu))
        print(
            f"| {size} | {arguments.repeats} × {arguments.clips} | {middle:.2f} "
            f"({min(cpu):.2f}–{max(cpu):.2f}) | {np.mean(wall):.2f} | {120 / middle:.0f} |"
        )


if __name__ == "__main__":
    main()
