"""A held-out split for sources that name none: whole videos, chosen by a hash of what they hold."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

from handi.core.errors import InputError
from handi.data.sources.common import SourceClips

SHARE = 0.05  # of the videos
EDGE = 1 << 16  # bytes at both ends of a file that are hashed, beside its size


def hold_out(found: SourceClips, share: float) -> SourceClips:
    """The clips with about `share` of their videos in the split "val", where the source names no splits.

    Which ones is a function of each video alone: it stays where it is when it is renamed or copied, and when
    others are added. Where the hash picks none of two videos or more, the nearest one is held out.
    Raises: InputError for a share outside 0 to 1.
    """
    if not 0 <= share < 1:
        raise InputError(f"--held-out {share:g}", hint="use a share of the videos from 0 to less than 1")
    if found.has_splits or not share:
        return found
    kind = "recording" if found.recordings else "video"
    usable = [clip for clip in found.clips if clip.video is not None and clip.problem is None]
    units = sorted({str(found.recordings.get(clip.id, clip.video)) for clip in usable})
    places = {
        unit: _place(hashlib.sha256(os.fsencode(unit))) if found.recordings else place_of(Path(unit))
        for unit in units
    }
    if len(set(places.values())) < 2:
        return replace(found, notes=[*found.notes, f"one {kind} alone: none is held out"])
    limit = max(share, min(places.values()))
    held = {unit for unit, place in places.items() if place <= limit}
    clips = [
        replace(clip, split="val") if str(found.recordings.get(clip.id, clip.video)) in held else clip
        for clip in found.clips
    ]
    note = f"held out: {len(held):,} of {len(places):,} {kind}s are the split val; --held-out sets the share"
    return replace(found, clips=clips, notes=[*found.notes, note])


def place_of(video: Path) -> float:
    """A number in [0, 1) by a video's size and the bytes at both ends; of a folder of frames, by its name."""
    digest = hashlib.sha256()
    try:
        with video.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            digest.update(str(size).encode())
            for start in (0, max(0, size - EDGE)):
                file.seek(start)
                digest.update(file.read(EDGE))
    except OSError:
        digest.update(os.fsencode(video.name))
    return _place(digest)


def _place(digest: hashlib._Hash) -> float:
    return int.from_bytes(digest.digest()[:6], "big") / 2**48
