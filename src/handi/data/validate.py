"""Re-reading a folder of prepared clips: every byte that training reads, and all that is said of it."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from handi.core.errors import InputError
from handi.core.progress import Progress
from handi.core.reading import parse_json, read_json, stream_lines
from handi.data import shards
from handi.data.ledger import KEPT, Row
from handi.data.stages import texts_of
from handi.method.area import PriorMask


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
    of prepared.json are those of the clips. One clip is in memory at a time. Raises: InputError for a folder
    that is not one of prepared clips, or not finished.
    """
    folder = Path(folder).expanduser()
    about = shards.read_prepared(folder)
    return Reading(folder, about).run()


class Reading:
    def __init__(self, folder: Path, about: dict[str, Any]) -> None:
        self.folder, self.about, self.settings = folder, about, about["settings"]
        self.size = (self.settings["size"][0], self.settings["size"][1])
        self.frames = int(self.settings["frames"])
        self.damages: list[Damage] = []
        self.tallies: dict[str, _Tally] = {}
        self.prior = PriorMask(*self.size)

    def found(self, where: str, what: str) -> None:
        self.damages.append(Damage(where, what))

    def run(self) -> list[Damage]:
        splits = self.about["splits"].values()
        self._hashes()
        with Progress("validate", sum(split["clips"] for split in splits), "clips") as bar:
            ledger, index = _Lines(self._ledger()), _Lines(self._index())
            ids: set[str] = set()
            for row in self._rows():
                self._same(shards.LEDGER, ledger, row)
                if row["id"] in ids:
                    self.found(shards.LEDGER, f"clip {row['id']} stands in it twice")
                ids.add(row["id"])
                tally = self.tallies.setdefault(row["split"], _Tally())
                tally.add(row)
                if row["status"] == KEPT:
                    self._same(shards.INDEX, index, row)
                    self._clip(row)
                bar.advance()
            for name, lines in ((shards.LEDGER, ledger), (shards.INDEX, index)):
                lines.skip()
                if lines.alone:
                    such = f"{lines.alone[0]} and {len(lines.alone) - 1} other clips"
                    self.found(
                        name, f"has {such if lines.alone[1:] else lines.alone[0]}, no shard's part has"
                    )
        self._beside()
        return self.damages

    def _hashes(self) -> None:
        """Of the files beside the shards, as they were when the preparation was finished."""
        if self.about.get("sha256") != shards.hash_of_prepared(self.about):
            self.found(shards.PREPARED, "is not as it was written")
        for name in shards.BESIDE:
            try:
                now = shards.hash_of(self.folder / name)
            except FileNotFoundError:
                now = None
            except OSError as error:
                self.found(name, f"cannot be read ({error})")
                continue
            if now != dict(self.about.get("files", {})).get(name):
                self.found(name, "is missing" if now is None else "is not as it was written")

    # ------------------------------------------------------------------------------- lines of text

    def _ledger(self) -> Iterator[Row]:
        try:
            yield from shards.read_ledger(self.folder)
        except InputError as error:
            self.found(shards.LEDGER, error.what)

    def _index(self) -> Iterator[Row]:
        try:
            table = shards.read_clip_rows(self.folder)
        except InputError as error:
            self.found(shards.INDEX, error.what)
            return
        for batch in table.to_batches(max_chunksize=1024):
            yield from batch.to_pylist()

    def _same(self, name: str, lines: _Lines, row: Row) -> None:
        """The line of another file must say the same as the shard's part, wherever it says something."""
        other = lines.of(row)
        if other is None:
            if lines.ended:  # said once, not for every clip after it
                if not any(damage.where == name and " clip " in damage.what for damage in self.damages):
                    self.found(name, f"ends before clip {row['id']}")
            else:
                self.found(name, f"has no clip {row['id']}")
            return
        wrong = [key for key, value in other.items() if value != row.get(key)]
        if name == shards.LEDGER:
            wrong += [key for key in row if key not in other and key not in shards.PLACE]
        if wrong:
            self.found(name, f"clip {row['id']}: {', '.join(wrong)} not as in its shard's part")

    # ------------------------------------------------------------------------------------- shards

    def _rows(self) -> Iterator[Row]:
        """The rows of all shards' parts in order; each shard is checked as a file on the way."""
        place = self.folder / shards.SHARDS
        names = {path.stem for path in place.glob("*") if path.suffix in (".tar", ".jsonl")}
        if len(names) != self.about["shards"]:
            self.found(shards.SHARDS, f"holds {len(names)} shards, there should be {self.about['shards']}")
        for name in sorted(names, key=lambda name: (name.partition("-")[0], len(name), name)):
            try:
                _, rows = shards.read_part(self.folder, name)
                part = shards.part_path(self.folder, name)
                key = parse_json(next(stream_lines(part), ""), part)["key"]
            except (InputError, OSError, ValueError, KeyError) as error:
                what = error.what if isinstance(error, InputError) else str(error)
                self.found(f"{shards.SHARDS}/{name}.jsonl", what)
                continue
            if not shards.part_is_whole(self.folder, name, key):
                self.found(f"{shards.SHARDS}/{name}.tar", "is missing, or not as long as it was")
            self._tiles(name, [row for row in rows if row["status"] == KEPT])
            yield from rows

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
        except (
            Exception
        ) as error:  # whatever a decoder makes of bytes that were changed before they were hashed
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
            if row["split"] == "train":
                self.prior.add(area > 0)
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
        """prepared.json, statistics.json and the prior mask against what was read."""
        for split in sorted({*self.about["splits"], *self.tallies}):
            tally, said = self.tallies.get(split, _Tally()), self.about["splits"].get(split, {})
            for name, value in tally.counts().items():
                if said.get(name) != value:
                    what = f"says {said.get(name)} for {name} of {split}, the shards say {value}"
                    self.found(shards.PREPARED, what)
        try:
            statistics = dict(read_json(self.folder / shards.STATISTICS))
        except (OSError, ValueError, TypeError) as error:
            self.found(shards.STATISTICS, f"cannot be read ({error})")
        else:
            for split, tally in self.tallies.items():
                said = statistics.get(split)
                for name, value in tally.statistics().items():
                    if not isinstance(said, dict) or said.get(name) != value:
                        self.found(shards.STATISTICS, f"its {name} of {split} are not those of the clips")
        self._prior()

    def _prior(self) -> None:
        path = self.folder / shards.PRIOR
        if not self.prior.clips:
            if path.exists():
                self.found(shards.PRIOR, "is there, though no training clip is")
            return
        try:
            prior = np.asarray(Image.open(path)).astype(np.int64)
        except (OSError, ValueError, SyntaxError) as error:
            self.found(shards.PRIOR, f"cannot be read ({error})")
            return
        if not np.array_equal(prior, np.rint(self.prior.counts / self.prior.clips * 65535)):
            self.found(shards.PRIOR, "is not the mean of the training clips' motion areas")


