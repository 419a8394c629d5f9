"""The record of an evaluation: results.json (docs/metrics.md has its fields), results.csv, and a table."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.table import Table

from handi.core.errors import InputError
from handi.core.files import replacing, write_json, writing
from handi.core.reading import read_json

FORMAT, VERSION = "handi-evaluation", 1
ARROWS = {"higher": " ↑", "lower": " ↓", "neither": ""}
Results = dict[str, Any]


def write_results(folder: Path, results: Results) -> None:
    """Write results.csv and results.json into a folder. Raises: OutputError."""
    path = folder / "results.json"
    with writing(folder):  # killed in between, a run must not leave an older record beside its table
        path.unlink(missing_ok=True)
    _write_csv(folder / "results.csv", results)
    record = {"format": FORMAT, "version": VERSION, **results}
    write_json(path, record, indent=1, allow_nan=False)  # last: if it is there, everything is


def read_results(path: str | Path) -> Results:
    """Read a `results.json`, or the one in a folder. Raises: InputError."""
    path = Path(path)
    path = path / "results.json" if path.is_dir() else path
    if not path.exists():
        raise InputError("no such results", where=path, hint="make them with `handi evaluate`")
    results = read_json(path)
    if not isinstance(results, dict) or results.get("format") != FORMAT:
        raise InputError("is not a results.json of `handi evaluate`", where=path)
    if results.get("version") != VERSION:
        raise InputError(
            f"has version {results.get('version')} of the format, this handi reads {VERSION}", where=path
        )
    try:
        _check(results)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"is damaged ({type(error).__name__}: {error})"
        raise InputError(what, where=path, hint="make it again with `handi evaluate`") from error
    return results


def _check(results: Results) -> None:
    """Raises: KeyError, TypeError, ValueError, AttributeError for fields of unexpected types."""
    _check_types(results, {"n": int, "refused": dict, "metrics": dict, "protocol": dict})
    _check_types(results["protocol"], {"id": str, "scope": str})
    for name, metric in results["metrics"].items():
        _check_types(metric, {"title": str, "better": str})
        if metric["better"] not in ARROWS:
            raise ValueError(f"{name}: better is {metric['better']!r}")
        if metric.get("value") is None:
            continue
        _check_types(metric, {"value": (int, float), "n": int})
        numbers = [*metric.get("per_video", {}).values(), *(metric.get("interval") or ())]
        if not all(isinstance(value, (int, float)) for value in numbers if value is not None):
            raise TypeError(f"{name}: a score is no number")
        if metric.get("interval") is not None and len(metric["interval"]) != 2:
            raise ValueError(f"{name}: an interval has two ends")


def _check_types(fields: Results, types: dict[str, Any]) -> None:
    for name, kind in types.items():
        if not isinstance(fields[name], kind) or isinstance(fields[name], bool):
            raise TypeError(f"{name} is {str(fields[name])[:40]!r}")


def _write_csv(path: Path, results: Results) -> None:
    """A line per figure and video, and one with id "all" per figure. Raises: OutputError."""
    sides = [(results["pred"], results["metrics"])]
    if paired := results["paired"]:
        sides += [(paired["versus"], paired["metrics"]), ("difference", paired["differences"])]
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["prediction", "figure", "id", "value", "low", "high", "n", "skipped"])
        for side, metrics in sides:
            for name, result in metrics.items():
                if "skipped" in result:
                    writer.writerow([side, name, "all", "", "", "", "", result["skipped"]])
                    continue
                low, high = result["interval"] or ("", "")
                writer.writerow([side, name, "all", result["value"], low, high, result["n"], ""])
                for id, value in result.get("per_video", {}).items():
                    writer.writerow([side, name, id, value, "", "", "", ""])


# --------------------------------------------------------------------------------------- on a terminal


def number(value: float) -> str:
    """Four significant digits, as the paper prints: 0.01512, 0.9590, 24.16, 171.3."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    return f"{value:.{min(6, max(0, 3 - math.floor(math.log10(abs(value)))))}f}"


def results_table(results: Results) -> Table:
    """A row per figure: value, interval, n; with two sides also the other's value and the difference."""
    paired = results["paired"]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("metric")
    for title in ("value", "95 % interval", "n"):
        table.add_column(title, justify="right")
    if paired:
        table.add_column("versus", justify="right")
        table.add_column("difference", justify="right")
    for name, result in results["metrics"].items():
        row = [f"{result['title']}{ARROWS[result['better']]}", _value(result)]
        row += ["", ""] if "skipped" in result else [_interval(result), str(result["n"])]
        if paired:
            other, gap = paired["metrics"][name], paired["differences"][name]
            row.append(f"{_value(other)} {_own_n(other, result)}".strip())
            sign = "+" if gap.get("value", 0) > 0 else ""
            words = () if "skipped" in gap else (sign + number(gap["value"]), _interval(gap))
            row.append(" ".join(filter(None, (*words, _own_n(gap, result)))))
        table.add_row(*row)
    return table


def remarks(results: Results) -> Iterator[str]:
    """What the table does not say: what is skipped and why, the gap in n, warnings and notes."""
    if gap := results["asked"] - results["n"]:
        yield f"n = {results['n']} of {results['asked']}: {gap} videos could not be scored"
    reasons: dict[str, list[str]] = {}
    paired = results["paired"]
    for name, result in results["metrics"].items():
        for kind in ("skipped", "warning"):
            if why := result.get(kind):
                reasons.setdefault(f"{kind}: {why}", []).append(result["title"])
        other = paired["metrics"][name].get("skipped") if paired else None
        if other and other != result.get("skipped"):
            reasons.setdefault(f"skipped: {other}", []).append(f"{result['title']} (versus)")
    for why, titles in reasons.items():
        yield f"{', '.join(titles)}: {why}"
    for note in results["notes"]:
        yield f"note: {note}"


def _own_n(result: Results, beside: Results) -> str:
    """(n = 3) if a figure is over other videos than the one that it stands beside."""
    return "" if "skipped" in result or result["n"] == beside.get("n") else f"(n = {result['n']})"


def _value(result: Results) -> str:
    return "skipped" if "skipped" in result else f"{number(result['value'])} {result['unit']}".strip()


def _interval(result: Results) -> str:
    return "" if result["interval"] is None else "[{}, {}]".format(*map(number, result["interval"]))
