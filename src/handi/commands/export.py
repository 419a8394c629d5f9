"""`handi export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from handi.commands.options import optional, say


def export(
    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")],
    out: Path,
    to: Literal[
        "lerobot", "animate-anything", "dynamicrafter", "pia", "opensora", "cogvideox", "diffsynth",
        "ltx-trainer",
    ],
    text: Literal["enriched", "short"] = "enriched",
    fps: Annotated[float | None, optional("FLOAT")] = None,
) -> int:  # fmt: skip
    """Write clips as another program reads them: a LeRobot dataset, or training data of a baseline.

    SOURCE is what `handi prepare` wrote, with its splits, or a folder of clips from `handi generate`. It can
    be stopped at any time and resumes when it is run again. OUT/README.md says what lies there and, for a
    baseline, the command that fine-tunes it; docs/baselines.md has a table of the formats.

    A robot's training set, with joints and motion areas:
        handi export data/epic --to lerobot --out data/epic_lerobot

    What a model has generated, likewise:
        handi export out/clips --to lerobot --out data/generated

    The paper's comparison: every method trains on the same clips.
        handi export data/epic --to dynamicrafter --out baselines/dynamicrafter/data

    Longer clips for a baseline of 49 frames:
        handi prepare folder footage --frames 49 --fps 8 --size 480x720 --out data/long
        handi export data/long --to cogvideox --out baselines/cogvideox/data

    Args:
        source: A prepared folder, a folder of generated clips, or one of them.
        out: Folder of the export, new or from an earlier run of the same.
        to: Whose layout is written.
        text: A clip's sentence: the enriched text where it has one, or the short action.
        fps: Frames per second of the videos. Without it those of the clips; clips whose frames are spread
            over their action have none and play at 8.
    """
    from handi.export import export_clips

    clips = export_clips(source, out, to, text=text, fps=fps, say=say)
    counts = ", ".join(f"{len(some):,} {name}" for name, some in clips.splits().items())
    say(f"wrote {out}: {counts} clips; {out / 'README.md'} says how to use them")
    return 0
