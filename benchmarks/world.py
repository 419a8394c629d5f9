"""CPU seconds of the synthetic world: python -m benchmarks.world [--against OLD/src] [--sizes 64 128 256]

What is timed, for each of `--seeds` seeds: one clip; the files and the shard of up to three siblings
(`handi world --siblings 3 --out` and `--prepare`), and the same of first frames. With `--against`, the
package in that folder is timed too, in turns with this one, seed by seed, each in one process that has
compiled and warmed up before; the ratio is the median over seeds of old / new, with its quartiles. CPU time
is the process's own and does not feel what else runs, apart from caches and memory; wall time does.

`--parts` instead says where a clip's time goes (under a profiler, which makes small functions look slower).
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

KINDS = ("clip", "out", "prepare", "first frames out", "first frames prepare")
PARTS = {  # function -> what it is, in the order of a clip's making; times are cumulative
    "build_scene": "scene",
    "moving_parts": "bodies that move: props, hands bent to their bones",
    "_begun": "what stands still, drawn once",
    "_draw": "what moves, drawn over it",
    "_cast": "its shadows",
    "surface": "colours of what moves or is uncovered",
    "illuminate": "light on what has changed around it",
    "develop": "lens and tone curve",
    "exposure_for": "exposure",
    "digitise": "sensor noise, 8 bits",
    "_render": "all of a clip but the scene",
}


def make(kind: str, seed: int, size: int) -> int:
    """Render a seed; gives the number of clips or first frames."""
    from handi.data.prepare import prepare_world
    from handi.world import render_clip
    from handi.world.rendering import WorldSettings, render_folder

    if kind == "clip":
        render_clip(seed, size=size)
        return 1
    first = kind.startswith("first")
    settings = WorldSettings(size, first_frames=True) if first else WorldSettings(size, siblings=3)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        if kind.endswith("prepare"):
            splits = prepare_world([seed], settings, out, 1)["splits"]
            return sum(int(split["kept"]) for split in splits.values())
        render_folder(out, clips=1, seed=seed, settings=settings)
        return len(list(out.glob("[0-9]*.json")))


def serve() -> None:
    """A process that times what it is told to on its standard input, a line each."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what else is printed is no answer
    for line in sys.stdin:
        asked = json.loads(line)
        cpu, wall = time.process_time(), time.perf_counter()
        clips = make(**asked)
        seconds = [(time.process_time() - cpu) / clips, (time.perf_counter() - wall) / clips]
        print(json.dumps(seconds), file=answers, flush=True)


class Version:
    """A process that renders with one version of the package."""

    def __init__(self, source: Path | None) -> None:
        environment = dict(os.environ) | ({"PYTHONPATH": str(source)} if source else {})
        command = [sys.executable, __file__, "--serve"]
        self.process: Any = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env=environment, text=True,
        )  # fmt: skip

    def seconds(self, kind: str, seed: int, size: int) -> tuple[float, float]:
        """CPU and wall seconds a clip."""
        self.process.stdin.write(json.dumps({"kind": kind, "seed": seed, "size": size}) + "\n")
        self.process.stdin.flush()
        cpu, wall = json.loads(self.process.stdout.readline())
        return cpu, wall


def compare(kind: str, size: int, seeds: int, versions: list[Version]) -> str:
    """A row of the table."""
    for version in versions:
        version.seconds(kind, 0, size)
    times = np.array(
        [[version.seconds(kind, 910_000 + n, size) for version in versions] for n in range(seeds)]
    )
    cells = [f"{kind} | {size} | {seeds}"]
    for cpu in times[:, :, 0].T:
        cells.append(f"{np.median(cpu):.2f} ({cpu.min():.2f}–{cpu.max():.2f})")
    if len(versions) == 2:
        low, middle, high = np.percentile(times[:, 1, 0] / times[:, 0, 0], (25, 50, 75))
        cells.append(f"**{middle:.2f}** ({low:.2f}–{high:.2f})")
    cells.append(f"{60 / np.median(times[:, 0, 0]):.0f}")
    return "| " + " | ".join(cells) + " |"


def parts(size: int, seeds: int) -> None:
    """Print CPU milliseconds a clip by part."""
    make("clip", 0, size)
    profile = cProfile.Profile(time.process_time)
    profile.enable()
    for n in range(seeds):
        make("clip", 910_000 + n, size)
    profile.disable()
    spent: dict[str, float] = {}
    for (_, _, name), row in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        spent[name] = spent.get(name, 0.0) + row[3]
    print("| part | ms a clip |\n|---|---|")
    for name, what in PARTS.items():
        print(f"| {what} | {1000 * spent.get(name, 0.0) / seeds:.0f} |")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="*", default=[64, 128, 256])
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=KINDS)
    parser.add_argument("--against", type=Path, help="src of another checkout")
    parser.add_argument("--parts", action="store_true")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        return serve()
    if arguments.parts:
        return [parts(size, arguments.seeds) for size in arguments.sizes][-1]
    versions = [Version(None), *([Version(arguments.against)] if arguments.against else [])]
    more = "CPU s a clip, old | old / new | " if arguments.against else ""
    print(f"| what | size | seeds | CPU s a clip (min–max) | {more}clips a minute and core |")
    print("|---" * (7 if arguments.against else 5) + "|")
    for kind in arguments.kinds:
        for size in arguments.sizes:
            print(compare(kind, size, arguments.seeds, versions), flush=True)
    return None


if __name__ == "__main__":
    main()
