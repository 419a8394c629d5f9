"""`make fuzz`: many cases in several processes.

python -m fuzzing --cases 20000 --workers 2          all surfaces, in shares
python -m fuzzing --surface images --first 4711      one case again, with what it said
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from fuzzing.bench import SURFACES, Bench, share_of
from fuzzing.many import run_many

PIECE = 10  # cases that a worker takes at a time


def main() -> int:
    """Exit code 1 where anything did not hold."""
    parser = argparse.ArgumentParser(prog="python -m fuzzing")
    parser.add_argument("--cases", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first case of each surface")
    parser.add_argument("--surface", nargs="*", default=[], help="only these")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    names = options.surface or list(SURFACES)
    if options.cases == 1:
        return _again(names, options.first)
    pieces = [
        (name, options.first + start, min(PIECE, count - start))
        for name, count in share_of(options.cases, names).items()
        for start in range(0, count, PIECE)
    ]
    return run_many(sorted(pieces, key=lambda piece: piece[1]), options.workers)  # surfaces in turn


def _again(names: list[str], number: int) -> int:
    failed = False
    with tempfile.TemporaryDirectory() as home, Bench(Path(home), Path(home) / "materials") as bench:
        for name in names:
            outcome = bench.run(name, number)
            print(
                f"{name} {number}: exit code {outcome.code}, {outcome.seconds:.2f} s of CPU\n{outcome.said}"
            )
            for problem in outcome.problems:
                failed = True
                print(f"FAILURE {problem}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
