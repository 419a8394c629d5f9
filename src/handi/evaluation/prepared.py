"""A folder that `handi prepare` wrote as a side of an evaluation: its test clips, or the validation ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from handi.core.errors import InputError
from handi.core.types import BinaryMask, Frames
from handi.data.shard_clips import ShardClips
from handi.data.shards import read_prepared
from handi.evaluation.entries import Entry, Shape, evenly


@dataclass(frozen=True)
class PreparedEntry(Entry):
    """A clip in a shard; `video` is the folder."""

    clips: ShardClips | None = None
    index: int = 0

    def shape(self) -> Shape:
        """See `Entry.shape`."""
        clips = self._clips()
        return clips.frames, *clips.size

    def frames(self, most: int | None = None) -> Frames:
        """See `Entry.frames`."""
        return evenly(np.array(self._clips()[self.index].frames), most)

    @property
    def has_area(self) -> bool:
        """See `Entry.has_area`."""
        return True

    def area(self) -> BinaryMask | None:
        """See `Entry.area`."""
        return self._clips()[self.index].area

    def kind_of_area(self) -> str:
        """See `Entry.kind_of_area`."""
        return self._clips().kind_of_area

    def _clips(self) -> ShardClips:
        assert self.clips is not None  # `prepared_side` gives it
        return self.clips


def prepared_side(folder: Path) -> dict[str, Entry]:
    """The clips of the split "test" by id; where there is none, those of "val". Raises: InputError."""
    tests = read_prepared(folder)["splits"].get("test", {}).get("kept")
    clips = ShardClips(folder, "test" if tests else "val")
    if clips.pictures == "none":
        raise InputError("was prepared without pictures", where=folder, mend="prepare it with them")
    entries: dict[str, Entry] = {}
    for index in range(len(clips)):
        row = clips.row(index)
        entries[row["id"]] = PreparedEntry(
            row["id"],
            video=folder,
            text=row["action"],
            description=row["description"],
            clips=clips,
            index=index,
        )
    return entries
