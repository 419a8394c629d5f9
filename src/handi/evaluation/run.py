"""`handi evaluate`: score the videos of one or two folders against the true ones, one video at a time.

A video's way: folder.py (files → entries), pairs.py (entries → pairs), scoring.py (pairs → a line of the
ledger, by any worker), features.py (frames → features), aggregate.py (lines and features → figures),
results.py (figures → results.json, CSV, table).
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

import numpy as np

from handi.core.device import choose_device
from handi.core.errors import InputError
from handi.core.executors import HERE, Executor, Serial
from handi.core.files import scratch_folder
from handi.core.kinds import is_gif
from handi.core.ledger import LEDGER, Ledger, Line
from handi.core.progress import Progress
from handi.evaluation.aggregate import CONFIDENCE, RESAMPLES, Result, ScoreAccumulator, SetAccumulator
from handi.evaluation.features import FeatureCache
from handi.evaluation.folder import read_videos
from handi.evaluation.metrics import check_metric, metric_class
from handi.evaluation.metrics.protocol import PROTOCOL, Figure, Metric, SetMetric
from handi.evaluation.pairs import Pairs, Scope, Subset, TrueAreas
from handi.evaluation.results import write_results
from handi.evaluation.scoring import (
    AreaMaker,
    LoadedMetrics,
    ScorerMaker,
    area_lost,
    is_set_metric,
    load_metrics,
    lost,
    own_metrics,
    set_key,
)
from handi.evaluation.videos import fingerprint, is_video, kinds_of_area

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


def evaluate(
    pred: Path, ref: Path, out: Path, config: EvaluationConfig, *, versus: Path | None = None,
    cache_folder: Path | None = None, say: Callable[[str], None] = print, loaded: LoadedMetrics | None = None,
    executor: Executor = HERE,
) -> dict[str, Any]:  # fmt: skip
    """Score pred (and versus, on the same videos) against ref; write results.json, .csv and the ledger.

    Returns the content of results.json, which is the same for any executor. Features are kept in cache_folder
    (`out`/features if None), a line for each video in `out`/ledger.jsonl, so that a run that was stopped
    resumes. `say` names the videos that cannot be scored. loaded: metrics that are loaded already; they are
    used in this process alone. Raises: InputError if no video can be scored, OutputError.
    """
    config.check()
    sides = [pred] if versus is None else [pred, versus]
    generated, true = [read_videos(side, say) for side in sides], read_videos(ref, say)
    here = isinstance(executor, Serial)
    if loaded is None:
        loaded = load_metrics(config.metrics, config.device if here else "cpu")
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
    names = tuple(name for name in loaded.by_name if name not in loaded.skipped)
    maker = (pairs, features.folder, config.device, loaded if here else None, names)
    if config.subset == "motion-intensive":
        pairs.keep(_intensive(pairs, AreaMaker(*maker), executor))
    for id, why in pairs.refused.items():
        say(f"not scored: {id}: {why}")
    reported = set(pairs.refused)
    if loaded.wants("siblings"):
        pairs.find_siblings()
    keys = _keys(pairs, loaded, config)
    ledger = Ledger(out / LEDGER)
    done = {line["id"] for line in ledger.found() if _counts(line, keys, features)}
    todo = [(id, key) for id, key in keys.items() if id not in done]
    with scratch_folder(out) as folder:
        with Progress("evaluate", len(keys), "videos", done=len(done)) as bar:
            for line in executor.run(ScorerMaker(*maker, config.scope), todo, lost):
                ledger.add(line)
                bar.advance()
        scores, sets = ScoreAccumulator(len(sides)), SetAccumulator(folder, len(sides))
        for id in pairs.ids:
            _collect(ledger[id], pairs, scores, sets, features)
        for id in sorted(set(pairs.refused) - reported):
            say(f"not scored: {id}: {pairs.refused[id]}")
        if not (n := sum(id not in pairs.refused for id in pairs.ids)):
            raise InputError(f"none of {len(pairs.asked)} videos can be scored", where=pred)
        distances = [cast(SetMetric, metric) for metric in loaded.metrics if is_set_metric(metric)]
        if distances:
            sets.measure(distances, config.resamples, executor)
        tables = _tables(loaded, scores, sets, config.resamples, 2 * len(sides) - 1)
        sets.close()
    ledger.settle(
        ledger[id] if id in keys else {"id": id, "refused": pairs.refused[id]}
        for id in sorted({*pairs.ids, *pairs.refused})
    )
    return _write(out, tables, pairs, loaded, config, sides=sides, ref=ref, n=n)


def _intensive(pairs: Pairs, maker: AreaMaker, executor: Executor) -> list[str]:
    """The ids of the motion-intensive subset. Raises: HandiError."""
    shares: dict[str, float] = {}
    with Progress("areas", len(pairs.asked), "videos") as bar:
        for line in executor.run(maker, pairs.asked, area_lost):
            pairs.take_notes(line)
            if line["share"] is not None:
                shares[line["id"]] = line["share"]
            bar.advance()
    return pairs.intensive(shares)


def _keys(pairs: Pairs, loaded: LoadedMetrics, config: EvaluationConfig) -> dict[str, str]:
    """Of each id that can be scored: what its line of the ledger is made from, files and all, as a hash."""
    common = {
        "handi": _version("handi"),
        "protocol": PROTOCOL,
        "scope": config.scope,
        "context_frames": config.context_frames,
        "frames": pairs.frames,
        "device": choose_device(config.device),
        "metrics": {metric.name: [metric.preprocessing, metric.weights] for metric in loaded.metrics},
        "sets": [set_key(cast(SetMetric, metric)) for metric in loaded.metrics if is_set_metric(metric)],
        "own": own_metrics(config.metrics),
    }
    text = json.dumps(common, sort_keys=True)
    return {
        id: hashlib.sha256(f"{text}{fingerprint(pairs.used_by(id))}".encode()).hexdigest()[:16]
        for id in pairs.ids
    }


def _counts(line: Line, keys: Mapping[str, str], features: FeatureCache) -> bool:
    """Whether an earlier run's line is what this one would write; what failed is tried again."""
    if line.get("key") != keys.get(line["id"], "") or line["refused"] is not None:
        return False
    return all(features.has(name) for entry in line["sets"].values() for name in entry.get("features", ()))


