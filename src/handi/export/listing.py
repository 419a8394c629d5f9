"""Formats that are videos and a list of them: what they have in common."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handi.core.errors import InputError
from handi.core.files import replacing, write_text
from handi.core.images import write_image
from handi.core.progress import Progress
from handi.core.video import write_video
from handi.export.clips import ClipSource


@dataclass(frozen=True)
class Row:
    """A clip as a list names it."""

    number: int
    text: str
    video: str  # path in the folder of its split
    area: str  # likewise, of its motion area; "" where the format has none


@dataclass(frozen=True)
class Listing:
    """A format of one project: where videos lie, what lists them, and how its training is started."""

    project: str  # address
    revision: str  # that was read
    video: str  # path in the folder of a split, with {number}
    write_list: Callable[[Path, Sequence[Row], ClipSource], None]
    command: str  # to fine-tune, with {train}: the folder of the training split
    notes: str  # what the user has to know
    area: str = ""  # path of the motion area, with {number}
    chunk: int = 1  # a clip has 1 + chunk·k frames
    multiple: int = 2  # of its sides

    def check(self, clips: ClipSource) -> None:
        """Raises: InputError for clips that the project cannot train on."""
        if (clips.frames - 1) % self.chunk:
            near = 1 + self.chunk * max(1, round((clips.frames - 1) / self.chunk))
            raise InputError(
                f"{self.project} takes 1 + {self.chunk}·k frames, these clips have {clips.frames}",
                hint=f"prepare with --frames {near}",
            )
        if any(side % self.multiple for side in clips.size):
            sides = "×".join(map(str, clips.size))
            raise InputError(
                f"{self.project} takes sides that are multiples of {self.multiple}, these are {sides}",
                hint="prepare with another --size",
            )


def write_listing(form: Listing, clips: ClipSource, out: Path) -> None:
    """Write videos, lists and a README; videos that are there are kept. Raises: OutputError."""
    with Progress("export", len(clips.clips), "clips") as bar:
        for split, some in clips.splits().items():
            folder, rows = out / split, []
            for number, clip in enumerate(some):
                row = Row(
                    number, clip.text, form.video.format(number=number), form.area.format(number=number)
                )
                rows.append(row)
                video, area = folder / row.video, folder / row.area
                if not video.is_file():  # written last of a clip's files
                    content = clip.read()
                    if row.area:
                        area.parent.mkdir(parents=True, exist_ok=True)
                        write_image(area, content.area)
                    video.parent.mkdir(parents=True, exist_ok=True)
                    write_video(video, content.frames, fps=clips.fps)
                bar.advance(1)
            form.write_list(folder, rows, clips)
    write_text(out / "README.md", _readme(form, clips, out))


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a table, whole or not at all. Raises: OutputError."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, columns, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def webvid_list(page: str) -> Callable[[Path, Sequence[Row], ClipSource], None]:
    """A writer of WebVid's CSV, whose rows name a video as PAGE/VIDEOID.mp4."""

    def write(folder: Path, rows: Sequence[Row], clips: ClipSource) -> None:
        lines = [{"videoid": f"{row.number:06d}", "page_dir": page, "name": row.text} for row in rows]
        write_csv(folder / "clips.csv", ("videoid", "page_dir", "name"), lines)

    return write


def _readme(form: Listing, clips: ClipSource, out: Path) -> str:
    height, width = clips.size
    counts = ", ".join(f"{len(some):,} {split}" for split, some in clips.splits().items())
    command = form.command.format(
        train=out.absolute() / "train", frames=clips.frames, height=height, width=width, fps=f"{clips.fps:g}"
    )
    return f"""# Clips for {form.project}

Written by `handi export`: {counts} clips of {clips.frames} frames,
{height}×{width}, {clips.fps:g} per second. Each split is a folder of its own.
The layout follows revision {form.revision}.

Fine-tune, in a checkout of the project:

```
{command.strip()}
```

{form.notes.strip()}

The paper trains every method for 50 epochs or 200,000 iterations, with a batch of 16.
"""
