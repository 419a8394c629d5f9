"""The paper's tables 1 to 4 on any data set: our figures, the paper's beside them, what keeps them apart."""

from __future__ import annotations

import itertools
import platform
import statistics
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from handi.core.errors import HandiError, InputError, OutputError
from handi.core.reading import read_lines
from handi.evaluation import paper
from handi.evaluation.baselines import Method, Spec
from handi.evaluation.entries import Entry
from handi.evaluation.layout import COMPARABLE, NOT_COMPARABLE, Cell, Column, Row, Table
from handi.evaluation.produce import task_of
from handi.evaluation.study import Study
from handi.evaluation.tally import failure

HERE, PAPER = "here", "paper"
# Further figures that our own rows have, beside the paper's columns.
MORE = (
    "hs_err_literal", "hands_matched", "hand_rate", "kid", "kvd", "psnr", "ssim", "flow_inside", "flow_mean",
    "background_drift", "background_error", "state_change", "same_context", "true_hands_found",
    "true_hand_error",
)  # fmt: skip
_PROTOCOL_NOTE = (
    "The authors' code computes none of these metrics: where the paper leaves a choice open it is ours "
    "(docs/metrics.md). Intervals are 95 %, bootstrapped over videos; a figure that not all videos of a row "
    "have states its own n."
)


# ------------------------------------------------------------------------------------------- table 1


def table1(study: Study, *, runs: int = 3, authors: Sequence[str] = ()) -> Table:
    """Parameters and seconds a video of each method on this device, batch 1, after one warm-up clip.

    The first data set gives the context images. Raises: HandiError.
    """
    data = next(iter(study.data))
    entries = list(study.entries(data).values())
    rows, devices = [], set[str]()
    for spec in study.methods:
        if spec.stored is not None:
            cells = dict.fromkeys(("parameters", "seconds"), Cell(why="stored videos: nothing ran here"))
            rows += _with_paper1(spec, cells, authors, "")
            continue
        device = ""
        try:
            method = spec.build()
            device = getattr(method, "device", "cpu")
            cells = _measured(method, entries, runs, study)
            devices.add(device)
        except OutputError:
            raise
        except Exception as error:
            study.lose(f"{spec.name} could not be measured: {failure(error)}")
            cells = dict.fromkeys(("parameters", "seconds"), Cell(why=str(failure(error))))
        rows += _with_paper1(spec, cells, authors, device)
    columns = (
        Column("parameters", "parameters (10⁹)", "lower"),
        Column("seconds", "seconds a video", "lower"),
        Column("stage1", "of these stage 1"),
        Column("stage2", "stage 2"),
    )
    where = ", ".join(sorted(map(device_name, devices))) or "no device"
    notes = [
        f"Here: mean of {runs} clips of {data} after one to warm up, one at a time, on {where}; each method "
        "at its own size, steps and guidance.",
        "Here parameters are those of all networks that run, each counted once. The paper's 3.674 for HANDI "
        "is twice AnimateAnything's 1.837, so it counts the autoencoder and the text encoder twice.",
        *study.notes,
    ]
    return Table("Table 1. Efficiency", ("Method", "Source"), columns, rows, notes)


def _measured(method: Method, entries: Sequence[Entry], runs: int, study: Study) -> dict[str, Cell]:
    """Cells of a method's row; its first clip is not counted, as it loads and compiles."""
    chosen = list(itertools.islice(itertools.cycle(entries), runs + 1))
    tasks = (task_of(entry, replace(study.asking, seed=number)) for number, entry in enumerate(chosen))
    seconds, stages = [], list[dict[str, float]]()
    for made in method.make(tasks):
        if isinstance(made.frames, HandiError):
            raise made.frames
        seconds.append(made.seconds)
        stages.append(dict(made.stages))
    cells = {"seconds": Cell(statistics.fmean(seconds[1:]))}
    for name in ("stage1", "stage2"):
        if all(name in one for one in stages):
            cells[name] = Cell(statistics.fmean(one[name] for one in stages[1:]))
    known = method.parameters
    cells["parameters"] = Cell(why="the method does not say") if known is None else Cell(known / 1e9)
    return cells


def _with_paper1(spec: Spec, cells: dict[str, Cell], authors: Sequence[str], device: str) -> list[Row]:
    key = paper.method_key(spec.name)
    ours = Row((_label(spec.name), f"{HERE}{f', {device}' if device else ''}"), cells, HERE)
    if key is None:
        return [ours]
    values = dict(zip(("parameters", "seconds"), map(_printed, paper.TABLE1[key]), strict=True))
    reasons = ["the paper does not name its device, batch or steps"]
    reasons += [] if spec.name in authors else ["weights that are not the authors'"]
    return [replace(ours, remark=_remark(reasons)), Row(("", PAPER), values, PAPER)]


