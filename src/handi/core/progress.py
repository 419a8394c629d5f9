"""Progress of long work: a bar on a terminal, a plain line now and then elsewhere. Always on stderr."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

PLAIN_SECONDS = 10.0  # between two plain lines


class Progress:
    """Counts `total` pieces of work called `unit`: `with Progress("render", 100, "clips") as bar: …`.

    `done`: pieces that an earlier run has done; they do not count for the time that is left.
    `every`: seconds between two plain lines.
    """

    def __init__(
        self, what: str, total: int, unit: str, *, done: int = 0, every: float = PLAIN_SECONDS
    ) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.done = self._found = done
        self._every = every
        self._note = ""
        self._begin = self._said = time.monotonic()
        self._bar: RichProgress | None = None
        if sys.stderr.isatty():
            self._bar = RichProgress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn(unit),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task(what, total=total, completed=done, note="")

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif kind is None:
            self._say()

    def advance(self, count: int = 1, note: str | None = None) -> None:
        """`count` more pieces are done. `note` stands behind the figures until another takes its place."""
        self.done += count
        self._note = self._note if note is None else note
        if self._bar is not None:
            self._bar.update(self._task, advance=count, note=self._note)
        elif time.monotonic() - self._said > self._every and self.done < self.total:
            self._say()

    def _say(self) -> None:
        self._said = time.monotonic()
        seconds = self._said - self._begin
        text = f"{self.what}: {self.done} of {self.total} {self.unit}, {seconds:.1f} s"
        if self._found < self.done < self.total:
            left = seconds * (self.total - self.done) / (self.done - self._found)
            text += f", {duration(left)} left"
        print(f"{text}, {self._note}" if self._note else text, file=sys.stderr)


def duration(seconds: float) -> str:
    """A time in words of two units at most: "45 s", "3 min", "2 h 13 min", "5 d 4 h"."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"
