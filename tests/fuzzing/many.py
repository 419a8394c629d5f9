"""Pieces of work for several processes, of which any may crash or hang: then the case at fault is named."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from fuzzing.bench import Bench
from fuzzing.harness import SECONDS, Outcome

Piece = tuple[str, int, int]  # surface, number of the first case, how many
SPAWN = multiprocessing.get_context("spawn")


@dataclass
class _Worker:
    """A process with what is left of its piece."""

    home: str
    piece: list[tuple[str, int]] = field(default_factory=list)
    since: float = 0.0
    connection: Connection = field(init=False)
    process: Any = field(init=False)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        self.connection, theirs = SPAWN.Pipe()
        self.process = SPAWN.Process(target=_work, args=(theirs, self.home), daemon=True)
        self.process.start()
        theirs.close()

    def send(self) -> None:
        self.since = time.monotonic()
        self.connection.send(self.piece)

    def stop(self) -> None:
        self.process.kill()
        self.process.join()


def _work(connection: Connection, home: str) -> None:
    warnings.simplefilter("ignore")
    with Bench(Path(tempfile.mkdtemp(dir=home)), Path(home) / "materials") as bench:
        while True:
            for name, number in connection.recv():
                connection.send(bench.run(name, number))


def run_many(pieces: list[Piece], workers: int) -> int:
    """Run them all, print each failure with its command, a line of progress and a table; the exit code."""
    rest = [[(name, first + n) for n in range(count)] for name, first, count in reversed(pieces)]
    tally, total, begin = _Tally(), sum(map(len, rest)), time.monotonic()
    with tempfile.TemporaryDirectory() as home:
        crew = [_Worker(home) for _ in range(min(workers, len(rest)))]
        busy = []
        for worker in crew:
            worker.piece = rest.pop()
            worker.send()
            busy.append(worker)
        while busy:
            ready = wait([worker.connection for worker in busy], timeout=1)
            for worker in list(busy):
                if worker.connection in ready:
                    try:
                        outcome = worker.connection.recv()
                    except EOFError:
                        worker.process.join()
                        outcome = _lost(f"the process died (exit code {worker.process.exitcode})")
                elif time.monotonic() - worker.since > 3 * SECONDS:
                    outcome = _lost(f"no end after {3 * SECONDS} s, deaf to signals")
                else:
                    continue
                tally.add(*worker.piece.pop(0), outcome)
                worker.since = time.monotonic()
                if outcome.code < -9:
                    worker.stop()
                    worker.start()
                    if worker.piece:
                        worker.send()
                if not worker.piece and rest:
                    worker.piece = rest.pop()
                    worker.send()
                elif not worker.piece:
                    busy.remove(worker)
                rate = tally.cases.total() / (time.monotonic() - begin)
                print(f"\r{tally.cases.total():,} of {total:,} cases, {tally.failures.total()} failures, "
                      f"{rate:.1f}/s ", end="", flush=True)  # fmt: skip
        for worker in crew:
            worker.stop()
    print(f"\n\n{tally.table()}\n{time.monotonic() - begin:.0f} s with {workers} processes")
    return 1 if tally.failures else 0


def _lost(why: str) -> Outcome:
    return Outcome([why], code=-10, inputs=1, seconds=0.0, said="")


class _Tally:
    """Counts for each surface."""

    def __init__(self) -> None:
        self.cases, self.inputs, self.through, self.failures = (Counter[str]() for _ in range(4))
        self.seconds = Counter[str]()

    def add(self, name: str, number: int, outcome: Outcome) -> None:
        self.cases[name] += 1
        self.inputs[name] += outcome.inputs
        self.through[name] += outcome.done
        self.seconds[name] += outcome.seconds
        for problem in outcome.problems:
            self.failures[name] += 1
            print(
                f"\n{name} {number}: {problem}\n    PYTHONPATH=tests .venv/bin/python -m fuzzing --surface {name} --first {number}"
            )

    def table(self) -> str:
        columns = (self.cases, self.inputs, self.through, self.failures)
        lines = [f"{'surface':12}{'cases':>8}{'inputs':>8}{'exit 0':>8}{'failures':>10}{'ms a case':>11}"]
        for name in self.cases:
            counts = [column[name] for column in columns]
            milliseconds = 1000 * self.seconds[name] / self.cases[name]
            lines.append("{:12}{:8}{:8}{:8}{:10}{:11.0f}".format(name, *counts, milliseconds))
        totals = [column.total() for column in columns]
        milliseconds = 1000 * self.seconds.total() / self.cases.total()
        lines.append("{:12}{:8}{:8}{:8}{:10}{:11.0f}".format("all", *totals, milliseconds))
        return "\n".join(lines)
