"""Set metrics: features of all videos in piles on disk, and the distances between the piles."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from handi.core.errors import InputError, OutputError, reason
from handi.evaluation.intervals import distance_interval
from handi.evaluation.metrics.protocol import Features, Pair, SetMetric
from handi.evaluation.piles import Pile
from handi.evaluation.tally import lack_of, usual

Entry = dict[str, Any]


class Sets:
    """The piles of some set metrics: of the true videos, and of each of `sides` generated ones.

    A video is in all piles of an extractor or in none, so that all sides are measured on the same videos.
    """

    def __init__(self, folder: Path, sides: int, metrics: Sequence[SetMetric]) -> None:
        self._folder, self._sides, self._metrics = folder, sides, metrics
        self._piles: dict[str, list[Pile]] = {}  # by extractor: of the reference, then of each side
        self._missing: dict[str, dict[str, str]] = {}  # by extractor: id → why

    def add(self, pairs: Sequence[Pair], features: Features) -> None:
        """Take one video: a pair for each generated side. Nothing that a network raises stops the others."""
        for metric in {metric.extractor.key: metric for metric in self._metrics}.values():
            key = metric.extractor.key
            if (lack := lack_of(pairs[0], ("reference", *metric.wants))) is not None:
                self.miss(pairs[0].id, lack, key)
                continue
            try:
                rows = [features(metric.extractor, frames) for frames in _frames(pairs)]
                if not all(np.isfinite(part).all() for part in rows):
                    raise InputError("its features are not finite")
                piles = self._piles.setdefault(key, [Pile(self._folder) for _ in rows])
                for pile, part in zip(piles, rows, strict=True):
                    pile.check(part)
                for pile, part in zip(piles, rows, strict=True):
                    pile.add(part)
            except OutputError:  # a full disk is not this video's fault
                raise
            except Exception as error:
                self.miss(pairs[0].id, reason(error), key)

    def miss(self, id: str, why: str, key: str | None = None) -> None:
        """Count a video that is in no pile of this extractor, or of none."""
        for one in {metric.extractor.key for metric in self._metrics} if key is None else {key}:
            self._missing.setdefault(one, {})[id] = why

    def results(self, metric: SetMetric, resamples: int) -> list[Entry]:
        """The entry of results.json of each side, then that of their difference where there are two."""
        try:
            return self._results(metric, resamples)
        except Exception as error:
            return [{"skipped": reason(error)} for _ in range(2 * self._sides - 1)]

    def _results(self, metric: SetMetric, resamples: int) -> list[Entry]:
        missing = dict(sorted(self._missing.get(metric.extractor.key, {}).items()))
        if metric.extractor.key not in self._piles:
            raise InputError(usual(missing.values()))
        reference, *sides = self._piles[metric.extractor.key]
        if (n := len(reference)) < 2:
            raise InputError(f"a distance between sets needs 2 videos, there is {n}")

        def distances(picks: np.ndarray | None) -> np.ndarray:
            true = reference.rows(picks)
            return np.array([float(metric.distance(side.rows(picks), true)) for side in sides])

        values = distances(None)
        if not np.isfinite(values).all():
            raise InputError("the distance is not a finite number")
        gap = [values[0] - values[1]] if len(sides) > 1 else []
        # One resampling for all, as a difference is only as wide as what the sides do not share.
        intervals = distance_interval(
            np.array([*values, *gap]),
            lambda picks: _with_gap(distances(picks)),
            n,
            resamples,
        )
        entries: list[Entry] = []
        for value, (low, high) in zip([*values, *gap], intervals, strict=True):
            entry: Entry = {"value": float(value), "interval": [low, high], "n": n, "missing": missing}
            if len(entries) < len(sides) and metric.enough:  # biased, and never below 0
                entry["interval"][0] = max(low, 0.0)
                if n < metric.enough:
                    entry["warning"] = (
                        f"n = {n}: under {metric.enough} videos a Fréchet distance is mostly the bias of a "
                        "small sample; compare it at equal n only"
                    )
            entries.append(entry)
        return entries

    def close(self) -> None:
        """Give the disk space back."""
        for piles in self._piles.values():
            for pile in piles:
                with suppress(OSError):
                    pile.close()


def _frames(pairs: Sequence[Pair]) -> list[Any]:
    return [pairs[0].reference, *(pair.generated for pair in pairs)]


def _with_gap(values: np.ndarray) -> np.ndarray:
    return np.append(values, values[0] - values[1]) if len(values) > 1 else values
