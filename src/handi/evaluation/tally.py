"""What is counted while videos pass: scores by figure and video, and why there are none."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from handi.core.errors import HandiError, InputError, OutputError, reason
from handi.evaluation.intervals import mean_interval
from handi.evaluation.metrics.protocol import Features, Figure, Pair, PairMetric, Part

PARTS: dict[Part, str] = {
    "reference": "there is no true video",
    "context": "there is no context image",
    "start": "the generated video has no context image of its own",
    "area": "there is no motion area",
    "text": "there is no text",
    "description": "there is no enriched text",
    "truth": "it is no clip of the synthetic world",
    "siblings": "no other clip starts from the same image, or one that does cannot be read",
}


@dataclass
class Tally:
    """The scores of one generated side."""

    values: dict[str, dict[str, float]] = field(default_factory=dict)  # figure → id → value
    missing: dict[str, dict[str, str]] = field(default_factory=dict)  # figure → id → why

    def score(self, metric: PairMetric, pair: Pair, features: Features) -> None:
        """Let a metric score one video. Nothing that it raises stops the others."""
        lacks = {figure.name: lack_of(pair, (*metric.wants, *figure.wants)) for figure in metric.figures}
        scores: dict[str, float] = {}
        why = ""
        if not all(lacks.values()):
            try:
                scores = metric.scores(pair, features)
            except OutputError:  # a full disk is not this video's fault
                raise
            except Exception as error:
                why = reason(error)
        for figure in metric.figures:
            value = scores.get(figure.name, math.nan)
            if (lack := lacks[figure.name]) is not None or not math.isfinite(value):
                self.missing.setdefault(figure.name, {})[pair.id] = lack or why or figure.none
            else:
                self.values.setdefault(figure.name, {})[pair.id] = float(value)

    def miss(self, metric: PairMetric, id: str, why: str) -> None:
        """Count a video that a metric is not shown."""
        for figure in metric.figures:
            self.missing.setdefault(figure.name, {})[id] = why

    def result(self, figure: Figure, resamples: int) -> dict[str, Any]:
        """The entry of results.json of a figure that is a mean over videos."""
        values = dict(sorted(self.values.get(figure.name, {}).items()))
        missing = dict(sorted(self.missing.get(figure.name, {}).items()))
        if not values:
            return {"skipped": usual(missing.values())}
        found = list(values.values())
        return {
            "value": mean(found),
            "interval": mean_interval(found, resamples),
            "n": len(found),
            "per_video": values,
            "missing": missing,
        }


def mean(values: Sequence[float]) -> float:
    """Mean in float64, rounded once (`math.fsum`), so that no order can change it."""
    return math.fsum(values) / len(values)


def difference(ours: Tally, theirs: Tally, figure: Figure, resamples: int) -> dict[str, Any]:
    """Mean of ours minus theirs over the videos that both have a value of, with its interval (paired)."""
    a, b = ours.values.get(figure.name, {}), theirs.values.get(figure.name, {})
    both = sorted(set(a) & set(b))
    if not both:
        return {"skipped": "no video has a value on both sides"}
    gaps = [a[id] - b[id] for id in both]
    return {"value": mean(gaps), "interval": mean_interval(gaps, resamples), "n": len(both)}


# ------------------------------------------------------------------------------------------ reasons


def failure(error: Exception) -> HandiError:
    """Any exception of an item as that item's failure."""
    return error if isinstance(error, HandiError) else InputError(reason(error))


def usual(reasons: Iterable[str]) -> str:
    """The most frequent of some reasons, and how many others there are."""
    counts = Counter(reasons)
    if not counts:
        return "there is no video"
    first = min(counts, key=lambda why: (-counts[why], why))
    return first if len(counts) == 1 else f"{first} (and {len(counts) - 1} other reasons)"


def lack_of(pair: Pair, parts: Sequence[Part]) -> str | None:
    """Why a metric that wants these parts cannot score a pair, or None."""
    for part in parts:
        value = getattr(pair, part)
        if value is None or (part in ("siblings", "text", "description") and not value):
            return PARTS[part]
    return None
