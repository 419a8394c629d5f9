"""The `handi` command: which commands there are, and how their errors end."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated, Any, NoReturn, Union

import tyro

from handi.commands import (
    ablate,
    areas,
    bench,
    convert_weights,
    doctor,
    evaluate,
    export,
    gallery,
    generate,
    hands,
    prepare,
    push,
    report,
    train,
    web_app,
    weights,
    world,
)
from handi.commands.options import say, usage
from handi.core.errors import expected

COMMANDS: dict[str, Callable[..., int]] = {
    "generate": generate.generate,
    "app": web_app.app,
    "hands": hands.hands,
    "world": world.world,
    "prepare": prepare.prepare,
    "report": report.report,
    "areas": areas.areas,
    "train": train.train,
    "export": export.export,
    "evaluate": evaluate.evaluate,
    "convert-weights": convert_weights.convert_weights,
    "bench": bench.bench,
    "ablate": ablate.ablate,
    "gallery": gallery.gallery,
    "weights": weights.weights,
    "push": push.push,
    "doctor": doctor.doctor,
}


def main() -> NoReturn:
    """Entry point. Exit codes: 0 done, 1 failed (one line on stderr), 2 wrong usage."""
    if sys.argv[1:] == ["--version"]:
        print(f"handi {version('handi')}")
        sys.exit(0)
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    if not debug:
        _quiet_libraries()
    try:
        sys.exit(tyro.cli(_parser(arguments), args=_joined(arguments), prog="handi", description=_ABOUT))
    except KeyboardInterrupt:
        say("stopped")
        sys.exit(130)
    except BrokenPipeError:  # `handi … | head`: the reader has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if debug:
            raise
        if (known := expected(error)) is not None:
            say(f"error: {known}")
        elif isinstance(error, MemoryError):
            say("error: there is not enough memory; use smaller sizes or fewer at a time")
        else:
            summary = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            say(f"error: {summary} (unexpected: run again with --debug and report it)")
        sys.exit(1)


_ABOUT = (
    "Hand-centric video generation: a photo, one sentence, and the hands in it do it. "
    "`handi COMMAND --help` explains a command; --debug shows the traceback of an error, "
    "--version the version."
)


def _parser(arguments: list[str]) -> Any:
    """The subcommands as tyro reads them; in their list each is described by its first line alone."""
    listing = not arguments or arguments[0] not in COMMANDS
    return Union[  # noqa: UP007 (made at run time)
        tuple(
            Annotated[
                int,
                tyro.conf.subcommand(
                    name,
                    constructor=command,
                    description=(command.__doc__ or "").split("\n")[0] if listing else None,
                ),
            ]
            for name, command in COMMANDS.items()
        )
    ]


def _joined(arguments: list[str]) -> list[str]:
    """`handi train`'s --optim.lr 1e-4 as --section.key optim.lr=1e-4, which tyro can read; `ablate`'s too."""
    if arguments[:1] not in (["train"], ["ablate"]):
        return arguments
    joined, rest = arguments[:1], arguments[1:]
    while rest:
        argument = rest.pop(0)
        key, equals, value = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or "." not in key:
            joined.append(argument)
            continue
        if not equals:
            if not rest:
                usage(arguments[0], f"{argument} has no value")
            value = rest.pop(0)
        joined += ["--section.key", f"{key}={value}"]
    return joined


def _quiet_libraries() -> None:
    """Leave stderr to our own lines: the libraries' bars and advice are for people who call them."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    warnings.filterwarnings("ignore")
