"""Clips as memory-mapped arrays, so that training never decodes: packed once, grown when clips are added.

FOLDER/.packed/KEY/       KEY hashes what the arrays depend on beside the clips' names
  segment-…/              some clips each; a segment appears whole or not at all
    clips.json            names and texts
    frames.npy areas.npy joints.npy visible.npy rois.npy
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from handi.core.errors import InputError
from handi.core.files import replacing, scratch_folder, sweep, writing
from handi.core.progress import Progress
from handi.core.reading import read_json
from handi.data.clips import TrainingClip

HOME, LEFT_OUT = ".packed", "left_out.json"
SEGMENT_BYTES = 128 << 20  # of frames: what a stopped run may lose, and what packing holds in memory
VERSION = 1  # of the arrays


@dataclass(frozen=True)
class PackedClip:
    """What is kept of a clip."""

    name: str
    frames: np.ndarray  # F×H×W×3 uint8
    areas: np.ndarray  # H×W uint8, masks by bits
    joints: np.ndarray  # F×42×2 float32
    visible: np.ndarray  # F×2 bool
    rois: np.ndarray  # F×2×4 float32
    texts: dict[str, tuple[str, ...]]
    mirrors: bool = True


class LeftOut(Exception):
    """A clip that cannot be trained on; its text says why."""


ARRAYS = ("frames", "areas", "joints", "visible", "rois")
RECORD = {"name", "texts", "mirrors"}  # of each clip in clips.json


class Packed:
    """The packed clips of a folder that are in `names`, in that order."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder = folder
        key = hashlib.sha256(json.dumps([VERSION, settings], sort_keys=True).encode()).hexdigest()[:16]
        self.home = folder / HOME / key
        self.names: list[str] = []
        self.left_out: dict[str, str] = {}  # name → why, so that they are not read again
        self._places: dict[str, tuple[int, int]] = {}  # name → segment, row
        self._records: list[list[dict[str, Any]]] = []
        self._arrays: list[dict[str, np.ndarray]] = []
        self._opened: set[str] = set()
        sweep(self.home)
        self._open_new()

    def _open_new(self) -> None:
        if (self.home / LEFT_OUT).exists():
            try:
                self.left_out = dict(read_json(self.home / LEFT_OUT))
            except (OSError, ValueError, TypeError) as error:
                raise InputError(
                    f"is damaged ({error})", where=self.home / LEFT_OUT, mend="delete it"
                ) from error
        for segment in sorted(self.home.glob("segment-*")):
            if segment.name in self._opened:
                continue
            try:
                records = read_json(segment / "clips.json", checked=False)
                arrays = {name: np.load(segment / f"{name}.npy", mmap_mode="r") for name in ARRAYS}
                counts = {len(records), *map(len, arrays.values())}
                if len(counts) > 1 or not all(record.keys() >= RECORD for record in records):
                    raise ValueError("its files do not belong together")
            except (OSError, ValueError, EOFError, TypeError, AttributeError) as error:
                raise InputError(
                    f"packed clips are damaged ({error})", where=segment, mend="delete that folder"
                ) from error
            self._opened.add(segment.name)
            self._records.append(records)
            self._arrays.append(arrays)
            for row, record in enumerate(records):
                self._places.setdefault(record["name"], (len(self._records) - 1, row))

    def fill(
        self, names: Sequence[str], read: Callable[[str], PackedClip], *, what: str, threads: int = 1
    ) -> None:
        """Pack those of `names` that are not packed yet, each as `read` gives it, `threads` at a time; then
        hold just `names`.

        Those for which `read` raises LeftOut are in `left_out` instead. Stopped midway, what is in whole
        segments stays. Raises: InputError, OutputError.
        """
        missing = [name for name in names if name not in self._places and name not in self.left_out]
        if missing:
            with Progress(what, len(names), "clips") as bar:
                bar.advance(len(names) - len(missing))
                self._pack(_read_ahead(missing, read, threads), bar)
            self._open_new()
        self.names = [name for name in names if name in self._places]

    def _pack(self, read: Iterable[tuple[str, PackedClip | LeftOut]], bar: Progress) -> None:
        clips: list[PackedClip] = []
        first: PackedClip | None = None
        for name, clip in read:
            bar.advance()
            if isinstance(clip, LeftOut):
                self.left_out[name] = str(clip)
                continue
            first = first or clip
            if clip.frames.shape != first.frames.shape:
                raise InputError(
                    f"is {_shape(clip)}, {first.name} is {_shape(first)}",
                    where=self.folder / name,
                    mend="keep clips of one size and length in a folder",
                )
            clips.append(clip)
            if sum(c.frames.nbytes for c in clips) >= SEGMENT_BYTES:
                self._write(clips)
                clips = []
        if clips:
            self._write(clips)
        if self.left_out:
            with replacing(self.home / LEFT_OUT) as temporary:
                temporary.write_text(json.dumps(self.left_out, indent=1) + "\n", encoding="utf-8")

    def _write(self, clips: list[PackedClip]) -> None:
        with scratch_folder(self.home) as scratch, writing(self.home):
            for name in ARRAYS:
                np.save(scratch / f"{name}.npy", np.stack([getattr(clip, name) for clip in clips]))
            records = [{k: v for k, v in asdict(clip).items() if k not in ARRAYS} for clip in _bare(clips)]
            (scratch / "clips.json").write_text(json.dumps(records) + "\n", encoding="utf-8")
            # Two processes may pack the same clips at once: both segments stand, the first one is read.
            os.replace(scratch, self.home / f"segment-{clips[0].name}-{scratch.name[-8:]}")

    def clip(
        self,
        index: int,
        area: Callable[[np.ndarray], np.ndarray],
        referents: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> TrainingClip:
        """Clip `index` as training reads it; its area H×W bool, and its referents 2×H×W bool where there are
        some, are made out of `areas`."""
        segment, row = self._places[self.names[index]]
        arrays, record = self._arrays[segment], self._records[segment][row]
        return TrainingClip(
            name=record["name"],
            frames=arrays["frames"][row],
            area=area(arrays["areas"][row]),
            joints=arrays["joints"][row],
            visible=arrays["visible"][row],
            rois=arrays["rois"][row],
            texts={kind: tuple(sentences) for kind, sentences in record["texts"].items()},
            mirrors=record["mirrors"],
            referents=None if referents is None else referents(arrays["areas"][row]),
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """F, H, W of every clip. Raises: InputError where segments differ."""
        shapes = {
            a["frames"].shape[1:4]: r[0]["name"] for a, r in zip(self._arrays, self._records, strict=True)
        }
        if len(shapes) != 1:
            raise InputError(
                f"holds clips of different sizes, such as {' and '.join(shapes.values())}",
                where=self.folder,
                mend="keep clips of one size and length in a folder",
            )
        return next(iter(shapes))

    def fingerprint(self) -> str:
        """Hash of the settings and the names, in order."""
        return hashlib.sha256("\n".join([self.home.name, *self.names]).encode()).hexdigest()


def _read_ahead(
    names: Sequence[str], read: Callable[[str], PackedClip], threads: int
) -> Iterator[tuple[str, PackedClip | LeftOut]]:
    """Each name with its clip, or with why it is left out; some clips of lead, so that memory stays small."""

    def one(name: str) -> PackedClip | LeftOut:
        try:
            return read(name)
        except LeftOut as reason:
            return reason

    with ThreadPoolExecutor(threads) as pool:
        for first in range(0, len(names), 4 * threads):
            part = names[first : first + 4 * threads]
            yield from zip(part, pool.map(one, part), strict=True)


def _bare(clips: list[PackedClip]) -> list[PackedClip]:
    """Without arrays, which `asdict` would copy."""
    empty = np.zeros(0)
    return [PackedClip(c.name, empty, empty, empty, empty, empty, c.texts, c.mirrors) for c in clips]


def _shape(clip: PackedClip) -> str:
    return "×".join(map(str, clip.frames.shape[:3]))
