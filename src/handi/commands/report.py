"""`handi report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from handi.commands.options import Switch, optional, print_json, say, usage


def report(
    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")],
    out: Annotated[Path | None, optional("FILE.html")] = None,
    validate: Switch = False,
    samples: int = 24,
    json: Switch = False,
) -> int:
    """Write the data card of prepared clips: one HTML page that any browser opens.

    Counts per split, why clips were rejected, verbs and nouns, lengths, hands per frame, motion area, camera
    motion, and a page of samples with mask and skeletons, the worst-looking first.

        handi report data/epic

    Read every clip again and fail, with names, where anything is not as it was written:
        handi report data/epic --validate

    Args:
        folder: What `handi prepare … --out` wrote.
        out: Where the page goes; DIR/report.html by default.
        validate: Check every byte: hashes, pictures, arrays, counts. Exit code 1 where something is damaged.
        samples: Clips shown; half of them the worst, the others spread over the rest.
        json: Print the counts, and with --validate the damages, as JSON.
    """
    from handi.data.report import write_report
    from handi.data.validate import validate as read_again

    if samples < 1:
        usage("report", f"--samples {samples}: use 1 or more")
    damages = read_again(folder) if validate else None
    for damage in (damages or [])[:50]:
        say(f"error: {damage}")
    page, counts = write_report(folder, out, samples=samples, damages=damages)
    say(f"wrote {page}")
    if json:
        print_json({"report": page, **counts})
    if damages:
        hint = "delete the shards that are named and run handi prepare again: it makes what is missing"
        say(f"error: {folder}: {len(damages)} damages; {hint}")
        return 1
    return 0
