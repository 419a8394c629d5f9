"""`handi generate` from the shell to the finished files, on two cores: how long, and where the time goes."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from experiments.estimates import table

CORES = 2
PARTS = ("load", "encode", "stage1", "stage2", "decode", "write")


def run_once(model: str, image: Path | str, prompt: str, cores: list[int], out: Path) -> dict[str, float]:
    """Seconds of one run: wall in all, each part as run.json has it, and the start (Python, imports)."""
    command = [sys.executable, "-m", "handi", "generate", "--image", str(image), "--prompt", prompt]
    command += ["--model", model, "--device", "cpu", "--out", str(out)]
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    begin = time.perf_counter()
    done = subprocess.run(
        command,
        env=environment | {"OMP_NUM_THREADS": str(len(cores))},
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
        capture_output=True,
        text=True,
    )
    wall = time.perf_counter() - begin
    if done.returncode:
        raise SystemExit(f"handi generate failed: {done.stderr.strip()}")
    parts = json.loads((out / "run.json").read_text())["seconds"]
    return {"in all": wall, "start": wall - sum(parts.values()), **parts}


def measure(
    model: str, runs: int, image: Path | str = "example", prompt: str = "Cut the carrot."
) -> list[dict[str, float]]:
    """Seconds of each run, and how busy the machine was before it. The first run counts as well."""
    cores = sorted(os.sched_getaffinity(0))[:CORES]
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(runs):
            load = os.getloadavg()[0]
            seconds = run_once(model, image, prompt, cores, Path(folder) / str(number))
            results.append(seconds | {"load average": load, "cores": len(cores)})
    return results


def speed(results: list[dict[str, float]]) -> str:
    """The section's table."""
    rows, loads = [], [result["load average"] for result in results]
    for name in ("in all", "start", *PARTS):
        seconds = [result[name] for result in results if name in result]
        if seconds:
            middle = statistics.median(seconds)
            rows.append([name, f"{middle:.2f}", f"{min(seconds):.2f}", f"{max(seconds):.2f}"])
    loaded = f"load average beside it {min(loads):.1f} to {max(loads):.1f}"
    cores = f"{results[0]['cores']:.0f} cores"
    title = f"`handi generate`, {cores}, {len(results)} runs, {loaded}; seconds:\n\n"
    return title + table(["part", "median", "least", "most"], rows)
