"""What is known of all clips together, from the shards' parts: ledger, index, prior mask, statistics."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from handi.core.files import replacing, sha256_of, write_json, writing
from handi.data import shards
from handi.data.ledger import FAILED, KEPT, Row, kind_of_reason, write_rows
from handi.data.stages import PrepareSettings

READABLE: dict[str, Any] = {"indent": 1, "ensure_ascii": False, "sort_keys": True}  # how JSON is written
ROW_GROUP = 8192  # rows that are in memory at once
TEXT, WHOLE, REAL, LIST = pa.string(), pa.int64(), pa.float64(), pa.list_
COLUMNS: dict[str, Any] = {
    "id": TEXT, "split": TEXT, "action": TEXT, "description": TEXT, "paraphrases": LIST(TEXT), "verb": TEXT,
    "noun": TEXT, "participant": TEXT, "video": TEXT, "start": REAL, "end": REAL, "seconds": REAL,
    "source_frames": WHOLE, "uneven": pa.bool_(), "source_size": LIST(WHOLE), "camera": REAL,
    "camera_support": REAL, "valid": REAL, "hands": LIST(pa.int8()), "left": WHOLE, "right": WHOLE,
    "area": REAL, "mirrors": pa.bool_(), "latent_mean": REAL, "latent_std": REAL,
    "shard": TEXT, "offset": WHOLE, "bytes": WHOLE, "sha256": TEXT,
}  # fmt: skip
SCHEMA = pa.schema([pa.field(name, kind) for name, kind in COLUMNS.items()])


def finish(
    out: Path, names: Sequence[str], settings: PrepareSettings, notes: Sequence[str]
) -> dict[str, Any]:
    """Write everything that stands beside the shards, `prepared.json` last; gives what that says.

    Shards of other names, which hold none of the source's clips any more, are deleted. Raises: InputError
    (a damaged part), OutputError.
    """
    with writing(out):
        for path in (out / shards.SHARDS).iterdir():
            if re.fullmatch(r"(train|val|test)-\d{5,}", path.stem) and path.stem not in names:
                path.unlink()
    summary = derive(out, names, settings.as_dict(), notes, out)
    summary["files"] = {name: sha256_of(out / name) for name in shards.BESIDE if (out / name).exists()}
    summary["sha256"] = shards.hash_of_prepared(summary)
    write_json(out / shards.PREPARED, summary, **READABLE)
    return summary


def derive(
    folder: Path, names: Sequence[str], settings: dict[str, Any], notes: Sequence[str], into: Path
) -> dict[str, Any]:
    """Write into a folder what follows from these shards' parts; gives what PREPARED says, without hashes.

    One shard's part is in memory at a time. Raises: InputError (a damaged part), OutputError.
    """
    tally = _Tally(settings["size"])
    with (
        replacing(into / shards.INDEX) as index,
        replacing(into / shards.LEDGER) as ledger,
        pq.ParquetWriter(index, SCHEMA, compression="zstd", write_page_checksum=True) as table,
    ):
        write_rows(ledger, _through(folder, names, table, tally))
    if tally.areas.any():
        mean = np.rint(tally.areas / tally.training * 65535).astype(np.uint16)
        with replacing(into / shards.PRIOR) as temporary:
            temporary.write_bytes(shards.encode_picture(mean, "png"))
    else:
        (into / shards.PRIOR).unlink(missing_ok=True)
    write_json(into / shards.STATISTICS, tally.statistics(), **READABLE)
    return {
        "format": shards.FORMAT,
        "version": shards.VERSION,
        "settings": settings,
        # "hull", of the hands (paper §2.1), or "moved", all that changes
        "area": settings["truth"] or "hull",
        "splits": {name: split.counts() for name, split in sorted(tally.splits.items())},
        "shards": len(names),
        "notes": list(notes),
    }


def _through(out: Path, names: Sequence[str], table: pq.ParquetWriter, tally: _Tally) -> Iterator[Row]:
    """Every row of every part in order; the kept ones go into the table on the way, all into the tally."""
    group: list[Row] = []
    for name in names:
        areas, rows = shards.read_part(out, name)
        tally.add_areas(name, areas)
        for row in rows:
            tally.add(row)
            if row["status"] == KEPT:
                group.append({column: row.get(column) for column in COLUMNS})
            if len(group) == ROW_GROUP:
                table.write_table(pa.Table.from_pylist(group, SCHEMA))
                group = []
            yield row
    if group:
        table.write_table(pa.Table.from_pylist(group, SCHEMA))


class _Tally:
    """What is counted over all rows; integers and sums in a fixed order, so the same for any workers."""

    def __init__(self, size: Sequence[int]) -> None:
        self.areas = np.zeros(size, np.int64)  # training clips whose area holds the pixel
        self.splits: dict[str, _Split] = {}

    @property
    def training(self) -> int:
        return self.splits["train"].kept if "train" in self.splits else 0

    def add_areas(self, shard: str, areas: np.ndarray | None) -> None:
        if areas is not None and shard.startswith("train-"):
            self.areas += areas

    def add(self, row: Row) -> None:
        self.splits.setdefault(row["split"], _Split()).add(row)

    def statistics(self) -> dict[str, Any]:
        return {name: split.statistics() for name, split in sorted(self.splits.items())}


class _Split:
    """Counts and sums of one split."""

    def __init__(self) -> None:
        self.clips = self.kept = self.failed = self.bytes = 0
        self.reasons: Counter[str] = Counter()
        self.verbs: Counter[str] = Counter()
        self.nouns: Counter[str] = Counter()
        self.hands = [0, 0, 0]  # frames with none, one, two
        self.sums: Counter[str] = Counter()
        self.counts_of: Counter[str] = Counter()
        self.hash = hashlib.sha256()

    def add(self, row: Row) -> None:
        self.clips += 1
        if row["status"] != KEPT:
            self.reasons[kind_of_reason(row["reason"])] += 1
            self.failed += row["reason"].startswith(FAILED)
            return
        self.kept += 1
        self.bytes += row["bytes"]
        self.hash.update(f"{row['id']} {row['sha256']}\n".encode())
        self.verbs[row["verb"] or ""] += 1
        self.nouns[row["noun"] or ""] += 1
        for count in row["hands"]:
            self.hands[count] += 1
        for name in ("seconds", "camera", "valid", "area", "latent_mean", "latent_std"):
            if row.get(name) is not None:
                self.sums[name] += row[name]
                self.counts_of[name] += 1

    def counts(self) -> dict[str, Any]:
        """What `prepared.json` says of a split; the hash is the same as long as its clips are."""
        return {
            "clips": self.clips,
            "kept": self.kept,
            "rejected": self.clips - self.kept,
            **({"failed": self.failed} if self.failed else {}),  # of the rejected: by a fault of handi's
            "bytes": self.bytes,
            "sha256": self.hash.hexdigest(),
        }

    def statistics(self) -> dict[str, Any]:
        return {
            "kept": self.kept,
            "rejected": dict(self.reasons.most_common()),
            "verbs": dict(sorted(self.verbs.items(), key=lambda item: (-item[1], item[0]))),
            "nouns": dict(sorted(self.nouns.items(), key=lambda item: (-item[1], item[0]))),
            "frames_with_hands": {str(count): frames for count, frames in enumerate(self.hands)},
            "means": {name: round(self.sums[name] / count, 6) for name, count in self.counts_of.items()},
        }
