"""Figures with bootstrap confidence intervals over videos."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 1000
SET_SHARE = 20  # a set distance is resampled this many times less often: each costs a whole distance
CHUNK = 64  # resamples drawn at a time
_Z = 1.959963984540054  # standard normal quantile of 0.975

Interval = list[float]  # low, high


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
    the bias of a smaller sample and lies above the value, often all of it. What the bootstrap does tell is
    the spread.
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
