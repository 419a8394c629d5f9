"""One video through all metrics, wherever a worker is: what it gives is a line of the ledger."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from handi.core.device import choose_device, one_thread, worker_device
from handi.core.errors import InputError, OutputError, reason
from handi.core.ledger import Line
from handi.evaluation.features import FeatureCache
from handi.evaluation.metrics import METRICS, metric_class
from handi.evaluation.metrics.protocol import Metric, Pair, PairMetric, Part, SetMetric, Unscored
from handi.evaluation.pairs import Pairs, Scope, TrueAreas, scoped

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
DIES = "the workers that are given it die; use fewer --workers if memory is short"


class LoadedMetrics:
    """The metrics of a run by name, ready to score, or the reason why one is skipped."""

    def __init__(self, by_name: Mapping[str, Metric | str]) -> None:
        self.by_name = by_name
        self.skipped = {name: why for name, why in by_name.items() if isinstance(why, str)}
        self.metrics = [metric for metric in by_name.values() if not isinstance(metric, str)]

    def wants(self, part: str) -> bool:
        """Whether any metric or figure wants this part of a pair."""
        return any(
            part in (*metric.wants, *figure.wants) for metric in self.metrics for figure in metric.figures
        )

    def require_any(self) -> None:
        """Raises: InputError if no metric at all can be measured."""
        if not self.metrics:
            reasons = "; ".join(f"{name}: {why}" for name, why in self.skipped.items())
            raise InputError(f"none of the metrics can be measured ({reasons})", where="--metrics")


def load_metrics(names: Sequence[str], device: str) -> LoadedMetrics:
    """The metrics of these names, all if there are none; those without weights say why."""
    device = choose_device(device)
    by_name: dict[str, Metric | str] = {}
    chosen = [name for name in METRICS if not names or name in names]
    for name in [*chosen, *(name for name in names if name not in METRICS)]:
        try:
            by_name[name] = metric_class(name)(device)
        except Exception as error:  # a library that is missing or does not fit stops no other metric
            by_name[name] = reason(error)
    return LoadedMetrics(by_name)


def own_metrics(names: tuple[str, ...]) -> dict[str, str]:
    """The metrics that are named by a file, and a hash of that file."""
    files = {name: Path(name.rpartition(":")[0]) for name in names if ":" in name}
    return {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in files.items()}


@dataclass(frozen=True)
class WorkerMaker:
    """What a worker of an evaluation is made of. Pickled, it leaves its networks behind: they are loaded
    anew where it works, on the device that its number gives it."""

    pairs: Pairs
    features: Path  # folder of the cache
    device: str
    loaded: LoadedMetrics | None  # None: to be loaded
    names: tuple[str, ...]  # of the metrics that could be loaded

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"loaded": None}

    def tools(self, number: int) -> tuple[Pairs, LoadedMetrics, FeatureCache]:
        """The pairs, metrics and cache of worker `number`. Raises: InputError where it has other metrics."""
        cache = FeatureCache(self.features)
        if self.loaded is not None:
            return self.pairs, self.loaded, cache
        device = worker_device(self.device, number)
        self.pairs.areas = TrueAreas(device, cache)
        loaded = load_metrics(self.names, device)
        if loaded.skipped:
            reasons = "; ".join(f"{name}: {why}" for name, why in loaded.skipped.items())
            raise InputError(f"a worker cannot load its metrics ({reasons})", where="--metrics")
        return self.pairs, loaded, cache


@dataclass(frozen=True)
class ScorerMaker(WorkerMaker):
    """Makes what scores videos: (id, key) → its line of the ledger."""

    scope: Scope

    def __call__(self, number: int) -> Callable[[tuple[str, str]], Line]:
        pairs, loaded, features = self.tools(number)

        def work(item: tuple[str, str]) -> Line:
            id, key = item
            line: Line = {"id": id, "key": key, "refused": None}
            try:
                with one_thread():
                    line |= _scored(pairs, id, loaded, features, self.scope)
            except OutputError:  # a full disk is not this video's fault
                raise
            except Exception as error:
                line["refused"] = reason(error)
            return line | pairs.noted(id)

        return work


def lost(item: tuple[str, str]) -> Line:
    """The line of a video on which workers have died."""
    return {"id": item[0], "key": item[1], "refused": DIES}


def area_lost(id: str) -> Line:
    """The line of a video on whose area workers have died."""
    return {"id": id, "share": None, "changes": {}, "no_area": DIES}


@dataclass(frozen=True)
class AreaMaker(WorkerMaker):
    """Makes what measures true motion areas: id → a line with its share of the frame, None for none."""

    def __call__(self, number: int) -> Callable[[str], Line]:
        pairs, _, _ = self.tools(number)

        def work(id: str) -> Line:
            with one_thread():
                share = pairs.area_share(id)
            return {"id": id, "share": share} | pairs.noted(id)

        return work


def _scored(
    pairs: Pairs, id: str, loaded: LoadedMetrics, features: FeatureCache, scope: Scope
) -> dict[str, Any]:
    """What all metrics say of a video: scores and gaps of each side, and the names of its sets' features."""
    found = pairs.load(id, area=scope != "full" or loaded.wants("area"), siblings=loaded.wants("siblings"))
    limited: list[Pair] | str  # or why there are none
    try:
        limited = [scoped(pair, scope) for pair in found]
    except Unscored as error:
        limited = error.what
    sides: list[dict[str, dict[str, Any]]] = [{"values": {}, "missing": {}} for _ in found]
    sets: dict[str, dict[str, Any]] = {}
    for metric in loaded.metrics:
        shown = limited if metric.scoped else found
        if is_set_metric(metric):
            if (key := set_key(cast(SetMetric, metric))) not in sets:  # else another metric's
                sets[key] = _set_features(metric, shown, features)
            continue
        for side, scores in zip(sides, _scores(metric, shown, len(found), features), strict=True):
            for part in side:
                side[part] |= scores[part]
    return {"sides": sides, "sets": sets}


