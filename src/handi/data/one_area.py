"""Clips that are all given one motion area: for models that are told no area, or always the same."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from handi.data.clips import ClipSet, TrainingClip
from handi.types import BinaryMask


class OneArea:
    """A clip set whose clips all have the H×W motion area `area` in the place of their own (table 3's rows
    without a mask and with the prior). Raises: ValueError for an area of another size, or an empty one."""

    def __init__(self, clips: ClipSet, area: BinaryMask) -> None:
        if area.shape != tuple(clips.size):
            raise ValueError(f"an area of {area.shape} for clips of {clips.size}")
        if not area.any():
            raise ValueError("an empty area")
        self.name, self.size, self.frames, self.notes = clips.name, clips.size, clips.frames, clips.notes
        self._clips, self._area = clips, area

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: int) -> TrainingClip:
        return replace(self._clips[index], area=self._area)

    def fingerprint(self) -> str:
        """Hash of the clips and the area."""
        area = hashlib.sha256(self._area.tobytes()).hexdigest()[:12]
        return f"{self._clips.fingerprint()}-area-{area}"
