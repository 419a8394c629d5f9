"""The log of a run: one JSON object per line first; TensorBoard and trackio where asked for.

    {"step": 120, "time": 1790000000.0, "kind": "train", "total": 0.31, "noise": 0.3, "lr": 5e-05, …}

A line is handed to the system as soon as it is written, so a kill loses at most the one in the making.
Not-a-number and infinity are null: JSON has no word for them. `time` is in seconds since 1970.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from handi.core.errors import InputError
from handi.core.files import replacing, writing
from handi.core.reading import parse_json

TRACKERS = ("tensorboard", "trackio")


class RunLog:
    """`with RunLog(RUN/"log.jsonl", step=resumed_step) as log: log.write(step, {"noise": …})`.

    step: the step that the run resumes from, 0 for a new one. Lines of later steps, left by a run that was
    killed after its last checkpoint, are cut, so that the curve has no doubles. Only rank 0 should have one.
    trackers: names out of TRACKERS that get every line too, in RUN/tensorboard or trackio's own place.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        step: int = 0,
        trackers: Sequence[str] = (),
        recipe: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = Path(path)
        self._trackers = [_tracker(name, self.path.parent, step, recipe or {}) for name in trackers]
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.exists():
                _cut(self.path, step)
            self._file = self.path.open("a", encoding="utf-8", buffering=1)

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def write(self, step: int, values: Mapping[str, Any], *, kind: str = "train") -> None:
        """Add a line. Tensors of one number are read (which waits for a GPU), so call it when it is due.

        kind: "train", "validate", …; trackers see "kind/name". Raises: OutputError.
        """
        plain = {name: _plain(value) for name, value in values.items()}
        line = {"step": step, "time": round(time.time(), 3), "kind": kind, **plain}
        with writing(self.path):
            self._file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")
        numbers = {
            f"{kind}/{name}": value
            for name, value in plain.items()
            if isinstance(value, (int, float)) and not isinstance(value, bool)
        }
        for tracker in self._trackers:
            tracker.log(numbers, step=step)

    def close(self) -> None:
        """Close the file and the trackers."""
        self._file.close()
        for tracker in self._trackers:
            tracker.finish()
        self._trackers = []


class Means:
    """Means of named scalars over several steps; what is not a number in a step is left out of its mean."""

    def __init__(self) -> None:
        self._values: dict[str, list[Tensor]] = {}

    def add(self, terms: Mapping[str, Tensor | float]) -> None:
        """One forward pass's values; they are not read yet, so that a GPU need not be waited for."""
        for name, value in terms.items():
            tensor = value.detach().float() if isinstance(value, Tensor) else torch.tensor(float(value))
            self._values.setdefault(name, []).append(tensor)

    def take(self) -> dict[str, float]:
        """The means (NaN where a term was never a number), and begin anew."""
        means = {name: float(torch.stack(values).nanmean()) for name, values in self._values.items()}
        self._values = {}
        return means


def read_log(path: str | Path, *, kind: str | None = None) -> list[dict[str, Any]]:
    """The lines of a log, of one kind if named. A last line that broke off is left out.

    Raises: InputError for a file that cannot be read, or a line before the last that is damaged.
    """
    return [line for _, line in _lines(Path(path)) if kind is None or line["kind"] == kind]


def _lines(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", where=path) from error
    pieces = raw.split(b"\n")
    whole, rest = pieces[:-1], pieces[-1]  # what follows the last line feed was never finished
    del rest
    for number, text in enumerate(whole, start=1):
        try:
            line = parse_json(text, path, checked=False)
            line["step"] = int(line["step"])
            line["kind"]
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise InputError(
                f"line {number} is damaged ({error})", where=path, hint="remove that line, or the file"
            ) from error
        yield text, line


def _cut(path: Path, step: int) -> None:
    """Drop the lines beyond a step, and a last one that broke off; at once or not at all."""
    kept = [text for text, line in _lines(path) if line["step"] <= step]
    with replacing(path) as temporary:
        temporary.write_bytes(b"".join(text + b"\n" for text in kept))


def _plain(value: Any) -> Any:
    """A tensor or numpy scalar as a Python number; what JSON cannot say as None."""
    if isinstance(value, Tensor) or hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _tracker(name: str, folder: Path, step: int, recipe: Mapping[str, Any]) -> Any:
    """One of accelerate's trackers, started. Raises: InputError for an unknown or uninstalled one."""
    if name not in TRACKERS:
        raise InputError(f"run.trackers names {name!r}", hint=f"choose from {', '.join(TRACKERS)}")
    if find_spec(name) is None:
        raise InputError(f"{name} is not installed", hint="run: pip install 'handi[track]'")
    from accelerate.tracking import TensorBoardTracker, TrackioTracker

    if name == "tensorboard":
        # what an earlier piece wrote beyond the step it is resumed from is hidden
        tracker = TensorBoardTracker("tensorboard", folder, purge_step=step + 1)
        tracker.start()
        tracker.log({"recipe": json.dumps(recipe, indent=2, default=str)}, step=step)
    else:
        tracker = TrackioTracker("handi", name=folder.resolve().name, resume="allow", config=dict(recipe))
        tracker.start()
    return tracker
