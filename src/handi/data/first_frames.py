"""First frames of the world (`handi world --first-frames`) as a clip set: a clip of one frame a request."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

import numpy as np

from handi.data.clips import TrainingClip
from handi.errors import InputError
from handi.world.files import name_of, seed_of
from handi.world.first_frames import FirstFrame, read_first_frame
from handi.world.seeds import require_training

REQUESTS = 6  # of a picture; one that affords fewer is asked the same again, in other words


class FirstFrames:
    """The first frames of a folder, by seed; `together` requests of a picture follow each other.

    training: refuse validation and test seeds. Raises: InputError.
    """

    together = REQUESTS
    frames = 1

    def __init__(self, folder: str | Path, *, training: bool = False) -> None:
        folder = Path(folder).expanduser()
        self._paths = sorted(folder.glob("[0-9]*.json"))
        if not self._paths:
            raise InputError(
                "holds no first frames of the synthetic world",
                where=folder,
                mend=f"render some: handi world --clips 8000 --first-frames --out {folder}",
            )
        if training:
            require_training(seed_of(path.stem) for path in self._paths)
        self.name, self.notes = str(folder), list[str]()
        self._read = lru_cache(maxsize=256)(read_first_frame)
        height, width = self._read(self._paths[0]).ids.shape
        self.size = height, width

    def __len__(self) -> int:
        return REQUESTS * len(self._paths)

    def __getitem__(self, index: int) -> TrainingClip:
        path = self._paths[index // REQUESTS]
        first = self._read(path)
        if first.ids.shape != self.size:
            there, here = ("×".join(map(str, size)) for size in (first.ids.shape, self.size))
            raise InputError(f"is {there}, others are {here}", where=path, mend="keep one size in a folder")
        return _asked(first, index % REQUESTS)

    def fingerprint(self) -> str:
        """Hash of the seeds, in order."""
        return hashlib.sha256("\n".join(path.stem for path in self._paths).encode()).hexdigest()


def _asked(first: FirstFrame, number: int) -> TrainingClip:
    request = first.requests[number % len(first.requests)]
    return TrainingClip(
        name=name_of(first.seed),
        frames=first.frame[None],
        area=np.zeros(first.ids.shape, bool),  # not known without the clip
        joints=np.zeros((1, 42, 2), np.float32),
        visible=np.zeros((1, 2), bool),
        rois=np.zeros((1, 2, 4), np.float32),
        texts={"short": (request.text,), "paraphrase": request.paraphrases, "enriched": (request.enriched,)},
        mirrors="clockwise" not in request.action,
        referents=np.stack([np.isin(first.ids, which) for which in (request.things, request.hands)]),
    )
