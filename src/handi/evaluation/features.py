"""Features of videos on disk: found again by content, and collected in memory that does not grow."""

from __future__ import annotations

import hashlib
import math
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from handi.core.errors import InputError
from handi.core.files import replacing, sweep
from handi.core.types import Frames
from handi.evaluation.metrics.protocol import PROTOCOL, Extractor

IN_MEMORY = 16 * 2**20  # bytes; resampled rows up to this size are an array, larger ones a file


class FeatureCache:
    """A folder of arrays, named by the hash of the extractor's key and of the frames themselves.

    Call it with an extractor and frames. Two runs may share a folder at the same time: files appear whole.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def sweep(self) -> None:
        """Remove unfinished files of runs that were killed."""
        sweep(self.folder, depth=1)

    def __call__(self, extractor: Extractor, frames: Frames) -> np.ndarray:
        """The extractor's output for these frames. Raises: whatever the extractor raises, OutputError."""
        return self.find(extractor, frames)[1]

    def find(self, extractor: Extractor, frames: Frames) -> tuple[str, np.ndarray]:
        """The extractor's output and the name that `load` knows it by. Raises: as a call."""
        digest = hashlib.sha256(f"{PROTOCOL}\n{extractor.key}\n{frames.shape} {frames.dtype}\n".encode())
        digest.update(np.ascontiguousarray(frames).data)
        name = digest.hexdigest()
        if (kept := self.load(name)) is not None:
            return name, kept
        array = extractor(frames)
        with replacing(self._path(name)) as temporary:
            np.save(temporary, array)
        return name, array

    def load(self, name: str) -> np.ndarray | None:
        """What is kept under a name; None where it is missing or damaged."""
        with suppress(OSError, ValueError, EOFError):
            array: np.ndarray = np.load(self._path(name), allow_pickle=False)
            return array
        return None

    def has(self, name: str) -> bool:
        """Whether something is kept under a name."""
        return self._path(name).is_file()

    def _path(self, name: str) -> Path:
        return self.folder / name[:2] / f"{name}.npy"


class FeatureStore:
    """R×D float32 rows per video, R and D the same for all, appended to a file in `folder`.

    A copy that is sent to another process reads what had been added before.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        number, name = tempfile.mkstemp(dir=folder)
        self._file: BinaryIO | None = open(number, "wb")  # noqa: SIM115 (it lives as long as the store)
        self._path = Path(name)
        self._shape: tuple[int, ...] = ()
        self._videos = 0

    def __getstate__(self) -> dict[str, Any]:
        self._flush()
        return self.__dict__ | {"_file": None}

    def __len__(self) -> int:
        """Videos."""
        return self._videos

    @property
    def bytes(self) -> int:
        """Size of all rows."""
        return 4 * self._videos * math.prod(self._shape)

    def check(self, rows: np.ndarray) -> None:
        """Raises: InputError for another number of rows or features than the videos before."""
        if rows.ndim != 2 or (self._shape and rows.shape != self._shape):
            raise InputError(f"features of shape {rows.shape} after {self._shape}")

    def add(self, rows: np.ndarray) -> None:
        """Append one video's rows. Raises: as `check`."""
        self.check(rows)
        self._shape = rows.shape
        assert self._file is not None
        self._file.write(np.ascontiguousarray(rows, np.float32).data)
        self._videos += 1

    def rows(self, picks: np.ndarray | None = None) -> np.ndarray:
        """All rows, n·R×D, as a memory map; or those of the videos with these numbers, some several times."""
        count, width = self._shape
        self._flush()
        videos = np.memmap(self._path, np.float32, "r", shape=(self._videos, count, width))
        if picks is None:
            return videos.reshape(-1, width)
        if len(picks) * count * width * 4 <= IN_MEMORY:
            return videos[picks].reshape(-1, width)
        with tempfile.TemporaryFile(dir=self._folder) as file:
            for pick in picks:
                file.write(videos[pick].data)
            file.flush()
            return np.memmap(file, np.float32, "r", shape=(len(picks) * count, width))

    def close(self) -> None:
        """Free the disk space."""
        with suppress(OSError):
            if self._file is not None:
                self._file.close()
            self._path.unlink()

    def _flush(self) -> None:
        if self._file is not None:
            self._file.flush()