def device_name(device: str) -> str:
    """What a device is called: "cuda" → its card, "cpu" → its processor."""
    if device.startswith("cuda"):
        import torch

        return str(torch.cuda.get_device_name(device))
    if device != "cpu":
        return device
    import torch

    name = platform.processor() or platform.machine()
    with suppress(InputError):
        lines = read_lines("/proc/cpuinfo")
        models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        name = models[0] if models else name
    return f"{name} ({torch.get_num_threads()} threads)"


# -------------------------------------------------------------------------------------- tables 2 and 4


def table2(study: Study, *, intensive: bool = True, authors: Sequence[str] = ()) -> list[Table]:
    """Methods × metrics × data sets, the motion-intensive subset of the first included; and a second table of
    our further figures. Raises: HandiError."""
    parts = [(data, "all") for data in study.data]
    if intensive:
        parts.insert(1, (next(iter(study.data)), "motion-intensive"))
    rows, more = list[Row](), list[Row]()
    titles: dict[str, tuple[str, str]] = {}
    for data, subset in parts:
        benchmark = "motion-intensive" if subset != "all" else (paper.benchmark_key(data) or "epic-kitchens")
        place = data if subset == "all" else f"{data}, motion-intensive"
        printed = paper.TABLE2[benchmark]
        for number, spec in enumerate(study.methods):
            found = _scored(study, spec, data, subset=subset)
            heads = ("" if number else place, _label(spec.name))
            if isinstance(found, HandiError):
                rows.append(Row((*heads, HERE), {}, "", f"{NOT_COMPARABLE}: {found}"))
                continue
            n, metrics = found["n"], found["metrics"]
            titles |= {k: (m["title"], m["better"]) for k, m in metrics.items() if k in MORE and "value" in m}
            ours = Row((*heads, f"{HERE}, n = {n}"), _cells(metrics, paper.COLUMNS), f"{place} {HERE}", n=n)
            more.append(Row(ours.heads, _cells(metrics, MORE), ours.group, n=n))
            key = paper.method_key(spec.name)
            if key in printed:
                reasons = paper.differences(data, n, benchmark, authors_weights=spec.name in authors)
                label, clips = paper.BENCHMARKS[benchmark]
                values = dict(zip(paper.COLUMNS, map(_printed, printed[key]), strict=True))
                rows.append(replace(ours, remark=_remark(reasons)))
                rows.append(Row(("", "", f"{PAPER}, {label}, n = {clips}"), values, f"{place} {PAPER}"))
            else:
                rows.append(ours)
    heads3 = ("Data", "Method", "Source")
    notes = [_PROTOCOL_NOTE, *study.notes]
    extra = tuple(Column(key, *titles[key]) for key in MORE if key in titles)
    first = Table("Table 2. Methods, metrics and data sets", heads3, columns_of(paper.COLUMNS), rows, notes)
    second = Table("Table 2, continued: further figures of ours", heads3, extra, more, list(notes))
    return [first, second]


def table4(study: Study, *, authors: Sequence[str] = ()) -> Table:
    """BLIP scores by the size of the captioner. Raises: HandiError."""
    rows = []
    for data in study.data:
        benchmark = paper.benchmark_key(data) or "epic-kitchens"
        for number, spec in enumerate(study.methods):
            found = _scored(study, spec, data)
            heads = ("" if number else data, _label(spec.name))
            if isinstance(found, HandiError):
                rows.append(Row((*heads, HERE), {}, "", f"{NOT_COMPARABLE}: {found}"))
                continue
            n, key = found["n"], paper.method_key(spec.name)
            ours = Row(
                (*heads, f"{HERE}, n = {n}"), _cells(found["metrics"], paper.TABLE4_COLUMNS), data, n=n
            )
            if key in paper.TABLE4[benchmark]:
                reasons = paper.differences(data, n, benchmark, authors_weights=spec.name in authors)
                values = dict(
                    zip(paper.TABLE4_COLUMNS, map(_printed, paper.TABLE4[benchmark][key]), strict=True)
                )
                label, clips = paper.BENCHMARKS[benchmark]
                rows.append(replace(ours, remark=_remark(reasons)))
                rows.append(Row(("", "", f"{PAPER}, {label}, n = {clips}"), values, f"{data} {PAPER}"))
            else:
                rows.append(ours)
    columns = columns_of(paper.TABLE4_COLUMNS)
    notes = [_PROTOCOL_NOTE, *study.notes]
    return Table("Table 4. BLIP score by model size", ("Data", "Method", "Source"), columns, rows, notes)


# ------------------------------------------------------------------------------------------- table 3

SCOPES = {"area-mask": "MA", "area-crop": "MA (crop)", "full": "Full"}


