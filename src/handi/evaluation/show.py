"""The results of an evaluation as a table on the terminal, and as CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.table import Table

from handi.core.files import replacing

ARROWS = {"higher": "↑", "lower": "↓", "neither": ""}
Results = dict[str, Any]


def table(results: Results) -> Table:
    """A row a figure: value, interval, n; with two predictions also the other's value and the difference."""
    paired = results["paired"]
    made = Table(box=None, pad_edge=False, header_style="bold")
    made.add_column("metric")
    made.add_column("value", justify="right")
    made.add_column("95 % interval", justify="right")
    made.add_column("n", justify="right")
    if paired:
        made.add_column("versus", justify="right")
        made.add_column("difference", justify="right")
    for name, entry in results["metrics"].items():
        row = [f"{entry['title']} {ARROWS[entry['better']]}".strip(), *_cells(entry)]
        if paired:
            other, gap = paired["metrics"][name], paired["differences"][name]
            row.append(f"{_value(other)} {_own_n(other, entry)}".strip())
            words = () if "skipped" in gap else (_signed(gap["value"]), _interval(gap), _own_n(gap, entry))
            row.append(" ".join(filter(None, words)))
        made.add_row(*row)
    return made


def lines(results: Results) -> Iterator[str]:
    """What the table does not say: what is skipped and why, the gap in n, warnings and notes."""
    if gap := results["asked"] - results["n"]:
        yield f"n = {results['n']} of {results['asked']}: {gap} videos could not be scored"
    reasons: dict[str, list[str]] = {}
    paired = results["paired"]
    for name, entry in results["metrics"].items():
        if why := entry.get("skipped"):
            reasons.setdefault(f"skipped: {why}", []).append(entry["title"])
        elif why := entry.get("warning"):
            reasons.setdefault(f"warning: {why}", []).append(entry["title"])
        other = paired["metrics"][name].get("skipped") if paired else None
        if other and other != entry.get("skipped"):
            reasons.setdefault(f"skipped: {other}", []).append(f"{entry['title']} (versus)")
    for why, titles in reasons.items():
        yield f"{', '.join(titles)}: {why}"
    for note in results["notes"]:
        yield f"note: {note}"


def write_csv(path: str | Path, results: Results) -> None:
    """A line a figure and video, and one with id "all" for each figure. Raises: OutputError."""
    sides = [(results["pred"], results["metrics"])]
    if paired := results["paired"]:
        sides += [(paired["versus"], paired["metrics"]), ("difference", paired["differences"])]
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["prediction", "figure", "id", "value", "low", "high", "n", "skipped"])
        for side, metrics in sides:
            for name, entry in metrics.items():
                if "skipped" in entry:
                    writer.writerow([side, name, "all", "", "", "", "", entry["skipped"]])
                    continue
                low, high = entry["interval"] or ("", "")
                writer.writerow([side, name, "all", entry["value"], low, high, entry["n"], ""])
                for id, value in entry.get("per_video", {}).items():
                    writer.writerow([side, name, id, value, "", "", "", ""])


def _cells(entry: Results) -> list[str]:
    if "skipped" in entry:
        return ["skipped", "", ""]
    return [_value(entry), _interval(entry), str(entry["n"])]


def _own_n(entry: Results, beside: Results) -> str:
    """(n = 3) where a figure is over other videos than the one that it stands beside."""
    return "" if "skipped" in entry or entry["n"] == beside.get("n") else f"(n = {entry['n']})"


def _value(entry: Results) -> str:
    if "skipped" in entry:
        return "skipped"
    return " ".join([number(entry["value"]), entry["unit"]]).strip()


def _interval(entry: Results) -> str:
    if entry["interval"] is None:
        return ""
    low, high = entry["interval"]
    return f"[{number(low)}, {number(high)}]"


def _signed(value: float) -> str:
    return ("+" if value > 0 else "") + number(value)


def number(value: float) -> str:
    """Three or four significant digits, without an exponent where people would not write one."""
    if 0 < abs(value) < 1e-4 or abs(value) >= 1e6:
        return f"{value:.2e}"
    if 0 < abs(value) < 0.1:
        return f"{value:.3g}"
    return f"{value:.{3 if abs(value) < 1 else 2 if abs(value) < 100 else 1}f}"
