"""The paper's tables 1 to 4 on any data set: our figures, the paper's beside them, what keeps them apart."""

from __future__ import annotations

import itertools
import platform
import statistics
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from handi.core.errors import HandiError, InputError, OutputError, failure
from handi.core.reading import read_lines
from handi.evaluation import paper
from handi.evaluation.clips import task_of
from handi.evaluation.layout import COMPARABLE, NOT_COMPARABLE, Cell, Column, FigureRow, Table
from handi.evaluation.methods import Spec
from handi.evaluation.methods.base import Method
from handi.evaluation.origins import origins_table
from handi.evaluation.study import Study
from handi.evaluation.videos import Entry

HERE, PAPER = "here", "paper"
# Further figures that our own rows have, beside the paper's columns.
MORE = (
    "hs_err_literal", "hands_matched", "hand_rate", "kid", "kvd", "psnr", "ssim", "flow_inside", "flow_mean",
    "background_drift", "background_error", "state_change", "same_context", "true_hands_found",
    "true_hand_error",
)  # fmt: skip
DEFAULT_METRICS = {"table4": ("blip_base", "blip_large")}  # of a table that does not need all
SCOPES = {"area-mask": "MA", "area-crop": "MA (crop)", "full": "Full"}
_PROTOCOL_NOTE = (
    "The authors' code computes none of these metrics: where the paper leaves a choice open it is ours "
    "(docs/metrics.md). Intervals are 95 %, bootstrapped over videos; a figure that not all videos of a row "
    "have states its own n."
)


def make_tables(
    study: Study, table: str, *, runs: int = 3, intensive: bool = True,
    scopes: Sequence[str] = ("area-mask", "full"), authors: Sequence[str] = (),
) -> list[Table]:  # fmt: skip
    """One of the paper's tables by name ("table1" to "table4"), written to the study's folder; the second
    table of some has further figures of ours. What is missing is found before anything is generated.

    Raises: HandiError.
    """
    if not 1 <= runs <= 1000:
        raise InputError(f"--runs {runs}", hint="use 1 to 1000")
    uses_truth = any(spec.options.get("mask") == "true" for spec in study.methods)
    scoped = (table == "table2" and intensive) or (table == "table3" and tuple(scopes) != ("full",))
    study.check(scores=table != "table1", areas=uses_truth or scoped)
    if table == "table1":
        made = [table1(study, runs=runs, authors=authors)]
    elif table == "table2":
        made = table2(study, intensive=intensive, authors=authors)
    elif table == "table3":
        made = table3(study, scopes=scopes, authors=authors)
    else:
        made = [table4(study, authors=authors)]
    write_tables(study, made, table)
    return made


def write_tables(study: Study, tables: Sequence[Table], name: str) -> None:
    """Write NAME and NAME_more in all formats, and NAME_methods: where the rows come from.

    Raises: OutputError.
    """
    named = dict(zip((name, f"{name}_more"), tables, strict=False))
    for stem, table in (named | {f"{name}_methods": origins_table(study)}).items():
        study.say(f"wrote {table.write(study.out, stem)[0]}")


# ------------------------------------------------------------------------------------------- table 1


