"""Clips out of handi: LeRobot datasets, and the layouts that other projects' training programs read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from handi.core.errors import InputError
from handi.core.files import write_json, writing
from handi.core.reading import read_json
from handi.export import (
    animate_anything,
    cogvideox,
    diffsynth,
    dynamicrafter,
    lerobot,
    ltx_trainer,
    opensora,
    pia,
)
from handi.export.clips import ClipSource, Text, clips_of
from handi.export.listing import write_listing

__all__ = ["FORMATS", "export_clips"]

RECORD = "export.json"  # of what, and how: written first
LISTINGS = {
    "animate-anything": animate_anything.FORMAT,
    "dynamicrafter": dynamicrafter.FORMAT,
    "pia": pia.FORMAT,
    "opensora": opensora.FORMAT,
    "cogvideox": cogvideox.FORMAT,
    "diffsynth": diffsynth.FORMAT,
    "ltx-trainer": ltx_trainer.FORMAT,
}
FORMATS = ("lerobot", *LISTINGS)


def export_clips(
    source: Path, out: Path, form: str, *, text: Text = "enriched", fps: float | None = None,
    say: Callable[[str], None] = print,
) -> ClipSource:  # fmt: skip
    """Write the clips of a prepared or generated folder to `out` as another program reads them; gives them.

    form: one of `FORMATS`. text: the sentence of a clip, the short action where there is no enriched one.
    fps: frames per second of the videos. What is there from an earlier run of the same is kept.
    Raises: InputError, also where `out` holds another export; OutputError.
    """
    if form not in FORMATS:
        raise InputError(f"there is no format {form!r}", hint=f"use {', '.join(FORMATS)}")
    clips = clips_of(source, text, fps)
    for note in clips.notes:
        say(f"note: {note}")
    if form != "lerobot":
        LISTINGS[form].check(clips)
    record = {"format": form, "text": text, "fps": clips.fps, "clips": clips.fingerprint}
    if (out / RECORD).is_file():
        if read_json(out / RECORD) != record:
            raise InputError("holds another export", where=out, hint="choose another --out, or delete it")
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError("holds other files", where=out, hint="choose an empty --out")
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    write_json(out / RECORD, record, indent=1)
    if form == "lerobot":
        lerobot.write_dataset(clips, out)
    else:
        write_listing(LISTINGS[form], clips, out)
    return clips
