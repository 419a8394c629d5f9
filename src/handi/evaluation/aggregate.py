"""From the scores and features of videos to figures: means and distances, with bootstrap intervals."""

from __future__ import annotations

import math
import pickle
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from handi.core.device import one_thread
from handi.core.errors import InputError, OutputError, reason
from handi.core.executors import HERE, Executor
from handi.core.progress import Progress
from handi.evaluation.features import FeatureStore
from handi.evaluation.metrics.protocol import Figure, SetMetric
from handi.evaluation.scoring import DIES, set_key

CONFIDENCE = 0.95
RESAMPLES = 1000
SET_SHARE = 20  # a set distance is resampled this many times less often: each costs a whole distance
WORTH = 32 << 20  # bytes of features from which on processes are started to measure distances
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
        # metric → number of the resample, -1 for all videos → distances, or why there are none
        self._distances = defaultdict[str, dict[int, list[float] | str]](dict)

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

    def measure(self, metrics: Sequence[SetMetric], resamples: int, executor: Executor) -> None:
        """Measure all distances, and those of resamples for their intervals, by an executor's workers."""
        again = max(resamples // SET_SHARE, 2)
        ready = [m for m in metrics if len(self._stores.get(set_key(m), [()])[0]) >= 2]
        maker = DistanceMaker({m.name: (m.distance, self._stores[set_key(m)]) for m in ready})
        if not maker.is_worth_sharing():
            executor = HERE
        pieces = [(metric.name, number) for metric in ready for number in range(-1, again)]
        with Progress("distances", len(pieces), "resamples") as bar:
            for name, number, values in executor.run(maker, pieces, lambda piece: (*piece, DIES)):
                self._distances[name][number] = values
                bar.advance()

    def results(self, metric: SetMetric) -> list[Result]:
        """The result of each side, then that of their difference if there are two; after `measure`."""
        try:
            return self._results(metric)
        except Exception as error:
            return [{"skipped": reason(error)} for _ in range(2 * self._sides - 1)]

    def _results(self, metric: SetMetric) -> list[Result]:
        missing = dict(sorted(self._missing[set_key(metric)].items()))
        if set_key(metric) not in self._stores:
            raise InputError(most_common(missing.values()))
        if (n := len(self._stores[set_key(metric)][0])) < 2:
            raise InputError(f"a distance between sets needs 2 videos, there is {n}")
        found = dict(sorted(self._distances[metric.name].items()))
        if failed := [values for values in found.values() if isinstance(values, str)]:
            raise InputError(failed[0])
        values, *again = (np.array(values) for values in found.values())
        if not np.isfinite(values).all():
            raise InputError("the distance is not a finite number")
        results: list[Result] = []
        for value, (low, high) in zip(values, distance_interval(values, np.stack(again)), strict=True):
            one: Result = {"value": float(value), "interval": [low, high], "n": n, "missing": missing}
            if len(results) < self._sides and metric.enough:  # biased, and never below 0
                one["interval"][0] = max(low, 0.0)
                if n < metric.enough:
                    one["warning"] = (
                        f"n = {n}: under {metric.enough} videos a Fréchet distance is mostly the bias of a "
                        "small sample; compare it at equal n only"
                    )
            results.append(one)
        return results

    def close(self) -> None:
        """Free the disk space."""
        for stores in self._stores.values():
            for store in stores:
                store.close()


@dataclass(frozen=True)
class DistanceMaker:
    """Makes what measures distances: (metric, number of the resample or -1 for the videos themselves) → both,
    and the distance of each side to the true set and of the two; a text where there is none."""

    sets: dict[str, tuple[Callable[..., float], list[FeatureStore]]]

    def is_worth_sharing(self) -> bool:
        """Whether other processes can measure it, which metrics of one's own may not, and save time by it."""
        try:
            if max((store.bytes for _, stores in self.sets.values() for store in stores), default=0) < WORTH:
                return False
            pickle.dumps([distance for distance, _ in self.sets.values()])
        except Exception:
            return False
        return True

    def __call__(self, number: int) -> Callable[[tuple[str, int]], tuple[str, int, list[float] | str]]:
        def work(piece: tuple[str, int]) -> tuple[str, int, list[float] | str]:
            try:
                with one_thread():
                    return *piece, self._values(*piece)
            except OutputError:
                raise
            except Exception as error:
                return *piece, reason(error)

        return work

    def _values(self, name: str, number: int) -> list[float]:
        distance, (reference, *sides) = self.sets[name]
        # One resampling for all: a difference is only as wide as what the sides do not share.
        picks = None
        if number >= 0:
            n = len(reference)
            picks = np.random.default_rng((0, number)).integers(n, size=n)
        true = reference.rows(picks)
        values = [float(distance(side.rows(picks), true)) for side in sides]
        return [*values, values[0] - values[1]] if len(values) > 1 else values


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


def distance_interval(values: np.ndarray, again: np.ndarray) -> list[Interval]:
    """values (k) ± 1.96 standard deviations of those of resamples (r×k).

    A percentile interval would be wrong here: a resample has fewer distinct videos, so its distance carries
    the bias of a smaller sample and lies above the value, often all of it. The bootstrap does give the
    spread.
    """
    reach = _Z * np.std(again, axis=0, ddof=1)
    return [[float(value - far), float(value + far)] for value, far in zip(values, reach, strict=True)]


def _picks(n: int, resamples: int) -> Iterator[np.ndarray]:
    """Resamples of n videos, some at a time: r×n numbers. The same for every figure of the same n."""
    rng = np.random.default_rng(0)
    for first in range(0, resamples, CHUNK):
        yield rng.integers(n, size=(min(CHUNK, resamples - first), n))


# ------------------------------------------------------------------------------------------ reasons


def most_common(reasons: Iterable[str]) -> str:
    """The most frequent of some reasons, and how many others there are."""
    counts = Counter(reasons)
    if not counts:
        return "there is no video"
    first = min(counts, key=lambda why: (-counts[why], why))
    return first if len(counts) == 1 else f"{first} (and {len(counts) - 1} other reasons)"