def _collect(
    line: Line, pairs: Pairs, scores: ScoreAccumulator, sets: SetAccumulator, features: FeatureCache
) -> None:
    """Take a video's line into the figures."""
    id = line["id"]
    if "changes" in line:
        pairs.take_notes(line)
    if line["refused"] is not None:
        pairs.refused[id] = line["refused"]
        return
    scores.take(id, line["sides"])
    for key, entry in line["sets"].items():
        rows = [features.load(name) for name in entry.get("features", ())]
        if "missing" in entry:
            sets.miss(id, key, entry["missing"])
        elif any(part is None for part in rows):
            sets.miss(id, key, "its features are gone from the cache; run it again")
        else:
            sets.take(id, key, cast(list[np.ndarray], rows))


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
            elif is_set_metric(metric):
                results = sets.results(cast(SetMetric, metric))
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
        "notes": _notes(pairs, any(map(is_set_metric, loaded.metrics))),
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
    for what, which in sorted(pairs.changes.items()):
        notes.append(f"{len(which)} {what}: {_examples(which)}")
    if pairs.no_area:
        notes.append(f"{len(pairs.no_area)} videos have no motion area: {_examples(pairs.no_area)}")
    return notes


def _examples(reasons: dict[str, str], count: int = 3) -> str:
    shown = [f"{id} ({why})" for id, why in sorted(reasons.items())[:count]]
    return ", ".join(shown) + (", …" if len(reasons) > count else "")
