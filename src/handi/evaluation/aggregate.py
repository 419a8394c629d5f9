"""From the scores and features of videos to figures: means and distances, with bootstrap intervals."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from handi.core.errors import InputError, OutputError, reason
from handi.evaluation.features import FeatureStore
from handi.evaluation.metrics.protocol import Figure, SetMetric
from handi.evaluation.scoring import set_key

CONFIDENCE = 0.95
RESAMPLES = 1000
SET_SHARE = 20  # a set distance is resampled this many times less often: each costs a whole distance
CHUNK = 64  # resamples drawn at a time
_Z = 1.959963984540054  # standard normal quantile of 0.975

Interval = list[float]  # low, high
Result = dict[str, Any]  # what results.json says of a figure: {"value", "interval", "n", …} or {"skipped"}


class ScoreAccumulator:
    """The scores of videos and why they are missing, for each of `sides` folders of generated videos."""

    def __init__(self, sides: int) -> None:
        # Per side: figure → id → value, figure → id → why there is none.
        self._values = [defaultdict[str, dict[str, float]](dict) for _ in range(sides)]
        self._missing = [defaultdict[str, dict[str, str]](dict) for _ in range(sides)]

    def take(self, id: str, sides: Sequence[Mapping[str, Mapping[str, Any]]]) -> None:
        """What a ledger's line says of a video: the values of each side, and why others are missing."""
        for side, values, missing in zip(sides, self._values, self._missing, strict=True):
            for figure, value in side["values"].items():
                values[figure][id] = value
            for figure, why in side["missing"].items():
                missing[figure][id] = why

    def results(self, figure: Figure, resamples: int) -> list[Result]:
        """The result of each side, then that of their difference if there are two."""
        both = [values[figure.name] for values in self._values]
        found = [
            _result(values, missing[figure.name], resamples)
            for values, missing in zip(both, self._missing, strict=True)
        ]
        return found if len(both) == 1 else [*found, _difference(both[0], both[1], resamples)]


def _result(values: dict[str, float], missing: dict[str, str], resamples: int) -> Result:
    if not values:
        return {"skipped": most_common(missing.values())}
    values = dict(sorted(values.items()))
    return _mean(list(values.values()), resamples) | {
        "per_video": values,
        "missing": dict(sorted(missing.items())),
    }


def _difference(ours: dict[str, float], theirs: dict[str, float], resamples: int) -> Result:
    """Ours minus theirs over the videos that have a value on both sides (paired)."""
    both = sorted(set(ours) & set(theirs))
    if not both:
        return {"skipped": "no video has a value on both sides"}
    return _mean([ours[id] - theirs[id] for id in both], resamples)


def _mean(values: Sequence[float], resamples: int) -> Result:
    # `math.fsum` rounds once, so that no order can change the mean.
    value = math.fsum(values) / len(values)
    return {"value": value, "interval": mean_interval(values, resamples), "n": len(values)}


