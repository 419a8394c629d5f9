"""`handi evaluate`: score the videos of one or two folders against the true ones, one video at a time.

A video's way: folder.py (files → entries), pairs.py (entries → pairs), features.py (frames → features),
aggregate.py (scores and features → figures), results.py (figures → results.json, CSV, table).
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

from handi.core.device import choose_device
from handi.core.errors import InputError, OutputError, reason
from handi.core.files import scratch_folder
from handi.core.kinds import is_gif
from handi.core.progress import Progress
from handi.evaluation.aggregate import CONFIDENCE, RESAMPLES, Result, ScoreAccumulator, SetAccumulator
from handi.evaluation.features import FeatureCache
from handi.evaluation.folder import read_videos
from handi.evaluation.metrics import METRICS, check_metric, metric_class
from handi.evaluation.metrics.protocol import PROTOCOL, Figure, Metric, Pair, SetMetric, Unscored
from handi.evaluation.pairs import Pairs, Scope, Subset, TrueAreas, scoped
from handi.evaluation.results import write_results
from handi.evaluation.videos import is_video, kinds_of_area

LIBRARIES = (
    "handi", "torch", "transformers", "numpy", "scipy", "scikit-image", "opencv-python-headless", "av",
)  # fmt: skip
MOST_RESAMPLES = 1_000_000


@dataclass(frozen=True)
class EvaluationConfig:
    """What is measured, and on what."""

    metrics: tuple[str, ...] = ()  # empty: all
    scope: Scope = "full"
    subset: Subset = "all"
    context_frames: int = 1  # at the start of each video, not scored
    resamples: int = RESAMPLES
    device: str = "auto"
    limit: int | None = None  # only the first so many true videos; None: all

    def check(self) -> None:
        """Raises: InputError for an unknown metric or a number out of range."""
        for name in self.metrics:
            check_metric(name)
        if self.context_frames < 0:
            raise InputError(f"{self.context_frames} context frames", hint="use 0 or more")
        if not 2 <= self.resamples <= MOST_RESAMPLES:
            raise InputError(f"{self.resamples} resamples", hint=f"use 2 to {MOST_RESAMPLES:,}")
        if self.limit is not None and self.limit < 1:
            raise InputError(f"--limit {self.limit}", hint="use 1 or more")


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


def evaluate(
    pred: Path, ref: Path, out: Path, config: EvaluationConfig, *, versus: Path | None = None,
    cache_folder: Path | None = None, say: Callable[[str], None] = print, loaded: LoadedMetrics | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Score pred (and versus, on the same videos) against ref; write results.json and .csv.

    Returns the content of results.json. Features are kept in cache_folder (`out`/features if None). `say`
    names the videos that cannot be scored.
    loaded: metrics that are loaded already. Raises: InputError if no video can be scored, OutputError.
    """
    config.check()
    sides = [pred] if versus is None else [pred, versus]
    generated, true = [read_videos(side, say) for side in sides], read_videos(ref, say)
    if loaded is None:
        loaded = load_metrics(config.metrics, config.device)
        loaded.require_any()
    features = FeatureCache(out / "features" if cache_folder is None else cache_folder)
    features.sweep()
    areas = TrueAreas(config.device, features)
    if config.scope != "full" or config.subset != "all":
        areas.require(true.values())
    pairs = Pairs(
        generated,
        true,
        context_frames=config.context_frames,
        areas=areas,
        names=[str(side) for side in sides],
        clips=config.limit,
    )
    if config.subset == "motion-intensive":
        pairs.keep(pairs.intensive())
    for id, why in pairs.refused.items():
        say(f"not scored: {id}: {why}")
    reported = set(pairs.refused)
    if loaded.wants("siblings"):
        pairs.find_siblings()
    wanted = {
        "area": config.scope != "full" or loaded.wants("area"),
        "siblings": loaded.wants("siblings"),
    }
    with scratch_folder(out) as folder, Progress("evaluate", len(pairs.ids), "videos") as bar:
        scores, sets = ScoreAccumulator(len(sides)), SetAccumulator(folder, len(sides))
        for id in pairs.ids:
            try:
                _score(pairs.load(id, **wanted), loaded, scores, sets, features, config.scope)
            except OutputError:  # a full disk is not this video's fault
                raise
            except Exception as error:
                pairs.refused[id] = reason(error)
            bar.advance()
        for id in sorted(set(pairs.refused) - reported):
            say(f"not scored: {id}: {pairs.refused[id]}")
        if not (n := sum(id not in pairs.refused for id in pairs.ids)):
            raise InputError(f"none of {len(pairs.asked)} videos can be scored", where=pred)
        tables = _tables(loaded, scores, sets, config.resamples, 2 * len(sides) - 1)
        sets.close()
    return _write(out, tables, pairs, loaded, config, sides=sides, ref=ref, n=n)


