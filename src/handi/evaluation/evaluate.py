"""`handi evaluate`: score the videos of one or two folders against the true ones, one video at a time."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from handi.core.device import choose_device
from handi.core.errors import InputError, OutputError, reason
from handi.core.files import scratch_folder, writing
from handi.core.kinds import is_gif
from handi.core.progress import Progress
from handi.evaluation.areas import TrueAreas
from handi.evaluation.cache import FeatureCache
from handi.evaluation.cases import Cases, Scope, Subset, scoped
from handi.evaluation.entries import is_video, kinds_of_area
from handi.evaluation.intervals import CONFIDENCE, RESAMPLES
from handi.evaluation.metrics import METRICS, check_metric, metric_class
from handi.evaluation.metrics.protocol import (
    PROTOCOL,
    Extractor,
    Figure,
    Metric,
    Pair,
    PairMetric,
    SetMetric,
    Unscored,
)
from handi.evaluation.metrics.results import write_results
from handi.evaluation.sets import Sets
from handi.evaluation.show import write_csv
from handi.evaluation.sides import read_side
from handi.evaluation.tally import Tally, difference

LIBRARIES = (
    "handi",
    "torch",
    "transformers",
    "numpy",
    "scipy",
    "scikit-image",
    "opencv-python-headless",
    "av",
)


MOST_RESAMPLES = 1_000_000


@dataclass(frozen=True)
class Settings:
    """What is measured, and on what."""

    metrics: tuple[str, ...] = ()  # empty: all
    scope: Scope = "full"
    subset: Subset = "all"
    context_frames: int = 1  # at the start of each video, not scored
    resamples: int = RESAMPLES
    device: str = "auto"
    clips: int | None = None  # only the first so many true videos; None: all

    def check(self) -> None:
        """Raises: InputError for a metric or a number that cannot be."""
        for name in self.metrics:
            check_metric(name)
        if self.context_frames < 0:
            raise InputError(f"{self.context_frames} context frames", mend="use 0 or more")
        if not 2 <= self.resamples <= MOST_RESAMPLES:
            raise InputError(f"{self.resamples} resamples", mend=f"use 2 to {MOST_RESAMPLES:,}")
        if self.clips is not None and self.clips < 1:
            raise InputError(f"--clips {self.clips}", mend="use 1 or more")


@dataclass
class Built:
    """The metrics of a run, and why the others are skipped."""

    pairwise: list[PairMetric] = field(default_factory=list)
    sets: list[SetMetric] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)  # all that were asked for, in order

    @property
    def metrics(self) -> list[Metric]:
        return [*self.pairwise, *self.sets]

    def wants(self, part: str) -> bool:
        """Whether any metric or figure wants this part of a pair."""
        return any(
            part in (*metric.wants, *figure.wants) for metric in self.metrics for figure in metric.figures
        )


def build_metrics(names: Sequence[str], device: str) -> Built:
    """The metrics of these names, all where there are none; those without weights say why."""
    device = choose_device(device)
    built = Built(names=[name for name in METRICS if not names or name in names])
    for name in built.names:
        try:
            metric = metric_class(name)(device)
        except Exception as error:  # a library that is missing or does not fit stops no other metric
            built.skipped[name] = reason(error)
            continue
        (built.sets if hasattr(metric, "extractor") else built.pairwise).append(metric)
    return built


def evaluate(
    pred: Path, ref: Path, out: Path, settings: Settings, *, versus: Path | None = None,
    cache_folder: Path | None = None, say: Callable[[str], None] = print, built: Built | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Score pred (and versus, on the same videos) against ref; write results.json and .csv, give the former.

    Features are kept in cache_folder (`out`/features where None). Videos that cannot be scored are named by
    `say`, and counted. built: metrics that are loaded already. Raises: InputError where none can be scored,
    OutputError.
    """
    settings.check()
    sides = [pred] if versus is None else [pred, versus]
    entries, true = [read_side(side, say) for side in sides], read_side(ref, say)
    if built is None:
        built = build_metrics(settings.metrics, settings.device)
        require_any(built)
    features = FeatureCache(out / "features" if cache_folder is None else cache_folder)
    features.sweep()
    areas = TrueAreas(lambda: find_hands(settings.device), features)
    if settings.scope != "full" or settings.subset != "all":
        areas.require(true.values())
    cases = Cases(
        entries,
        true,
        context_frames=settings.context_frames,
        areas=areas,
        names=[str(side) for side in sides],
        clips=settings.clips,
    )
    _choose(cases, settings)
    for id, why in cases.refused.items():
        say(f"not scored: {id}: {why}")
    told = set(cases.refused)
    if built.wants("siblings"):
        cases.find_siblings()
    tallies = [Tally() for _ in sides]
    with scratch_folder(out) as folder, Progress("evaluate", len(cases.ids), "videos") as bar:
        whole, limited = (
            Sets(folder, len(sides), [metric for metric in built.sets if metric.scoped == kind])
            for kind in (False, True)
        )
        for id in cases.ids:
            try:
                pairs = _load(cases, id, built, settings)
                _score(pairs, built, tallies, whole, limited, features, settings.scope)
            except OutputError:  # a full disk is not this video's fault
                raise
            except Exception as error:
                cases.refused[id] = reason(error)
            bar.advance()
        for id in sorted(set(cases.refused) - told):
            say(f"not scored: {id}: {cases.refused[id]}")
        if not (n := sum(id not in cases.refused for id in cases.ids)):
            raise InputError(f"none of {len(cases.asked)} videos can be scored", where=pred)
        tables = _tables(built, tallies, whole, limited, settings)
        whole.close()
        limited.close()
    return _write(out, tables, cases, built, settings, sides=sides, ref=ref, n=n)


