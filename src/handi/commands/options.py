"""What the commands share: kinds of options, and how they speak."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import tyro


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
    say(f"wrote {out}; rejected clips and why: {out / 'ledger.jsonl'}")
    if faults := sum(counts.get("failed", 0) for counts in summary["splits"].values()):
        say(f"error: handi failed on {faults:,} clips: {out / 'ledger.jsonl'} says on which, and how")
        return 1
    if not any(counts["kept"] for counts in summary["splits"].values()):
        say(f"error: {out}: not one clip was kept; {out / 'ledger.jsonl'} says why for each")
        return 1
    return 0
