"""First frames of the world (`handi world --first-frames`) as a clip set: a clip a request.

The frames after the first are not rendered; where the hands are in them is known all the same.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

import numpy as np

from handi.core.errors import InputError
from handi.data.clips import TrainingClip
from handi.world.files import name_of, seed_of, strays
from handi.world.first_frames import FirstFrame, Request, read_first_frame
from handi.world.produce import LISTS
from handi.world.seeds import require_training

# Of a picture: one of every action that it affords, then the next of each, and so on; one that affords fewer
# is asked the same again, in other words.
REQUESTS = 6


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
        self.name, self.notes = str(folder), strays(folder, [path.stem for path in self._paths], LISTS)
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
    request = _in_turn(first.requests, number)
    return TrainingClip(
        name=name_of(first.seed),
        frames=first.frame[None],
        area=np.zeros(first.ids.shape, bool),  # not known without the clip
        joints=request.joints,
        visible=np.zeros((len(request.joints), 2), bool),
        rois=np.zeros((len(request.joints), 2, 4), np.float32),
        texts={"short": (request.text,), "paraphrase": request.paraphrases, "enriched": (request.enriched,)},
        mirrors="clockwise" not in request.action,
        referents=np.stack([np.isin(first.ids, which) for which in (request.things, request.hands)]),
    )


def _in_turn(requests: tuple[Request, ...], number: int) -> Request:
    """Request `number` of a picture, the actions in turn: some afford many ("pick up"), most one."""
    actions = list(dict.fromkeys(request.action for request in requests))
    turn, which = divmod(number, len(actions))
    same = [request for request in requests if request.action == actions[which]]
    return same[turn % len(same)]