def _scores(
    metric: Any, pairs: list[Pair] | str, sides: int, features: FeatureCache
) -> Iterator[dict[str, dict[str, Any]]]:
    """Of each side: figure → value, and figure → why there is none. No exception of a metric stops others."""
    if isinstance(pairs, str):
        for _ in range(sides):
            yield {"values": {}, "missing": {figure.name: pairs for figure in metric.figures}}
        return
    assert isinstance(metric, PairMetric)
    for pair in pairs:
        lacks = {figure: _lack(pair, (*metric.wants, *figure.wants)) for figure in metric.figures}
        scores: dict[str, float] = {}
        why = ""
        if not all(lacks.values()):
            try:
                scores = metric.scores(pair, features)
            except OutputError:  # a full disk is not this video's fault
                raise
            except Exception as error:
                why = reason(error)
        values, missing = {}, {}
        for figure, lack in lacks.items():
            value = scores.get(figure.name, math.nan)
            if lack is not None or not math.isfinite(value):
                missing[figure.name] = lack or why or figure.none
            else:
                values[figure.name] = float(value)
        yield {"values": values, "missing": missing}


def _set_features(metric: Any, pairs: list[Pair] | str, features: FeatureCache) -> dict[str, Any]:
    """The names of the features of the true video and of each side, or why there are none."""
    if isinstance(pairs, str):
        return {"missing": pairs}
    if (lack := _lack(pairs[0], ("reference", *metric.wants))) is not None:
        return {"missing": lack}
    videos: list[Any] = [pairs[0].reference, *(pair.generated for pair in pairs)]
    try:
        found = [features.find(metric.extractor, frames) for frames in videos]
        if not all(np.isfinite(rows).all() for _, rows in found):
            raise InputError("its features are not finite")
    except OutputError:  # a full disk is not this video's fault
        raise
    except Exception as error:
        return {"missing": reason(error)}
    return {"features": [name for name, _ in found]}


def is_set_metric(metric: Metric) -> bool:
    """Whether a metric compares sets of videos."""
    return hasattr(metric, "extractor")


def set_key(metric: SetMetric) -> str:
    """What metrics that share features have in common."""
    return f"{metric.extractor.key}{' in the scope' if metric.scoped else ''}"


def _lack(pair: Pair, parts: Sequence[Part]) -> str | None:
    """Why a metric that wants these parts cannot score a pair, or None."""
    for part in parts:
        value = getattr(pair, part)
        if value is None or (part in ("siblings", "text", "description") and not value):
            return PARTS[part]
    return None