def table1(study: Study, *, runs: int = 3, authors: Sequence[str] = ()) -> Table:
    """Parameters and seconds per video of each method on this device, batch 1, after one warm-up clip.

    The first data set gives the context images. Raises: HandiError.
    """
    data = next(iter(study.data))
    entries = list(study.entries(data).values())
    rows, devices = [], set[str]()
    for spec in study.methods:
        device, why, cells = "", "stored videos: nothing ran here", {}
        if spec.stored is None:
            try:
                method = spec.build()
                device = getattr(method, "device", "cpu")
                cells = _measured(method, entries, runs, study)
                devices.add(device)
            except OutputError:
                raise
            except Exception as error:
                why = str(failure(error))
                study.lose(f"{spec.name} could not be measured: {why}")
        cells = cells or dict.fromkeys(("parameters", "seconds"), Cell(why=why))
        ours = FigureRow((_label(spec.name), f"{HERE}{f', {device}' if device else ''}"), cells, HERE)
        if (key := paper.method_key(spec.name)) is None:
            rows.append(ours)
            continue
        reasons = ["the paper does not name its device, batch or steps"]
        reasons += [] if spec.name in authors else ["weights that are not the authors'"]
        values = dict(zip(("parameters", "seconds"), map(_printed, paper.TABLE1[key]), strict=True))
        rows += [replace(ours, remark=_remark(reasons)), FigureRow(("", PAPER), values, PAPER)]
    columns = (
        Column("parameters", "parameters (10⁹)", "lower"),
        Column("seconds", "seconds per video", "lower"),
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
    """Cells of a method's row; its first clip does not count, since loading and compiling slow it down."""
    chosen = list(itertools.islice(itertools.cycle(entries), runs + 1))
    tasks = (task_of(entry, replace(study.sampling, seed=number)) for number, entry in enumerate(chosen))
    seconds, stages = [], list[dict[str, float]]()
    for clip in method.generate(tasks):
        if isinstance(clip.frames, HandiError):
            raise clip.frames
        seconds.append(clip.seconds)
        stages.append(dict(clip.stages))
    cells = {"seconds": Cell(statistics.fmean(seconds[1:]))}
    for name in ("stage1", "stage2"):
        if all(name in one for one in stages):
            cells[name] = Cell(statistics.fmean(one[name] for one in stages[1:]))
    known = method.parameters
    cells["parameters"] = Cell(why="the method does not say") if known is None else Cell(known / 1e9)
    return cells


def device_name(device: str) -> str:
    """The name of a device's hardware: of "cuda" its card, of "cpu" its processor."""
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


# -------------------------------------------------------------------------------------- tables 2 to 4


class _Comparison:
    """Rows of a table while they are scored: ours, and the paper's below them if it has one."""

    def __init__(self, study: Study, columns: dict[str, str], authors: Sequence[str]) -> None:
        self.study, self.columns, self.authors = study, columns, authors
        self.rows: list[FigureRow] = []
        self.more: list[FigureRow] = []  # the same with further figures of ours
        self.titles: dict[str, tuple[str, str]] = {}

    def add(
        self, spec: Spec, data: str, heads: tuple[str, ...], *, place: str, benchmark: str,
        printed: Sequence[float] | None, source: str, **which: str,
    ) -> None:  # fmt: skip
        """Score a method (which: scope, subset). place: the rows that this one is ranked among."""
        try:
            found = self.study.results(spec, data, **which)
        except OutputError:
            raise
        except Exception as error:  # a method that cannot run leaves its row empty
            self.study.say(f"error: {spec.name} on {data}: {failure(error)}")
            self.study.lose(f"{spec.name} on {data} has no figures")
            self.rows.append(FigureRow((*heads, HERE), {}, "", f"{NOT_COMPARABLE}: {failure(error)}"))
            return
        n, metrics = found["n"], found["metrics"]
        titles = {key: (metrics[key]["title"], metrics[key]["better"]) for key in MORE if key in metrics}
        self.titles |= {key: titles[key] for key in titles if "value" in metrics[key]}
        ours = FigureRow((*heads, f"{HERE}, n = {n}"), _cells(metrics, self.columns), f"{place} {HERE}", n=n)
        self.more.append(FigureRow(ours.heads, _cells(metrics, MORE), ours.group, n=n))
        if printed is None:
            self.rows.append(ours)
            return
        reasons = paper.differences(data, n, benchmark, authors_weights=spec.name in self.authors)
        values = dict(zip(self.columns, map(_printed, printed), strict=True))
        theirs = (*("" for _ in heads), f"{PAPER}, {source}")
        self.rows += [
            replace(ours, remark=_remark(reasons)), FigureRow(theirs, values, f"{place} {PAPER}")
        ]  # fmt: skip

    def tables(self, title: str, more_title: str, heads: tuple[str, ...]) -> list[Table]:
        """The table, and a second one of our further figures."""
        notes = [_PROTOCOL_NOTE, *self.study.notes]
        columns = tuple(
            Column(key, title, paper.BETTER.get(key, "higher")) for key, title in self.columns.items()
        )
        more = tuple(Column(key, *self.titles[key]) for key in MORE if key in self.titles)
        first = Table(title, heads, columns, self.rows, notes)
        return [first, Table(more_title, heads, more, self.more, list(notes))]


def table2(study: Study, *, intensive: bool = True, authors: Sequence[str] = ()) -> list[Table]:
    """Methods × metrics × data sets, the motion-intensive subset of the first included; and a second table of
    our further figures. Raises: HandiError."""
    parts = [(data, "all") for data in study.data]
    if intensive:
        parts.insert(1, (next(iter(study.data)), "motion-intensive"))
    made = _Comparison(study, paper.COLUMNS, authors)
    for data, subset in parts:
        benchmark = "motion-intensive" if subset != "all" else (paper.benchmark_key(data) or "epic-kitchens")
        place = data if subset == "all" else f"{data}, motion-intensive"
        label, clips = paper.BENCHMARKS[benchmark]
        for number, spec in enumerate(study.methods):
            made.add(
                spec, data, ("" if number else place, _label(spec.name)), place=place, benchmark=benchmark,
                printed=paper.TABLE2[benchmark].get(paper.method_key(spec.name) or ""),
                source=f"{label}, n = {clips}", subset=subset,
            )  # fmt: skip
    return made.tables(
        "Table 2. Methods, metrics and data sets",
        "Table 2, continued: further figures of ours",
        ("Data", "Method", "Source"),
    )


def table4(study: Study, *, authors: Sequence[str] = ()) -> Table:
    """BLIP scores by the size of the captioner. Raises: HandiError."""
    made = _Comparison(study, paper.TABLE4_COLUMNS, authors)
    for data in study.data:
        benchmark = paper.benchmark_key(data) or "epic-kitchens"
        label, clips = paper.BENCHMARKS[benchmark]
        for number, spec in enumerate(study.methods):
            made.add(
                spec, data, ("" if number else data, _label(spec.name)), place=data, benchmark=benchmark,
                printed=paper.TABLE4[benchmark].get(paper.method_key(spec.name) or ""),
                source=f"{label}, n = {clips}",
            )  # fmt: skip
    return made.tables("Table 4. BLIP score by model size", "", ("Data", "Method", "Source"))[0]


def cell_name(mask: str, hrl: str) -> str:
    """What a row of table 3 is called as a method: "generated-on"."""
    return f"{mask}-{hrl}"


def table3(
    study: Study, *, scopes: Sequence[str] = ("area-mask", "full"), authors: Sequence[str] = ()
) -> list[Table]:
    """The ablation: its methods are called MASK-HRL, mask in true, generated, prior, full and HRL in off, on.

    A model of handi's is sampled with its row's mask; rows that are not among the methods are left out. The
    second table has our further figures. Raises: InputError for other names, HandiError.
    """
    data = next(iter(study.data))
    known = {cell_name(mask, hrl): (mask, hrl) for mask, hrl in paper.CELLS}
    by_name = {}
    for spec in study.methods:
        if spec.name not in known:
            raise InputError(f"{spec.name!r} is no row of table 3", hint=f"rows are {', '.join(known)}")
        own = {"mask": known[spec.name][0]} if spec.kind == "handi" else {}
        by_name[spec.name] = replace(spec, options={**own, **spec.options})
    made = _Comparison(study, paper.COLUMNS, authors)
    for scope in scopes:
        printed = paper.TABLE3.get(scope)
        for number, (name, (mask, hrl)) in enumerate(known.items()):
            if name in by_name:
                made.add(
                    by_name[name], data, (SCOPES[scope], str(number + 1), paper.MASKS[mask], paper.HRL[hrl]),
                    place=scope, benchmark="epic-kitchens", printed=printed[number] if printed else None,
                    source=f"n = {paper.BENCHMARKS['epic-kitchens'][1]}", scope=scope,
                )  # fmt: skip
    title = f"Table 3. Ablation of the motion area and the Hand Refinement Loss on {data}"
    heads = ("Scope", "No.", "Mask", "HRL", "Source")
    return made.tables(title, f"{title}: further figures of ours", heads)


# ------------------------------------------------------------------------------------------ helpers


def _cells(metrics: dict[str, Any], keys: Sequence[str] | dict[str, str]) -> dict[str, Cell]:
    cells = {}
    for key in keys:
        found = metrics.get(key)
        if found is None:
            cells[key] = Cell(why="not asked for")
        elif found.get("value") is None:
            cells[key] = Cell(why=f"{found['title']}: {found.get('skipped') or 'no video has such a score'}")
        else:
            interval = found.get("interval")
            ends = None if interval is None else (interval[0], interval[1])
            cells[key] = Cell(found["value"], ends, n=found["n"])
    return cells


def _printed(value: float) -> Cell:
    return Cell(value, printed=True)


def _label(name: str) -> str:
    key = paper.method_key(name)
    return name if key is None else paper.LABELS[key]


def _remark(reasons: Sequence[str]) -> str:
    return f"{NOT_COMPARABLE}: {'; '.join(reasons)}" if reasons else COMPARABLE
