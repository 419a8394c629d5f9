"""Rows of features of many videos, on disk: what set metrics compare, in memory that does not grow."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from handi.core.errors import InputError

IN_MEMORY = 16 * 2**20  # bytes; a resampled pile up to this is an array, a larger one a file


class Pile:
    """R×D float32 rows a video, R and D the same for all, appended to a nameless file in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (it lives as long as the pile)
        self._shape: tuple[int, ...] = ()
        self._videos = 0

    def __len__(self) -> int:
        """Videos."""
        return self._videos

    def check(self, rows: np.ndarray) -> None:
        """Raises: InputError for another number of rows or features than the videos before."""
        if rows.ndim != 2 or (self._shape and rows.shape != self._shape):
            raise InputError(f"features of shape {rows.shape} after {self._shape}")

    def add(self, rows: np.ndarray) -> None:
        """Append one video's rows. Raises: as `check`."""
        self.check(rows)
        self._shape = rows.shape
        self._file.write(np.ascontiguousarray(rows, np.float32).data)
        self._videos += 1

    def rows(self, picks: np.ndarray | None = None) -> np.ndarray:
        """All rows, n·R×D, as a memory map; or those of the videos with these numbers, some several times."""
        count, width = self._shape
        self._file.flush()
        videos = np.memmap(self._file, np.float32, "r", shape=(self._videos, count, width))
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
        """Give the disk space back."""
        self._file.close()
