"""Re-reading a folder of prepared clips: every byte that training reads, and all that is said of it."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet as pq
from PIL import Image

from handi.core.errors import InputError
from handi.core.files import sha256_of
from handi.core.progress import Progress
from handi.core.reading import parse_json, read_json, stream_lines
from handi.data import shards
from handi.data.finish import derive
from handi.data.ledger import KEPT, Row
from handi.data.stages import texts_of


@dataclass(frozen=True)
class Damage:
    """Something that is not as it was written, or not as it should be."""

    where: str  # a file, and a clip in it
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


def validate(folder: str | Path) -> list[Damage]:
    """Read everything of a prepared folder again and give what is wrong with it; nothing: it is whole.

    Each clip: its hash, that all its members decode, have their shape and agree with its line. Then that
    shards hold their clips and nothing else, and that ledger, index, prior mask, statistics and the counts
    of prepared.json are those that follow from the shards. One clip is in memory at a time.
    Raises: InputError for a folder that is not one of prepared clips, or not finished.
    """
    folder = Path(folder).expanduser()
    about = shards.read_prepared(folder)
    return ShardCheck(folder, about).run()


class ShardCheck:
    """A folder while it is read again."""

    def __init__(self, folder: Path, about: dict[str, Any]) -> None:
        self.folder, self.about, self.settings = folder, about, about["settings"]
        self.size = (self.settings["size"][0], self.settings["size"][1])
        self.frames = int(self.settings["frames"])
        self.damages: list[Damage] = []
        self.names: list[str] = []  # of the shards whose parts could be read
        self.whole = True  # that is: all of them
        self.areas = np.zeros(self.size, np.int64)  # clips of a shard whose motion area holds the pixel

    def found(self, where: str, what: str) -> None:
        self.damages.append(Damage(where, what))

    def run(self) -> list[Damage]:
        """Read everything."""
        self._hashes()
        clips = sum(split["clips"] for split in self.about["splits"].values())
        with Progress("validate", clips, "clips") as bar:
            ids: set[str] = set()
            for row in self._rows():
                if row["id"] in ids:
                    self.found(shards.LEDGER, f"clip {row['id']} stands in it twice")
                ids.add(row["id"])
                if row["status"] == KEPT:
                    self._clip(row)
                bar.advance()
        if self.whole:  # else each clip of a damaged part would be a damage of every file beside the shards
            self._beside()
        return self.damages

    def _hashes(self) -> None:
        """Of the files beside the shards, as they were when the preparation was finished."""
        if self.about.get("sha256") != shards.hash_of_prepared(self.about):
            self.found(shards.PREPARED, "is not as it was written")
        for name in shards.BESIDE:
            path = self.folder / name
            now = sha256_of(path) if path.exists() else None
            if now != dict(self.about.get("files", {})).get(name):
                self.found(name, "is missing" if now is None else "is not as it was written")

    # ------------------------------------------------------------------------------------- shards

    def _rows(self) -> Iterator[Row]:
        """The rows of all shards' parts in order; each shard is checked as a file on the way."""
        place = self.folder / shards.SHARDS
        names = {path.stem for path in place.glob("*") if path.suffix in (".tar", ".jsonl")}
        if len(names) != self.about["shards"]:
            self.found(shards.SHARDS, f"holds {len(names)} shards, there should be {self.about['shards']}")
        for name in sorted(names, key=lambda name: (name.partition("-")[0], len(name), name)):
            try:
                areas, rows = shards.read_part(self.folder, name)
                part = shards.part_path(self.folder, name)
                key = parse_json(next(stream_lines(part), ""), part)["key"]
            except (InputError, OSError, ValueError, KeyError) as error:
                what = error.what if isinstance(error, InputError) else str(error)
                self.found(f"{shards.SHARDS}/{name}.jsonl", what)
                self.whole = False
                continue
            self.names.append(name)
            if not shards.part_is_whole(self.folder, name, key):
                self.found(f"{shards.SHARDS}/{name}.tar", "is missing, or not as long as it was")
            self._tiles(name, [row for row in rows if row["status"] == KEPT])
            self.areas, before = np.zeros(self.size, np.int64), len(self.damages)
            yield from rows
            said = np.zeros(self.size, np.int64) if areas is None else areas
            if len(self.damages) == before and not np.array_equal(self.areas, said):
                self.found(f"{shards.SHARDS}/{name}.jsonl", "its motion areas are not those of its clips")

    def _tiles(self, name: str, rows: list[Row]) -> None:
        """A tar is its clips one after the other, and zeros."""
        end = 0
        for row in rows:
            if (row["shard"], row["offset"]) != (name, end):
                self.found(
                    f"{shards.SHARDS}/{name}.tar", f"clip {row['id']} does not follow the one before it"
                )
            end = row["offset"] + row["bytes"]
        path = self.folder / shards.SHARDS / f"{name}.tar"
        if path.is_file():
            with path.open("rb") as file:
                file.seek(end)
                if file.read(2**20).strip(b"\0"):
                    self.found(f"{shards.SHARDS}/{name}.tar", "holds something after its last clip")

    # -------------------------------------------------------------------------------------- clips

    def _clip(self, row: Row) -> None:
        where = f"{shards.SHARDS}/{row['shard']}.tar, clip {row['id']}"
        try:
            members = shards.read_piece(self.folder, row)
            for what in self._content(row, members):
                self.found(where, what)
        except InputError as error:
            self.found(where, error.what.removeprefix(f"clip {row['id']} "))
        except Exception as error:  # of a decoder, for bytes that were changed before they were hashed
            self.found(where, f"cannot be decoded ({type(error).__name__}: {error})")

    def _content(self, row: Row, members: dict[str, bytes]) -> Iterator[str]:
        """What is wrong with a clip whose bytes are those that were written."""
        height, width = self.size
        kind = self.settings["pictures"]
        left = dict(members)
        for name in [f"{n:02d}.{kind}" for n in range(self.frames)] if kind != "none" else []:
            shape = shards.decode_picture(left.pop(name)).shape
            if shape != (height, width, 3):
                yield f"frame {name} is {_size(shape)}, not {_size(self.size)}"
        area = shards.decode_picture(left.pop("area.png"), grey=True)
        if area.shape != self.size or not np.isin(area, (0, 255)).all():
            yield f"its motion area is no mask of {_size(self.size)}"
        else:
            share = float((area > 0).mean())
            if (not share and not self.settings["first_frames"]) or abs(share - row["area"]) > 1e-6:
                yield f"its motion area is {share:.4f} of the picture, its line says {row['area']}"
            self.areas += area > 0
        hands = shards.decode_array(left.pop("hands.npz"))
        for name, shape in (("joints", (42, 2)), ("visible", (2,)), ("rois", (2, 4)), ("presence", (2,))):
            if hands[name].shape != (self.frames, *shape) or not np.isfinite(hands[name]).all():
                yield f"its {name} are not {self.frames}×{_size(shape)} finite numbers"
        if hands["visible"].sum(axis=1).tolist() != list(row["hands"]):
            yield "its hands are not those of its line"
        texts = texts_of(row["action"], row["paraphrases"], row["description"])
        written = parse_json(left.pop("json"), row["id"], checked=False)
        if written != {**{k: v for k, v in row.items() if k not in shards.PLACE}, "texts": _listed(texts)}:
            yield "its JSON is not its line of the ledger"
        yield from self._true(left)
        yield from self._cached(left, len(list(itertools.chain(*texts.values()))))
        if self.settings["camera"] == "stabilise":
            valid = shards.decode_picture(left.pop("valid.png"), grey=True)
            if valid.shape != self.size or not np.isin(valid, (0, 255)).all():
                yield f"its valid pixels are no mask of {_size(self.size)}"
            elif abs((share := float((valid > 0).mean())) - row["valid"]) > 1e-6:
                yield f"its valid pixels are {share:.4f} of the picture, its line says {row['valid']}"
        if left:
            yield f"holds {', '.join(left)}, which is not known"

    def _true(self, left: dict[str, bytes]) -> Iterator[str]:
        """What only world clips hold."""
        for name, most in (("referents.png", 3), ("ids.png", 255)):
            if name in left:
                marks = shards.decode_picture(left.pop(name), grey=True)
                if marks.shape != self.size or marks.max() > most:
                    yield f"{name} is {_size(marks.shape)} of values up to {marks.max()}"
        if self.settings["first_frames"]:
            requests = parse_json(left.pop("requests").decode(), "requests", checked=False)
            ways = shards.decode_array(left.pop("joints.npy"))
            if ways.ndim != 4 or ways.shape[0] != len(requests) or ways.shape[2:] != (42, 2):
                yield f"its joints are {_size(ways.shape)}, of {len(requests)} requests"
            elif not np.isfinite(ways).all():
                yield "its joints are not finite numbers"

    def _cached(self, left: dict[str, bytes], sentences: int) -> Iterator[str]:
        """Latents and text states, where the models say that there are some."""
        for name, model, shape in (
            ("latents.npy", "vae", (self.frames, None, None, None)),
            ("text.npy", "text_encoder", (sentences, None, None)),
        ):
            if model not in self.settings["models"]:
                continue
            array = shards.decode_array(left.pop(name))
            fits = array.ndim == len(shape) and all(
                a in (b, None) for a, b in zip(shape, array.shape, strict=True)
            )
            if not fits or array.dtype != np.float16 or not np.isfinite(array).all():
                yield f"{name} is {_size(array.shape)} {array.dtype}, or not finite"

    # ------------------------------------------------------------------------------ the other files

    def _beside(self) -> None:
        """The files beside the shards, against those that follow from the shards' parts."""
        with tempfile.TemporaryDirectory() as name:
            again = Path(name)
            said = derive(self.folder, self.names, self.settings, self.about["notes"], again)
            for split in sorted({*said["splits"], *self.about["splits"]}):
                true, written = (all["splits"].get(split, {}) for all in (said, self.about))
                for key in sorted({*true, *written}):
                    if true.get(key) != written.get(key):
                        what = f"says {written.get(key)} for {key} of {split}, the shards say {true.get(key)}"
                        self.found(shards.PREPARED, what)
            for file, read in READERS.items():
                if not (again / file).exists():
                    if (self.folder / file).exists():
                        self.found(file, "is there, and nothing in the shards that it would be made of")
                    continue
                try:
                    pieces = zip_longest(read(self.folder / file), read(again / file))
                    wrong = next((n for n, (one, other) in enumerate(pieces, start=1) if one != other), None)
                except (OSError, ValueError, SyntaxError, pyarrow.ArrowException) as error:
                    self.found(file, f"cannot be read ({error})")
                else:
                    if wrong is not None:
                        self.found(file, f"is not what the shards say, from line {wrong} on")


def _rows_of(path: Path) -> Iterator[Row]:
    for batch in pq.read_table(path).to_batches(max_chunksize=1024):
        yield from batch.to_pylist()


def _lines_of_picture(path: Path) -> Iterator[list[int]]:
    yield from np.asarray(Image.open(path)).tolist()


# What is compared of each file, piece by piece: not bytes, which may change with a library's version.
READERS: dict[str, Callable[[Path], Iterable[Any]]] = {
    shards.LEDGER: stream_lines,
    shards.INDEX: _rows_of,
    shards.PRIOR: _lines_of_picture,
    shards.STATISTICS: lambda path: [read_json(path)],
}


def _listed(texts: dict[str, tuple[str, ...]]) -> dict[str, list[str]]:
    return {kind: list(sentences) for kind, sentences in texts.items()}


def _size(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))
