"""`handi weights`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from handi.commands.options import Switch, optional, say, usage

if TYPE_CHECKING:
    from handi.evaluation.catalogue import Listed


def weights(
    action: Annotated[Literal["list", "get"], tyro.conf.Positional] = "list",
    names: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[NAME …]")] = (),
    source: Annotated[str | None, optional("DIR|URL"), tyro.conf.arg(name="from")] = None,
    dry_run: Switch = False,
    json_: Annotated[Switch, tyro.conf.arg(name="json")] = False,
) -> int:
    """Show every weight file that a command can use, or fetch one: what for, licence, size, and where it is.

    Nothing is downloaded unless asked for: by a hub id as --model, or here.

        handi weights

    Fetch a metric's network, its hash checked; stopped, it resumes when it is run again:
        handi weights get inception

    From a folder or a mirror that has the file under its own name, on a machine without the internet:
        handi weights get inception --from /mnt/weights

    Args:
        action: list shows all of them, get fetches those that are named.
        names: As the list calls them.
        source: A folder, or the address of a mirror, to fetch from.
        dry_run: Say what would be fetched and where it would go, and fetch nothing.
        json_: Write the list as JSON.
    """
    from handi.evaluation import catalogue

    if action == "get":
        if not names:
            usage("weights", "name what to get")
        for name in names:
            catalogue.get(name, source=source, dry_run=dry_run, say=say)
        return 0
    if names or source or dry_run:
        usage("weights", "names, --from and --dry-run are for `handi weights get`")
    listed = list(catalogue.entries())
    if json_:
        print(json.dumps([asdict(entry) for entry in listed], indent=2, ensure_ascii=False))
        return 0
    _show(listed)
    return 0


def _show(listed: list[Listed]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("name", "for", "licence", "MB", "here"):
        table.add_column(title, justify="right" if title == "MB" else "left")
    marks = {
        "ships": "[green]ships[/]",
        "here": "[green]yes[/]",
        "missing": "no",
        "refused": "[red]damaged[/]",
    }
    for entry in listed:
        size = "" if entry.megabytes is None else f"{entry.megabytes:,g}"
        table.add_row(entry.name, entry.serves, entry.licence, size, marks[entry.state])
    Console().print(table)
    say("`handi weights get NAME` fetches one; `handi weights --json` has hashes, addresses and places")