class _Lines:
    """The lines of a file that has one for each clip, in order, beside those of the shards' parts."""

    def __init__(self, rows: Iterator[Row]) -> None:
        self._rows = rows
        self._next = next(rows, None)
        self.alone: list[str] = []  # clips that only this file has

    @property
    def ended(self) -> bool:
        return self._next is None

    def of(self, row: Row) -> Row | None:
        """The line of a row's clip; None where there is none."""
        self.skip(_place(row))
        if self._next is None or _place(self._next) != _place(row):
            return None
        found, self._next = self._next, next(self._rows, None)
        return found

    def skip(self, place: tuple[str, str] | None = None) -> None:
        """Pass by all lines before a clip's place, or all that are left."""
        while self._next is not None and (place is None or _place(self._next) < place):
            self.alone.append(str(self._next.get("id")))
            self._next = next(self._rows, None)


def _place(row: Row) -> tuple[str, str]:
    """By which rows are in order."""
    return str(row.get("split")), str(row.get("id"))


class _Tally:
    """What is counted of a split, apart from what `handi prepare` counted."""

    def __init__(self) -> None:
        self.clips = self.kept = self.bytes = 0
        self.hash = hashlib.sha256()
        self.verbs: Counter[str] = Counter()
        self.nouns: Counter[str] = Counter()
        self.hands: Counter[int] = Counter({0: 0, 1: 0, 2: 0})

    def add(self, row: Row) -> None:
        self.clips += 1
        if row["status"] == KEPT:
            self.kept += 1
            self.bytes += row["bytes"]
            self.hash.update(f"{row['id']} {row['sha256']}\n".encode())
            self.verbs[row["verb"] or ""] += 1
            self.nouns[row["noun"] or ""] += 1
            self.hands.update(row["hands"])

    def counts(self) -> dict[str, Any]:
        return {
            "clips": self.clips,
            "kept": self.kept,
            "rejected": self.clips - self.kept,
            "bytes": self.bytes,
            "sha256": self.hash.hexdigest(),
        }

    def statistics(self) -> dict[str, Any]:
        hands = {str(count): frames for count, frames in sorted(self.hands.items())}
        return {"kept": self.kept, "verbs": self.verbs, "nouns": self.nouns, "frames_with_hands": hands}


def _listed(texts: dict[str, tuple[str, ...]]) -> dict[str, list[str]]:
    return {kind: list(sentences) for kind, sentences in texts.items()}


def _size(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))
