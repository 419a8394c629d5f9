"""Where the rows of a table come from: whose code, which revision and weights, trained on what, how long."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

from handi.core.errors import InputError
from handi.core.reading import read_json
from handi.evaluation import paper
from handi.evaluation.layout import Cell, Column, FigureRow, Table
from handi.evaluation.methods.base import Origin
from handi.evaluation.study import Study
from handi.generation.record import RUN_FILE

HEADS = ("Data", "Method", "Code", "Revision", "Weights", "Trained on")
COLUMNS = (Column("clips", "clips"), Column("seconds", "seconds per clip", "lower"))
UNKNOWN = "not known"


def origins_table(study: Study) -> Table:
    """A row per method and data set of a study that has run.

    Stored videos have what their records say, if handi made them. Raises: HandiError.
    """
    rows = []
    for data in study.data:
        for spec in study.methods:
            records = _records(study.folder_of(spec, data))
            origin = study.origins.get((spec.name, data)) or _origin_of(records)
            name = paper.LABELS.get(paper.method_key(spec.name) or "", spec.name)
            words = [getattr(origin, field.name) or UNKNOWN for field in fields(Origin)]
            rows.append(FigureRow((data, name, *words), _cells(records), ""))
    notes = [
        "Clips and seconds are those of the records beside the clips; the seconds of a program include its "
        "start, shared among its clips. How many of them are scored is said in each row of the other tables.",
        "The revision is the commit of the checkout that ran, or the version of the package.",
    ]
    return Table("Where the rows come from", HEADS, COLUMNS, rows, notes)


def _records(folder: Path) -> list[dict[str, Any]]:
    """The records of the clips in a folder, in order; those that are damaged are left out."""
    found = []
    for path in sorted(folder.glob(f"*/{RUN_FILE}")) if folder.is_dir() else []:
        with suppress(InputError):
            record = read_json(path)
            if isinstance(record, dict) and "origin" in record:
                found.append(record)
    return found


def _origin_of(records: list[dict[str, Any]]) -> Origin:
    """Of clips that handi made earlier: the origins that they agree on."""
    known = [record["origin"] for record in records if isinstance(record["origin"], Mapping)]
    agreed = {}
    for field in fields(Origin):
        values = {str(one.get(field.name, "")) for one in known}
        agreed[field.name] = values.pop() if len(values) == 1 else ""
    return Origin(**agreed)


def _cells(records: list[dict[str, Any]]) -> dict[str, Cell]:
    seconds = [record["seconds"] for record in records if isinstance(record.get("seconds"), int | float)]
    why = "no records of handi's beside the videos"
    if not seconds:
        return {"clips": Cell(why=why), "seconds": Cell(why=why)}
    return {"clips": Cell(len(records), printed=True), "seconds": Cell(statistics.fmean(seconds))}