def _score(
    pairs: list[Pair], loaded: LoadedMetrics, scores: ScoreAccumulator, sets: SetAccumulator,
    features: FeatureCache, scope: Scope,
) -> None:  # fmt: skip
    """One video through all metrics."""
    limited: list[Pair] | str  # or why there are none
    try:
        limited = [scoped(pair, scope) for pair in pairs]
    except Unscored as error:
        limited = error.what
    for metric in loaded.metrics:
        to: Any = sets if _is_set_metric(metric) else scores
        shown = limited if metric.scoped else pairs
        if isinstance(shown, str):
            to.miss(metric, pairs[0].id, shown)
        else:
            to.add(metric, shown, features)


def _is_set_metric(metric: Metric) -> bool:
    return hasattr(metric, "extractor")


# ------------------------------------------------------------------------------------------ results


def _tables(
    loaded: LoadedMetrics, scores: ScoreAccumulator, sets: SetAccumulator, resamples: int, count: int
) -> list[dict[str, Result]]:
    """Figure → result: of each side, then of their difference if there are two; `count` tables."""
    tables: list[dict[str, Result]] = [{} for _ in range(count)]
    for name, metric in loaded.by_name.items():
        for figure in _figures(name, metric):
            if isinstance(metric, str):
                results: list[Result] = [{"skipped": metric}] * count
            elif _is_set_metric(metric):
                results = sets.results(cast(SetMetric, metric), resamples)
            else:
                results = scores.results(figure, resamples)
            about = {"metric": name, "title": figure.title, "better": figure.better, "unit": figure.unit}
            for table, result in zip(tables, results, strict=True):
                table[figure.name] = {**result, **about}
    return tables


def _figures(name: str, metric: Metric | str) -> Sequence[Figure]:
    """A metric's figures, even if it is skipped; its name if its very module cannot be imported."""
    try:
        kind: Any = metric_class(name) if isinstance(metric, str) else metric
    except Exception:
        return [Figure(name, name, "neither")]
    figures: Sequence[Figure] = kind.figures
    return figures


def _write(
    out: Path, tables: list[dict[str, Result]], pairs: Pairs, loaded: LoadedMetrics,
    config: EvaluationConfig, *, sides: list[Path], ref: Path, n: int,
) -> dict[str, Any]:  # fmt: skip
    frames, height, width = pairs.shape
    paired = None
    if len(sides) > 1:
        paired = {"versus": str(sides[1]), "metrics": tables[1], "differences": tables[2]}
    results = {
        "protocol": {
            "id": PROTOCOL,
            "scope": config.scope,
            "subset": config.subset,
            "clips": config.limit,
            "area": kinds_of_area(pairs.true[id] for id in pairs.ids),
            "frames": frames - config.context_frames,
            "size": [height, width],
            "resamples": config.resamples,
            "confidence": CONFIDENCE,
        },
        "device": choose_device(config.device),
        "pred": str(sides[0]),
        "ref": str(ref),
        "n": n,
        "asked": len(pairs.asked),
        "refused": dict(sorted(pairs.refused.items())),
        "metrics": tables[0],
        "paired": paired,
        "preprocessing": {metric.name: metric.preprocessing for metric in loaded.metrics},
        "weights": {name: sha for metric in loaded.metrics for name, sha in sorted(metric.weights.items())},
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in LIBRARIES}},
        "notes": _notes(pairs, any(map(_is_set_metric, loaded.metrics))),
    }
    write_results(out, results)
    return results


def _version(library: str) -> str:
    """A library's version; one may be installed under another name, and no run may fail at its very end."""
    try:
        return version(library)
    except PackageNotFoundError:
        return "not installed"


def _notes(pairs: Pairs, set_metrics: bool) -> list[str]:
    notes = []
    made = [entry.video for side in pairs.generated for entry in side.values() if entry.video is not None]
    lossy = [path for path in made if is_video(path)]
    gifs = sum(map(is_gif, lossy))
    if set_metrics and lossy:
        notes.append(
            f"{len(lossy)} generated videos are compressed, which shifts Fréchet and kernel distances: "
            "`handi generate --save-frames` keeps the frames themselves"
        )
    if gifs:
        notes.append(
            f"{gifs} generated videos are GIFs, which changes their colours (256 per frame): use the "
            "method's own frames if you can"
        )
    for what, which in pairs.changes.items():
        notes.append(f"{len(which)} {what}: {_examples(which)}")
    if pairs.no_area:
        notes.append(f"{len(pairs.no_area)} videos have no motion area: {_examples(pairs.no_area)}")
    return notes


def _examples(reasons: dict[str, str], count: int = 3) -> str:
    shown = [f"{id} ({why})" for id, why in sorted(reasons.items())[:count]]
    return ", ".join(shown) + (", …" if len(reasons) > count else "")