def require_any(built: Built) -> None:
    """Raises: InputError where no metric at all can be measured, before any video is read."""
    if not built.metrics:
        reasons = "; ".join(f"{name}: {why}" for name, why in built.skipped.items())
        raise InputError(f"none of the metrics can be measured ({reasons})", where="--metrics")


def find_hands(device: str) -> Extractor:
    """Υ as an extractor. Raises: HandiError where its weights are missing."""
    from handi.evaluation.metrics.hand import FindHands

    return FindHands(choose_device(device))


def _choose(cases: Cases, settings: Settings) -> None:
    """Reduce the cases to the subset; what is not in it is neither asked for nor refused."""
    if settings.subset == "motion-intensive":
        chosen = set(cases.intensive())
        cases.asked = [id for id in cases.asked if id in chosen]
        cases.ids = [id for id in cases.ids if id in chosen]
        cases.refused = {id: why for id, why in cases.refused.items() if id in chosen}


def _load(cases: Cases, id: str, built: Built, settings: Settings) -> list[Pair]:
    area = settings.scope != "full" or built.wants("area")
    return cases.load(id, area=area, siblings=built.wants("siblings"))


def _score(
    pairs: list[Pair], built: Built, tallies: list[Tally], whole: Sets, limited: Sets,
    features: FeatureCache, scope: Scope,
) -> None:  # fmt: skip
    """One video through all metrics."""
    shown: list[Pair] | None
    try:
        shown = [scoped(pair, scope) for pair in pairs]
        limited.add(shown, features)
    except Unscored as error:
        shown = None
        limited.miss(pairs[0].id, error.what)
    whole.add(pairs, features)
    for metric in built.pairwise:
        for n, tally in enumerate(tallies):
            if not metric.scoped:
                tally.score(metric, pairs[n], features)
            elif shown is not None:
                tally.score(metric, shown[n], features)
            else:
                tally.miss(metric, pairs[n].id, "it has no motion area")


# ------------------------------------------------------------------------------------------ results


