"""Clips of the synthetic world in an evaluation: read as entries, and scored against what the world knows.

This is the one place of the evaluation that knows the world. `metrics.METRICS` names its metric.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from handi.core.errors import InputError
from handi.core.images import read_image
from handi.core.types import BinaryMask, Frames
from handi.evaluation.metrics.hand import FindHands
from handi.evaluation.metrics.protocol import Features, Figure, Pair, PairMetric, Unscored
from handi.evaluation.videos import Entry, Shape, evenly
from handi.hands.matching import match_hands
from handi.world.files import FORMAT, kind_of_area, read_area, read_record
from handi.world.judges import ACTION_FRAMES, own_sibling, state_change
from handi.world.truth import OUTSIDE

REQUIRED = ("video", "frames", "size", "text", "enriched", "seed")  # the fields that are read of a record


@dataclass(frozen=True)
class WorldEntry(Entry):
    """A clip that `handi world` wrote: `truth` is its record, `video` a film strip or a video file."""

    def shape(self) -> Shape:
        if not self._is_strip:
            return super().shape()
        record = self.record
        return record["frames"], record["size"], record["size"]

    def frames(self, most: int | None = None) -> Frames:
        if not self._is_strip:
            return super().frames(most)
        (count, height, width), strip = self.shape(), read_image(self._video())
        if strip.shape != (count * height, width, 3):
            raise InputError(f"is no film strip of {count} frames of {width}×{height}", where=self._video())
        return evenly(strip.reshape(count, height, width, 3), most)

    @property
    def has_area(self) -> bool:
        return True

    def area(self) -> BinaryMask | None:
        if self.area_file is not None:
            return super().area()
        return read_area(self._record_path, kind_of_area(self._record_path.parent))

    def kind_of_area(self) -> str:
        if self.area_file is not None:
            return super().kind_of_area()
        return kind_of_area(self._record_path.parent)

    def same_start(self) -> tuple[Path, int]:
        """Equal for all clips that start from one image: folder and seed. Raises: InputError."""
        return self._record_path.resolve().parent, self.record["seed"]

    @property
    def record(self) -> dict[str, Any]:
        """Its record as it is. Raises: InputError."""
        return read_record(self._record_path)

    @property
    def _record_path(self) -> Path:
        assert self.truth is not None  # `world_entry` sets it
        return self.truth

    @property
    def _is_strip(self) -> bool:
        return self._video().suffix == ".png"


def is_world_clip(path: Path) -> bool:
    """Whether a JSON file is the record of a world clip, even a damaged one."""
    with path.open("rb") as file:
        return FORMAT.encode() in file.read(200)


def world_entry(path: Path, id: str | None = None) -> WorldEntry:
    """The entry of a world clip, from its record. Raises: InputError."""
    record = read_record(path)
    if lacking := [key for key in REQUIRED if key not in record]:
        raise InputError(f"the clip is damaged: it has no {lacking[0]!r}", where=path)
    return WorldEntry(
        path.stem if id is None else id,
        video=path.parent / record["video"],
        text=record["text"],
        description=record["enriched"],
        truth=path,
    )


class WorldMetric(PairMetric):
    """The world's judges (docs/world.md): was the action done, and are the hands right?"""

    name = "world"
    figures = (
        Figure("state_change", "state change", "higher",
               of="share of the changed pixels in which the last frame is nearer to the true end than to the "
                  "start: 0 is a still video", none="the true clip ends as it began"),
        Figure("same_context", "own prompt nearest", "higher",
               of="of clips that start from one image, the share nearest to the truth of its own prompt",
               wants=("siblings",)),
        Figure("true_hands_found", "true hands found", "higher",
               of=f"share of the true hands of frames {', '.join(map(str, ACTION_FRAMES))} that Υ finds",
               none="the true clip has no hand in those frames, or other frames"),
        Figure("true_hand_error", "true hands' error", "lower",
               of="mean joint distance of those found from the exact joints, as a share of the hand's box",
               none="none of the true hands is found"),
    )  # fmt: skip
    needs = ("hands",)
    wants = ("truth", "reference", "context")
    scoped = False
    preprocessing = FindHands.preprocessing

    def __init__(self, device: str = "cpu") -> None:
        self.find = FindHands(device)
        self.weights = self.find.weights

    def scores(self, pair: Pair, features: Features) -> dict[str, float]:
        """See `figures`; each is left out if the true clip gives it nothing to judge."""
        assert pair.truth is not None  # they are in `wants`
        assert pair.reference is not None
        assert pair.context is not None
        scores = {}
        try:
            true = np.concatenate([pair.context[None], pair.reference])
            scores["state_change"] = state_change(pair.generated, true)
        except InputError:  # it ends as it began
            pass
        if pair.siblings:
            scores["same_context"] = own_sibling(pair.generated, [pair.reference, *pair.siblings], 0)
        record = read_record(pair.truth)
        if len(pair.generated) == record["frames"] - 1:
            errors = _errors(record, features(self.find, pair.generated))
            found = [error for error in errors if error is not None]
            if errors:
                scores["true_hands_found"] = len(found) / len(errors)
            if found:
                scores["true_hand_error"] = float(np.mean(found))
        if not scores:
            raise Unscored("the true clip gives nothing to judge")
        return scores


def _errors(record: dict[str, Any], found: np.ndarray) -> list[float | None]:
    """For each true hand that counts, its error as a share of its box; None if Υ misses it."""
    joints = np.array(record["joints2d"], np.float32)
    inside = (np.array(record["visible"]) != OUTSIDE) & joints.any(-1)
    errors: list[float | None] = []
    for frame in ACTION_FRAMES:
        hands = [hand for hand in found[frame - 1].reshape(2, 21, 2) if hand.any()]
        errors += match_hands(joints[frame], inside[frame], hands).values()
    return errors
