"""CPU seconds that `handi generate` needs before its first step, part by part, in fresh processes.

    python -m benchmarks.startup             # 5 processes, and the twelve dearest packages of one more
    python -m benchmarks.startup --rounds 3

The floor is Python and torch. As other work on a machine slows imports of all kinds alike, the last column
gives each part as a multiple of importing torch in the same process.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
from collections import Counter

# In the order of a run; each part is timed from the end of the one before.
PARTS = """
import json, time
seconds, begin = {}, time.process_time()
seconds["Python"] = begin
def part(name):
    global begin
    now = time.process_time()
    seconds[name], begin = now - begin, now
import torch
part("torch")
import handi.commands.app, handi.generation.run as run
from handi.generation.requests import ClipRequest, GenerationSettings
part("the command, pictures, videos")
settings, request = GenerationSettings(steps=1, area_steps=1), ClipRequest("example", "Cut the carrot.")
run.require(settings)
part("diffusers and transformers")
run.warn([request], settings, lambda line: None)
with run.Runner(settings) as runner:
    part("mini, from its folder")
    class Stop(Exception):
        pass
    def stop(stage, step, steps):
        part("encoding, and step 1")
        raise Stop
    try:
        runner.run([request], [OUT], watch=stop)
    except Stop:
        pass
print(json.dumps(seconds))
"""


def run_once(*options: str) -> subprocess.CompletedProcess[str]:
    """The parts in a process of their own, on one thread."""
    code = f"import pathlib, tempfile; OUT = pathlib.Path(tempfile.mkdtemp()) / 'out'\n{PARTS}"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    return subprocess.run(
        [sys.executable, *options, "-c", code], env=environment, capture_output=True, text=True, check=True
    )


def seconds_by_package(report: str) -> Counter[str]:
    """Of `python -X importtime`: wall seconds of each top-level package's own modules."""
    found: Counter[str] = Counter()
    for microseconds, name in re.findall(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)", report):
        found[name.partition(".")[0]] += int(microseconds) / 1e6
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    count = parser.parse_args().rounds
    rounds = [json.loads(run_once().stdout.splitlines()[-1]) for _ in range(count)]
    rows = {name: [one[name] for one in rounds] for name in rounds[0]}
    rows["all above Python and torch"] = [
        sum(value for name, value in one.items() if name not in ("Python", "torch")) for one in rounds
    ]
    print(f"{count} processes, one thread\n")
    print("| part | CPU s, median (range) | multiple of torch |\n|---|---|---|")
    for name, values in rows.items():
        multiple = statistics.median(v / one["torch"] for v, one in zip(values, rounds, strict=True))
        spread = f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"
        print(f"| {name} | {spread} | {multiple:.2f} |")
    print("\n| package | wall s of its own modules, one process |\n|---|---|")
    for name, seconds in seconds_by_package(run_once("-X", "importtime").stderr).most_common(12):
        print(f"| {name} | {seconds:.2f} |")


if __name__ == "__main__":
    main()
