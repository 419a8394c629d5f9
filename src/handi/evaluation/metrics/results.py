"""`results.json`: the record of an evaluation, what writes it and what reads it back.

{
  "format": "handi-evaluation", "version": 1,
  "protocol": {"id": "handi-1", "scope": "full", "subset": "all", "clips": null, "frames": 15,
               "size": [H, W], "resamples": 1000, "confidence": 0.95},
  "device": "cpu",
  "pred": "FOLDER", "ref": "FOLDER",
  "n": 6, "asked": 7,                       videos scored, and those that the reference side has
  "refused": {id: "why this video was not scored"},
  "metrics": {
     figure: {"value": 0.86, "interval": [0.79, 0.92], "n": 6, "better": "higher", "title": …, "unit": …,
              "metric": "motion", "per_video": {id: 0.9}, "missing": {id: why}, "warning": …}
     figure: {"skipped": "why", "metric": …, "title": …, "better": …}
  },                                        set metrics have no "per_video"
  "paired": null | {"versus": "FOLDER", "metrics": {… as above, of the other prediction, same videos},
                    "differences": {figure: {"value", "interval", "n"}}},     ours minus the other's
  "preprocessing": {metric: "lego-stretch-299"},
  "weights": {file: sha256}, "versions": {library: version}, "notes": [line, …]
}
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from handi.core.errors import InputError
from handi.core.files import replacing
from handi.core.reading import read_json

FORMAT, VERSION = "handi-evaluation", 1


def write_results(path: str | Path, results: dict[str, Any]) -> None:
    """Write `results.json`, atomically. Raises: OutputError."""
    with replacing(path) as temporary:
        text = json.dumps({"format": FORMAT, "version": VERSION, **results}, indent=1, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def read_results(path: str | Path) -> dict[str, Any]:
    """Read a `results.json`, or the one in a folder. Raises: InputError."""
    path = Path(path)
    path = path / "results.json" if path.is_dir() else path
    if not path.exists():
        raise InputError("no such results", where=path, mend="make them with `handi evaluate`")
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
        raise InputError(what, where=path, mend="make it again with `handi evaluate`") from error
    return results


def _check(results: dict[str, Any]) -> None:
    """Raises: KeyError, TypeError, ValueError, AttributeError for entries of other kinds than are read."""
    _check_kinds(results, {"n": int, "refused": dict, "metrics": dict, "protocol": dict})
    _check_kinds(results["protocol"], {"id": str, "scope": str})
    for name, metric in results["metrics"].items():
        _check_kinds(metric, {"title": str, "better": str})
        if metric["better"] not in ("higher", "lower", "neither"):
            raise ValueError(f"{name}: better is {metric['better']!r}")
        if metric.get("value") is None:
            continue
        _check_kinds(metric, {"value": (int, float), "n": int})
        numbers = [*metric.get("per_video", {}).values(), *(metric.get("interval") or ())]
        if not all(isinstance(value, (int, float)) for value in numbers if value is not None):
            raise TypeError(f"{name}: a score is no number")
        if metric.get("interval") is not None and len(metric["interval"]) != 2:
            raise ValueError(f"{name}: an interval has two ends")


def _check_kinds(entries: dict[str, Any], kinds: dict[str, Any]) -> None:
    for name, kind in kinds.items():
        if not isinstance(entries[name], kind) or isinstance(entries[name], bool):
            raise TypeError(f"{name} is {str(entries[name])[:40]!r}")
