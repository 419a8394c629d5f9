"""What the commands share: kinds of options, and how they speak."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import tyro

from handi.core.device import gpu_count
from handi.core.executors import Executor
from handi.core.executors import executor as make_executor
from handi.core.stores import url_of


def optional(metavar: str) -> Any:
    """An option that may be left out, shown without a default."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="")


def print_json(value: Any) -> None:
    """Print what a command found as JSON, on stdout, for programs."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))


Switch = Annotated[bool, tyro.conf.FlagCreatePairsOff]
Several = Annotated[tuple[str, ...], tyro.conf.arg(metavar="…", help_behavior_hint="")]
# `--section.key VALUE` of a recipe, which app.py rewrites so that tyro can read it.
Entries = Annotated[
    tuple[str, ...],
    tyro.conf.UseAppendAction,
    tyro.conf.arg(name="section.key", metavar="VALUE", help_behavior_hint=""),
]


@dataclass(frozen=True)
class WorkerOptions:
    """Who works, where there are many clips; it has no part in the results."""

    executor: Annotated[Literal["serial", "processes", "ray"] | None, optional("{serial,processes,ray}")] = (
        None
    )
    """serial: this process. processes: several of this machine, one that dies is replaced. ray: Ray Data,
    `pip install 'handi[ray]'`. Without it: serial for one worker, processes for more."""
    workers: Annotated[int | None, optional("INT")] = None
    """Processes or actors, each with models of its own. Without it: one per core for prepare and world, one
    per GPU for the others."""
    ray_address: Annotated[str | None, optional("ADDRESS")] = None
    """A cluster's address, or auto; without it Ray runs on this machine. See docs/cluster.md."""
    gpus_per_worker: float = 0.0
    """Share of a GPU that Ray gives to a worker."""

    def open(self, command: str, usual: int | None = None) -> Executor:
        """The executor that is asked for. usual: workers where no number is given; None: one per GPU.

        Ends the command where the options do not fit together. Raises: InputError.
        """
        if self.executor != "ray" and (self.ray_address is not None or self.gpus_per_worker):
            usage(command, "--ray-address and --gpus-per-worker need --executor ray")
        workers = self.workers
        if workers is None:
            workers = max(1, gpu_count()) if usual is None else usual
        kind = self.executor or ("serial" if workers == 1 else "processes")
        return make_executor(kind, workers, address=self.ray_address, gpus=self.gpus_per_worker)


Work = Annotated[WorkerOptions, tyro.conf.OmitArgPrefixes]
USUAL = WorkerOptions()
CORES = os.cpu_count() or 1


def say(message: str) -> None:
    """Print a line for people, on stderr."""
    print(message, file=sys.stderr)


def usage(command: str, message: str) -> NoReturn:
    """End with exit code 2: the command was typed wrongly."""
    say(f"error: {message}; see `handi {command} --help`")
    sys.exit(2)


def say_summary(summary: dict[str, Any], out: Path) -> int:
    """Say what a preparation wrote; gives the exit code."""
    for split, counts in summary["splits"].items():
        size = f"{counts['bytes'] / 1e6:,.1f} MB"
        say(f"{split}: {counts['kept']:,} of {counts['clips']:,} clips kept, {size}")
        if split == "val" and not counts["kept"]:
            say("note: not one held-out clip was kept, so training has none to check itself on")
    place = url_of(out) or out
    ledger = f"{place}/ledger.jsonl"
    say(f"wrote {place}; rejected clips and why: {ledger}")
    if faults := sum(counts.get("failed", 0) for counts in summary["splits"].values()):
        say(f"error: handi failed on {faults:,} clips: {ledger} says on which, and how")
        return 1
    if not any(counts["kept"] for counts in summary["splits"].values()):
        say(f"error: {place}: not one clip was kept; {ledger} says why for each")
        return 1
    return 0