class SetAccumulator:
    """The features of all videos, and the distances between the true and each of `sides` generated sets.

    Metrics with one extractor share its features. A video counts on all sides or on none, so that all sides
    are measured on the same videos.
    """

    def __init__(self, folder: Path, sides: int) -> None:
        self._folder, self._sides = folder, sides
        # By `set_key`: features of the true, then of each side; id → why there are none.
        self._stores: dict[str, list[FeatureStore]] = {}
        self._missing = defaultdict[str, dict[str, str]](dict)

    def take(self, id: str, key: str, rows: Sequence[np.ndarray]) -> None:
        """The features of the true video and of each side. Videos are to come in the same order always, as
        sums are rounded."""
        try:
            stores = self._stores.setdefault(key, [FeatureStore(self._folder) for _ in rows])
            for store, part in zip(stores, rows, strict=True):
                store.check(part)
            for store, part in zip(stores, rows, strict=True):
                store.add(part)
        except OutputError:  # a full disk is not this video's fault
            raise
        except Exception as error:
            self.miss(id, key, reason(error))

    def miss(self, id: str, key: str, why: str) -> None:
        """Count a video that is not in the sets of a key."""
        self._missing[key][id] = why

    def results(self, metric: SetMetric, resamples: int) -> list[Result]:
        """The result of each side, then that of their difference if there are two."""
        try:
            return self._results(metric, resamples)
        except Exception as error:
            return [{"skipped": reason(error)} for _ in range(2 * self._sides - 1)]

    def _results(self, metric: SetMetric, resamples: int) -> list[Result]:
        missing = dict(sorted(self._missing[set_key(metric)].items()))
        if set_key(metric) not in self._stores:
            raise InputError(most_common(missing.values()))
        reference, *sides = self._stores[set_key(metric)]
        if (n := len(reference)) < 2:
            raise InputError(f"a distance between sets needs 2 videos, there is {n}")

        def distances(picks: np.ndarray | None) -> np.ndarray:
            true = reference.rows(picks)
            values = [float(metric.distance(side.rows(picks), true)) for side in sides]
            # One resampling for all: a difference is only as wide as what the sides do not share.
            return np.array([*values, values[0] - values[1]] if len(values) > 1 else values)

        values = distances(None)
        if not np.isfinite(values).all():
            raise InputError("the distance is not a finite number")
        results: list[Result] = []
        for value, (low, high) in zip(
            values, distance_interval(values, distances, n, resamples), strict=True
        ):
            found: Result = {"value": float(value), "interval": [low, high], "n": n, "missing": missing}
            if len(results) < len(sides) and metric.enough:  # biased, and never below 0
                found["interval"][0] = max(low, 0.0)
                if n < metric.enough:
                    found["warning"] = (
                        f"n = {n}: under {metric.enough} videos a Fréchet distance is mostly the bias of a "
                        "small sample; compare it at equal n only"
                    )
            results.append(found)
        return results

    def close(self) -> None:
        """Free the disk space."""
        for stores in self._stores.values():
            for store in stores:
                store.close()


# ---------------------------------------------------------------------------------------- intervals


def mean_interval(values: Sequence[float], resamples: int = RESAMPLES) -> Interval | None:
    """Percentile bootstrap of the mean over videos; None for fewer than two.

    The order of the values counts (give them by sorted id), the number of calls before does not.
    """
    if len(values) < 2:
        return None
    array = np.asarray(values, np.float64)
    means = np.concatenate([array[picks].mean(1) for picks in _picks(len(array), resamples)])
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, (tail, 1 - tail))
    return [float(low), float(high)]


def distance_interval(
    values: np.ndarray, of_picks: Callable[[np.ndarray], np.ndarray], n: int, resamples: int
) -> list[Interval]:
    """values ± 1.96 standard deviations of what `of_picks` makes of n resampled video numbers.

    A percentile interval would be wrong here: a resample has fewer distinct videos, so its distance carries
    the bias of a smaller sample and lies above the value, often all of it. The bootstrap does give the
    spread.
    """
    count = max(resamples // SET_SHARE, 2)
    again = np.stack([of_picks(picks[0]) for picks in _picks(n, count, chunk=1)])
    reach = _Z * np.std(again, axis=0, ddof=1)
    return [[float(value - far), float(value + far)] for value, far in zip(values, reach, strict=True)]


def _picks(n: int, resamples: int, chunk: int = CHUNK) -> Iterator[np.ndarray]:
    """Resamples of n videos, some at a time: r×n numbers. The same for every figure of the same n."""
    rng = np.random.default_rng(0)
    for first in range(0, resamples, chunk):
        yield rng.integers(n, size=(min(chunk, resamples - first), n))


# ------------------------------------------------------------------------------------------ reasons


def most_common(reasons: Iterable[str]) -> str:
    """The most frequent of some reasons, and how many others there are."""
    counts = Counter(reasons)
    if not counts:
        return "there is no video"
    first = min(counts, key=lambda why: (-counts[why], why))
    return first if len(counts) == 1 else f"{first} (and {len(counts) - 1} other reasons)"
