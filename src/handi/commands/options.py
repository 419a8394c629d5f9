"""What the commands share: kinds of options, and how they speak."""

from __future__ import annotations

import sys
from typing import Annotated, Any, NoReturn

import tyro


def optional(metavar: str) -> Any:
    """An option that may be left out, shown without a default."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="")


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