def _tables(
    built: Built, tallies: list[Tally], whole: Sets, limited: Sets, settings: Settings
) -> list[dict[str, Any]]:
    """Figure → entry: of each side, then of their difference where there are two."""
    tables: list[dict[str, Any]] = [{} for _ in range(2 * len(tallies) - 1)]
    by_name = {metric.name: metric for metric in built.metrics}
    for name in built.names:
        metric = by_name.get(name)
        for figure in _figures(name):
            if metric is None:
                entries: list[dict[str, Any]] = [{"skipped": built.skipped[name]} for _ in tables]
            elif metric in built.sets:
                entries = (limited if metric.scoped else whole).results(metric, settings.resamples)
            else:
                entries = [tally.result(figure, settings.resamples) for tally in tallies]
                if len(tallies) > 1:
                    entries.append(difference(tallies[0], tallies[1], figure, settings.resamples))
            about = {"metric": name, "title": figure.title, "better": figure.better, "unit": figure.unit}
            for table, entry in zip(tables, entries, strict=True):
                table[figure.name] = {**entry, **about}
    return tables


def _figures(name: str) -> Sequence[Figure]:
    """A metric's figures, also of one that is skipped; where its very module cannot be imported, its name."""
    try:
        figures: Sequence[Figure] = metric_class(name).figures
    except Exception:
        return [Figure(name, name, "neither")]
    return figures


def _write(
    out: Path, tables: list[dict[str, Any]], cases: Cases, built: Built, settings: Settings,
    *, sides: list[Path], ref: Path, n: int,
) -> dict[str, Any]:  # fmt: skip
    frames, height, width = cases.shape
    paired = None
    if len(sides) > 1:
        paired = {"versus": str(sides[1]), "metrics": tables[1], "differences": tables[2]}
    results = {
        "protocol": {
            "id": PROTOCOL,
            "scope": settings.scope,
            "subset": settings.subset,
            "clips": settings.clips,
            "area": kinds_of_area(cases.ref[id] for id in cases.ids),
            "frames": frames - settings.context_frames,
            "size": [height, width],
            "resamples": settings.resamples,
            "confidence": CONFIDENCE,
        },
        "device": choose_device(settings.device),
        "pred": str(sides[0]),
        "ref": str(ref),
        "n": n,
        "asked": len(cases.asked),
        "refused": dict(sorted(cases.refused.items())),
        "metrics": tables[0],
        "paired": paired,
        "preprocessing": {metric.name: metric.preprocessing for metric in built.metrics},
        "weights": {name: sha for metric in built.metrics for name, sha in sorted(metric.weights.items())},
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in LIBRARIES}},
        "notes": _notes(cases, built),
    }
    # No record of an earlier run beside the table of this one, should it be killed in between.
    with writing(out):
        (out / "results.json").unlink(missing_ok=True)
    write_csv(out / "results.csv", results)
    write_results(out / "results.json", results)  # last: where it lies, all does
    return results


def _version(library: str) -> str:
    """Of a library; some can stand in for others (opencv-python), and no run may fail in its last line."""
    try:
        return version(library)
    except PackageNotFoundError:
        return "not installed"


def _notes(cases: Cases, built: Built) -> list[str]:
    notes = []
    made = [entry.video for side in cases.preds for entry in side.values() if entry.video is not None]
    lossy = [path for path in made if is_video(path)]
    gifs = sum(map(is_gif, lossy))
    if built.sets and lossy:
        notes.append(
            f"{len(lossy)} generated videos are compressed, which shifts Fréchet and kernel distances: "
            "`handi generate --save-frames` keeps the frames themselves"
        )
    if gifs:
        notes.append(
            f"{gifs} generated videos are GIFs, which changes their colours (256 of them a frame): use the "
            "method's own frames where they can be had"
        )
    for what, which in cases.changes.items():
        notes.append(f"{len(which)} {what}: {_examples(which)}")
    if cases.no_area:
        notes.append(f"{len(cases.no_area)} videos have no motion area: {_examples(cases.no_area)}")
    return notes


def _examples(reasons: dict[str, str], count: int = 3) -> str:
    shown = [f"{id} ({why})" for id, why in sorted(reasons.items())[:count]]
    return ", ".join(shown) + (", …" if len(reasons) > count else "")
