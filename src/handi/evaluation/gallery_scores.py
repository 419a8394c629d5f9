"""The scores that a gallery shows: each video's own, and those of a method over all videos."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from handi.core.errors import without_paths
from handi.evaluation.results import Results


def scores_of(results: Sequence[Results | None], id: str) -> list[list[tuple[str, float | None]] | str]:
    """(title, value) of the scores of each method's video, or why it was not scored; nothing if none was.

    All list the same scores, so that lines of one height are of one kind: a score that a video lacks is None.
    """
    titles = {
        key: metric["title"]
        for result in results
        if result is not None
        for key, metric in result["metrics"].items()
        if id in metric.get("per_video", {})
    }

    def of(result: Results | None) -> list[tuple[str, float | None]] | str:
        if result is None:
            return []
        if id in result["refused"]:
            return str(result["refused"][id])
        values = {key: metric.get("per_video", {}).get(id) for key, metric in result["metrics"].items()}
        return [(title, values.get(key)) for key, title in titles.items()]

    scores = [of(result) for result in results]
    return scores if any(scores) else []


def summary_of(results: dict[str, Results]) -> dict[str, Any] | None:
    """The figures over all videos of methods by name: a row per method, with n and 95 % intervals."""
    if not results:
        return None
    columns: dict[str, Results] = {}
    values: dict[str, list[float]] = {}
    skipped, protocols = set(), set()
    for result in results.values():
        protocols.add(f"{result['protocol']['id']}, scope {result['protocol']['scope']}")
        for key, metric in result["metrics"].items():
            if "value" in metric:
                columns.setdefault(key, metric)
                values.setdefault(key, []).append(metric["value"])
            if "skipped" in metric:
                skipped.add(f"{metric['title']}: {without_paths(metric['skipped'])}")
    for result in results.values():
        for key, metric in result["metrics"].items():
            best = {"higher": max, "lower": min}.get(metric["better"])
            metric["best"] = (
                best and len(values.get(key, ())) > 1 and metric.get("value") == best(values[key])
            )
    rows = [(name, result["n"], result["metrics"]) for name, result in results.items()]
    note = f"Protocol {', '.join(sorted(protocols))}; intervals are 95 %, bootstrapped over the videos."
    return {"columns": columns, "rows": rows, "note": note, "skipped": sorted(skipped)}
