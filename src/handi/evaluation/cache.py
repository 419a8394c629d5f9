"""Features by content: what an extractor made of frames is kept, and found again wherever they lie."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

import numpy as np

from handi.core.files import replacing, sweep
from handi.core.types import Frames
from handi.evaluation.metrics.protocol import PROTOCOL, Extractor


class FeatureCache:
    """A folder of arrays, named by the hash of the extractor's key and of the frames themselves.

    Call it with an extractor and frames. Two runs may share a folder at the same time: files appear whole.
    folder None: nothing is kept.
    """

    def __init__(self, folder: str | Path | None) -> None:
        self.folder = None if folder is None else Path(folder)
        self.found = self.made = 0

    def sweep(self) -> None:
        """Remove what runs that were killed left unfinished."""
        if self.folder is not None:
            sweep(self.folder, depth=1)

    def __call__(self, extractor: Extractor, frames: Frames) -> np.ndarray:
        """The extractor's output for these frames. Raises: whatever the extractor does, OutputError."""
        if self.folder is None:
            self.made += 1
            return extractor(frames)
        name = content_hash(extractor.key, frames)
        path = self.folder / name[:2] / f"{name}.npy"
        with suppress(OSError, ValueError, EOFError):  # not there, or damaged: made anew
            array = np.load(path, allow_pickle=False)
            self.found += 1
            return array
        array = extractor(frames)
        with replacing(path) as temporary:
            np.save(temporary, array)
        self.made += 1
        return array


def content_hash(key: str, frames: Frames) -> str:
    """SHA-256 of the protocol, an extractor's key, the frames' shape and their pixels."""
    digest = hashlib.sha256(f"{PROTOCOL}\n{key}\n{frames.shape} {frames.dtype}\n".encode())
    digest.update(np.ascontiguousarray(frames).data)
    return digest.hexdigest()
