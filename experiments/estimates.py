"""Figures with bootstrap confidence intervals over clips.

Every figure here is a function of sums over clips (a mean, a ratio, the PSNR of a pooled error), so one
routine resamples the clips and gives the interval of any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval, over n clips."""

    value: float
    low: float
    high: float
    n: int

    def text(self, digits: int = 2, scale: float = 1.0, unit: str = "") -> str:
        """As a table's cell: "21.3 (20.9 to 21.7)"."""
        if np.isnan(self.value):
            return "–"
        if np.isinf(self.value):  # the PSNR of no error
            return "exact"
        value, low, high = (f"{scale * x:.{digits}f}" for x in (self.value, self.low, self.high))
        return f"{value}{unit} ({low} to {high})"

    @property
    def percent(self) -> str:
        return self.text(1, 100, " %")


def estimate(statistic: Callable[..., np.ndarray], *columns: Sequence[float]) -> Estimate:
    """`statistic` of the sums of the columns (a number a clip each), with its interval.

    It is given arrays of sums, one entry a resample. Clips in which a column is NaN are left out.
    """
    table = np.array(columns, np.float64)
    table = table[:, np.isfinite(table).all(0)]
    n = table.shape[1]
    if n == 0:
        return Estimate(np.nan, np.nan, np.nan, 0)
    picks = np.random.default_rng(0).integers(n, size=(RESAMPLES, n))
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(statistic(*table.sum(1, keepdims=True))[0])
        spread = statistic(*(column[picks].sum(1) for column in table))
    spread = spread[~np.isnan(spread)]
    if not len(spread):
        return Estimate(value, np.nan, np.nan, n)
    low, high = np.quantile(spread, (0.025, 0.975), method="nearest")
    return Estimate(value, float(low), float(high), n)


def ratio(above: Sequence[float], below: Sequence[float]) -> Estimate:
    """Sum over sum: a share of hands, a relative error."""
    return estimate(np.divide, above, below)


def mean(values: Sequence[float]) -> Estimate:
    """Mean over clips."""
    return ratio(values, np.where(np.isfinite(values), 1.0, np.nan))


def pooled_psnr(errors: Sequence[float], counts: Sequence[float]) -> Estimate:
    """PSNR in dB of all pixels together: summed squared errors (values in [0, 1]) and their numbers.

    Below the mean of the clips' own PSNRs, which forgives a clip that fails.
    """
    return estimate(_decibel, errors, counts)


def psnr_difference(errors: Sequence[float], others: Sequence[float], counts: Sequence[float]) -> Estimate:
    """Pooled PSNR of the first minus that of the second on the same clips, in dB (paired)."""
    return estimate(lambda a, b, n: _decibel(a, n) - _decibel(b, n), errors, others, counts)


def mean_difference(values: Sequence[float], others: Sequence[float]) -> Estimate:
    """Mean of the first minus the second on the same clips (paired)."""
    return mean(np.asarray(values, np.float64) - np.asarray(others, np.float64))


def _decibel(error: np.ndarray, count: np.ndarray) -> np.ndarray:
    return -10 * np.log10(error / count)


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines) + "\n"
