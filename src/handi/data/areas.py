"""Motion areas that stage 1 has made of prepared clips (`handi areas`), beside their shards.

DIR/areas/settings.json     which model made them and how; written first
DIR/areas/train-00000.tar   KEY.soft.png of each clip of that shard: H×W grey, 255 where the area is certain
DIR/areas/train-00000.jsonl one line for each: id, the hash of the clip that it was made of, where it lies in
                            the tar, its overlap with the true area; written last: where it lies, all is whole
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from handi.core.errors import InputError
from handi.core.files import replacing, write_json, write_text, writing
from handi.core.reading import read_json, read_jsonl
from handi.core.stores import read_range
from handi.core.types import BinaryMask, SoftMask
from handi.data import shards
from handi.data.claim import AREAS, locked
from handi.data.ledger import line
from handi.method.area import usable_area

SETTINGS = "settings.json"
FORMAT, VERSION = "handi-areas", 1
AGAIN = "run handi areas again: it makes what is missing"


class StoredAreas:
    """The areas beside a folder of prepared clips. Raises: InputError where there are none, or damaged."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / AREAS
        path = self.folder / SETTINGS
        if not path.exists():
            raise InputError(
                "holds no generated motion areas",
                where=folder,
                hint=f"make them: handi areas --model STAGE1 --data {folder}",
            )
        self.settings: dict[str, Any] = read_json(path)
        try:
            found = self.settings["format"], self.settings["version"]
            self.model = str(self.settings["model"])  # hash of the stage 1 that made them
        except (LookupError, TypeError) as error:
            raise InputError(
                f"is damaged ({type(error).__name__}: {error})", where=path, hint=f"delete it and {AGAIN}"
            ) from error
        if found != (FORMAT, VERSION):
            raise InputError(f"has format {found[0]} {found[1]}", where=path, hint="update handi")
        self._lines: dict[str, dict[str, dict[str, Any]]] = {}  # shard → clip's id → its line

    def of_shard(self, shard: str) -> dict[str, dict[str, Any]]:
        """The lines of a shard's clips by id; {} where it has none yet. Raises: InputError (damaged)."""
        if shard not in self._lines:
            path = self.folder / f"{shard}.jsonl"
            if not path.exists():
                return {}
            lines: dict[str, dict[str, Any]] = {}
            for _, one in read_jsonl(path):
                if isinstance(one, InputError) or "id" not in one:
                    raise InputError("is damaged", where=path, hint=f"delete it and {AGAIN}")
                lines[str(one["id"])] = one
            self._lines[shard] = lines
        return self._lines[shard]

    def has(self, row: Mapping[str, Any]) -> bool:
        """Whether there is an area of just this clip; row: of the index."""
        return self.of_shard(row["shard"]).get(row["id"], {}).get("clip") == row["sha256"]

    def require(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Raises: InputError where clips have no area."""
        if lacking := [row["id"] for row in rows if not self.has(row)]:
            raise InputError(
                f"{len(lacking)} of {len(rows)} clips have no generated motion area, such as {lacking[0]}",
                where=self.folder,
                hint=AGAIN,
            )

    def soft(self, row: Mapping[str, Any]) -> SoftMask:
        """What stage 1 made of a clip: H×W in [0, 1]. Raises: InputError (missing, damaged)."""
        self.require([row])
        place = self.of_shard(row["shard"])[row["id"]]
        path = self.folder / f"{row['shard']}.tar"
        try:
            name = f"{AREAS}/{path.name}"
            data = read_range(self.folder.parent, name, int(place["offset"]), int(place["bytes"]))
            if hashlib.sha256(data).hexdigest() != place["sha256"]:
                raise ValueError("its bytes are not those that were written")
            return shards.decode_picture(data, grey=True).astype(np.float32) / np.float32(255)
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise InputError(
                f"the area of {row['id']} is damaged ({error})",
                where=path,
                hint=f"delete {path.with_suffix('.jsonl')} and {AGAIN}",
            ) from error

    def area(self, row: Mapping[str, Any]) -> BinaryMask:
        """The area H×W that stage 2 is given, as in sampling. Raises: InputError."""
        return usable_area(self.soft(row))


@contextmanager
def adding(folder: Path, settings: Mapping[str, Any]) -> Iterator[StoredAreas]:
    """The areas of a folder, to be added to by this process alone; what a killed run left is cleared away.

    Raises: InputError for those of another model, or where another process is at work; OutputError.
    """
    with locked(folder / AREAS, "handi areas"):
        with writing(folder / AREAS):
            for entry in (folder / AREAS).glob(".*-*"):
                entry.unlink()
        yield _begin(folder, settings)


def _begin(folder: Path, settings: Mapping[str, Any]) -> StoredAreas:
    wanted = {"format": FORMAT, "version": VERSION, **settings}
    path = folder / AREAS / SETTINGS
    if not path.exists():
        write_json(path, wanted, indent=1, sort_keys=True)
    stored = StoredAreas(folder)
    if other := sorted(key for key, value in wanted.items() if stored.settings.get(key) != value):
        what = ", ".join(f"{key} {stored.settings.get(key)}, not {wanted[key]}" for key in other)
        raise InputError(
            f"holds areas that were made otherwise: {what}",
            where=stored.folder,
            hint="delete that folder to make them anew",
        )
    return stored


def write_shard(
    folder: Path,
    shard: str,
    rows: Sequence[Mapping[str, Any]],
    soft: Sequence[SoftMask],
    iou: Sequence[float],
) -> None:
    """The soft areas H×W of a shard's clips, and their overlap with the true ones. Raises: OutputError."""
    lines: list[str] = []
    home = folder / AREAS
    (home / f"{shard}.jsonl").unlink(missing_ok=True)  # lines must not stand beside another tar
    with (
        replacing(home / f"{shard}.tar") as temporary,
        tarfile.open(temporary, "w", format=tarfile.GNU_FORMAT) as tar,
    ):
        for row, mask, overlap in zip(rows, soft, iou, strict=True):
            data = shards.encode_picture(np.rint(mask * 255).astype(np.uint8), "png")
            info = tarfile.TarInfo(f"{shards.key_of(row['id'])}.soft.png")
            info.size, info.mode = len(data), 0o644
            offset = tar.offset + len(info.tobuf(tarfile.GNU_FORMAT))
            tar.addfile(info, BytesIO(data))
            place = {"offset": offset, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            lines.append(line({"id": row["id"], "clip": row["sha256"], **place, "iou": round(overlap, 4)}))
    write_text(home / f"{shard}.jsonl", "".join(lines))
