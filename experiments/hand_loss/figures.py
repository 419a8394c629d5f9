"""Figures of `train.py`, with intervals over seeds and clips, and paired differences between arms.

A run's rows are those of `experiments.mini.measures.score_videos`, one per clip; the reference is the plain
reconstruction's rows: a hand that Υ does not find there cannot be asked of stage 2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.estimates import RESAMPLES, Estimate
from handi.hands.matching import REACH

Rows = list[dict[str, Any]]
# name → digits, scale and unit in the tables
FIGURES: dict[str, tuple[int, float, str]] = {
    "hands found again": (1, 100, " %"),
    "joint error of those found / box": (3, 1, ""),
    f"joint error, {REACH} where missed": (3, 1, ""),
    "PSNR in the area": (2, 1, " dB"),
    "state change": (3, 1, ""),
}
FOUND, ERROR, ALL_ERROR, PSNR, STATE = FIGURES
Sums = tuple[np.ndarray, np.ndarray]  # numerators and denominators, seeds × clips


@dataclass(frozen=True)
class Difference:
    """An arm minus another."""

    estimate: Estimate
    seeds: list[float]  # of each seed alone


def hand_errors(rows: Rows) -> list[np.ndarray]:
    """Errors of the acting hands of each clip, NaN for those missed."""
    return [
        np.array([np.nan if e is None else e for e in row["hands"]], np.float64)[
            np.array(row["acting"], bool)
        ]
        for row in rows
    ]


def sums_of(name: str, rows: Rows, reference: Rows, others: Rows | None = None) -> Sums:
    """Numerator and denominator of a figure for each clip of one run.

    Hands are those found in the reference. The error of those found is over the hands that are found in
    `others` too, where that is given: an arm that finds more finds the harder ones.
    """
    if name == PSNR:
        return _array(rows, "error"), _array(rows, "count")
    if name == STATE:
        known = np.array([row["state"] is not None for row in rows], float)
        return np.array([row["state"] or 0.0 for row in rows]), known
    both = others if others is not None else rows
    pairs = []
    for mine, theirs, plain in zip(*map(hand_errors, (rows, both, reference)), strict=True):
        there = np.isfinite(plain)
        mine, theirs = mine[there], theirs[there]
        if name == FOUND:
            pairs.append((np.isfinite(mine).sum(), len(mine)))
        elif name == ALL_ERROR:
            pairs.append((np.nan_to_num(mine, nan=REACH).sum(), len(mine)))
        else:
            kept = np.isfinite(mine) & np.isfinite(theirs)
            pairs.append((mine[kept].sum(), kept.sum()))
    above, below = np.array(pairs, np.float64).T
    return above, below


def _array(rows: Rows, name: str) -> np.ndarray:
    return np.array([row[name] for row in rows], np.float64)


def _statistic(name: str) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    if name == PSNR:
        return lambda error, count: -10 * np.log10(error / count)
    return np.divide


def _stacked(name: str, runs: Sequence[Rows], reference: Rows, others: Sequence[Rows] | None = None) -> Sums:
    each = [
        sums_of(name, rows, reference, others[n] if others is not None else None)
        for n, rows in enumerate(runs)
    ]
    return np.stack([above for above, _ in each]), np.stack([below for _, below in each])


def _resampled(seeds: int, clips: int) -> tuple[np.ndarray, np.ndarray]:
    """How often each seed and each clip is drawn: R×S and R×C. Both are drawn anew, independently."""
    rng = np.random.default_rng(0)
    return (
        rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=RESAMPLES).astype(float),
        rng.multinomial(clips, np.full(clips, 1 / clips), size=RESAMPLES).astype(float),
    )


def _estimate(statistic: Callable[..., np.ndarray], *tables: np.ndarray) -> Estimate:
    """`statistic` of the sums over tables seeds × clips, with its 95 % interval over seeds and clips."""
    seeds, clips = tables[0].shape
    per_seed, per_clip = _resampled(seeds, clips)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(statistic(*(t.sum() for t in tables)))
        spread = statistic(*(np.einsum("rs,sc,rc->r", per_seed, t, per_clip) for t in tables))
    spread = spread[np.isfinite(spread)]
    low, high = np.quantile(spread, (0.025, 0.975)) if len(spread) else (np.nan, np.nan)
    return Estimate(value, float(low), float(high), clips)


def cell(name: str, value: Estimate) -> str:
    """A figure, or a difference of two, as a table has it."""
    digits, scale, unit = FIGURES[name]
    return value.text(digits, scale, unit)


def lines_of(differences: Mapping[str, Difference]) -> list[list[str]]:
    """A table's lines: the figure, its difference, that of each seed, whether the interval excludes 0."""
    lines = []
    for name, value in differences.items():
        digits, scale, _ = FIGURES[name]
        seeds = ", ".join(f"{scale * one:+.{digits}f}" if np.isfinite(one) else "–" for one in value.seeds)
        sure = "yes" if value.estimate.low > 0 or value.estimate.high < 0 else ""
        lines.append([name, cell(name, value.estimate), seeds, sure])
    return lines


def summarise(runs: Sequence[Rows], reference: Rows) -> dict[str, Estimate]:
    """Every figure of an arm, its seeds together."""
    return {name: _estimate(_statistic(name), *_stacked(name, runs, reference)) for name in FIGURES}


def compare(runs: Sequence[Rows], base: Sequence[Rows], reference: Rows) -> dict[str, Difference]:
    """Every figure of an arm minus the base's, on the same seeds and clips (paired)."""
    result = {}
    for name in FIGURES:
        statistic = _statistic(name)

        def minus(*sums: np.ndarray, statistic: Callable[..., np.ndarray] = statistic) -> np.ndarray:
            return statistic(*sums[:2]) - statistic(*sums[2:])

        tables = (*_stacked(name, runs, reference, base), *_stacked(name, base, reference, runs))
        with np.errstate(divide="ignore", invalid="ignore"):
            seeds = minus(*(t.sum(1) for t in tables))
        result[name] = Difference(_estimate(minus, *tables), seeds.tolist())
    return result