def _sampled(spec: Spec, mask: str) -> Spec:
    """A model of ours that is named as a row is sampled as the row says, if its options do not."""
    if spec.kind != "handi":
        return spec
    return replace(spec, options={"mask": mask, **spec.options})


def cell_name(mask: str, hrl: str) -> str:
    """What a row of table 3 is called as a method: "generated-on"."""
    return f"{mask}-{hrl}"


def table3(
    study: Study, *, scopes: Sequence[str] = ("area-mask", "full"), authors: Sequence[str] = ()
) -> list[Table]:
    """The ablation: its methods are called MASK-HRL, mask in true, generated, prior, full and HRL in off, on.

    A model of handi's is sampled with its row's mask; rows that are not among the methods are left out. Gives
    a second table with our further figures. Raises: InputError for other names, HandiError.
    """
    data = next(iter(study.data))
    known = {cell_name(mask, hrl): (mask, hrl) for mask, hrl in paper.CELLS}
    for spec in study.methods:
        if spec.name not in known:
            raise InputError(f"{spec.name!r} is no row of table 3", mend=f"rows are {', '.join(known)}")
    by_name = {spec.name: _sampled(spec, known[spec.name][0]) for spec in study.methods}
    rows, more = list[Row](), list[Row]()
    titles: dict[str, tuple[str, str]] = {}
    for scope in scopes:
        printed = paper.TABLE3.get(scope, ())
        for number, (name, (mask, hrl)) in enumerate(known.items()):
            if name not in by_name:
                continue
            found = _scored(study, by_name[name], data, scope=scope)
            heads = (SCOPES[scope], str(number + 1), paper.MASKS[mask], paper.HRL[hrl])
            if isinstance(found, HandiError):
                rows.append(Row((*heads, HERE), {}, "", f"{NOT_COMPARABLE}: {found}"))
                continue
            n, metrics = found["n"], found["metrics"]
            titles |= {k: (m["title"], m["better"]) for k, m in metrics.items() if k in MORE and "value" in m}
            ours = Row((*heads, f"{HERE}, n = {n}"), _cells(metrics, paper.COLUMNS), f"{scope} {HERE}", n=n)
            more.append(Row(ours.heads, _cells(metrics, MORE), ours.group, n=n))
            if printed:
                reasons = paper.differences(data, n, "epic-kitchens", authors_weights=name in authors)
                values = dict(zip(paper.COLUMNS, map(_printed, printed[number]), strict=True))
                rows.append(replace(ours, remark=_remark(reasons)))
                clips = paper.BENCHMARKS["epic-kitchens"][1]
                rows.append(Row(("", "", "", "", f"{PAPER}, n = {clips}"), values, f"{scope} {PAPER}"))
            else:
                rows.append(ours)
    heads5 = ("Scope", "No.", "Mask", "HRL", "Source")
    notes = [_PROTOCOL_NOTE, *study.notes]
    extra = tuple(Column(key, *titles[key]) for key in MORE if key in titles)
    title = f"Table 3. Ablation of the motion area and the Hand Refinement Loss on {data}"
    return [
        Table(title, heads5, columns_of(paper.COLUMNS), rows, notes),
        Table(f"{title}: further figures of ours", heads5, extra, more, list(notes)),
    ]


# ------------------------------------------------------------------------------------------ helpers


def columns_of(titles: dict[str, str]) -> tuple[Column, ...]:
    """Columns of the paper's metrics."""
    return tuple(Column(key, title, paper.BETTER.get(key, "higher")) for key, title in titles.items())


def _scored(study: Study, spec: Spec, data: str, **which: str) -> dict[str, Any] | HandiError:
    """Results, or why there are none: one method that cannot run leaves its row empty."""
    try:
        return study.results(spec, data, **which)
    except OutputError:
        raise
    except Exception as error:
        study.say(f"error: {spec.name} on {data}: {failure(error)}")
        study.lose(f"{spec.name} on {data} has no figures")
        return failure(error)


def _cells(metrics: dict[str, Any], keys: Sequence[str] | dict[str, str]) -> dict[str, Cell]:
    cells = {}
    for key in keys:
        entry = metrics.get(key)
        if entry is None:
            cells[key] = Cell(why="not asked for")
        elif entry.get("value") is None:
            cells[key] = Cell(why=f"{entry['title']}: {entry.get('skipped') or 'no video has such a score'}")
        else:
            interval = entry.get("interval")
            ends = None if interval is None else (interval[0], interval[1])
            cells[key] = Cell(entry["value"], ends, n=entry["n"])
    return cells


def _printed(value: float) -> Cell:
    return Cell(value, printed=True)


def _label(name: str) -> str:
    key = paper.method_key(name)
    return name if key is None else paper.LABELS[key]


def _remark(reasons: Sequence[str]) -> str:
    return f"{NOT_COMPARABLE}: {'; '.join(reasons)}" if reasons else COMPARABLE
