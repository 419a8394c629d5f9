"""Your own footage as a clip set: a folder of videos, each with a text file of the same name beside it.

footage/cut carrot 01.mp4
footage/cut carrot 01.txt      Cut the carrot.            the action
                               Slice the carrot thinly.   further lines: other ways to say it
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from handi.core.errors import InputError
from handi.core.images import cover
from handi.core.kinds import files_in
from handi.core.reading import text_beside
from handi.core.types import Frames
from handi.core.video import count_frames, even_indices, read_frames
from handi.data.clips import TrainingClip
from handi.data.packed import LeftOut, Packed, PackedClip
from handi.data.sources.common import sentences_of
from handi.hands.detector import HandDetector
from handi.method.area import hull_area, hull_masks

FRAMES = 16
RULES = 1  # to be raised when clips are made otherwise, so that they are packed anew


class FolderClips:
    """The videos of a folder as clips of 16 frames, spread evenly, cropped to the middle and resized.

    size: H×W px of the frames. Joints and regions are the hand detector's, the motion area is the hulls of
    the hands (paper §2.1). Packed into `FOLDER/.packed` on first use; videos that are added or changed later
    are packed then. A video without hands, text or 16 frames, or a damaged one, is left out and named in
    `notes`. detector: builds Υ, called only where there is something to pack. Raises: InputError where none
    is left, OutputError.
    """

    def __init__(
        self,
        folder: str | Path,
        size: tuple[int, int],
        *,
        detector: Callable[[], HandDetector] = HandDetector.from_pretrained,
    ) -> None:
        folder = Path(folder).expanduser()
        if not folder.is_dir():
            raise InputError("is not a folder of videos", where=folder)
        files = files_in(folder)
        videos = files.videos
        if not videos:
            raise InputError(
                "holds no videos", where=folder, mend="put videos and text files of the same names there"
            )
        self.name, self.size, self.frames = str(folder), size, FRAMES
        self.kind_of_area = "hull"
        self.per_frame = False  # whether clips bear the area of each frame
        by_key = {_key(path): path for path in videos}
        detect = cache(detector)
        self._packed = Packed(folder, {"kind": "folder", "size": size, "rules": RULES})
        self._packed.fill(list(by_key), lambda key: _pack(key, by_key[key], size, detect), what="pack")
        left_out = {by_key[key].name: why for key, why in self._packed.left_out.items() if key in by_key}
        self.notes = [f"left out: {name}: {why}" for name, why in left_out.items()]
        self.notes += files.passed_over(file for file in files.others if file.suffix.lower() == ".txt")
        if not self._packed.names:
            raise InputError(
                f"none of {len(videos)} videos can be used; {'; '.join(self.notes[:3])}", where=folder
            )

    def __len__(self) -> int:
        return len(self._packed.names)

    def __getitem__(self, index: int) -> TrainingClip:
        clip = self._packed.clip(index, lambda areas: areas > 0)
        areas = hull_masks(clip.joints, *self.size) if self.per_frame else None
        return replace(clip, name=clip.name.rpartition("@")[0], frame_areas=areas)

    def fingerprint(self) -> str:
        """Hash of the clips, and of the files that they came from."""
        return self._packed.fingerprint()


def _key(video: Path) -> str:
    """Name of a video's file, and a hash by which a changed video or text is another clip."""
    stat = video.stat()
    text = text_beside(video)
    parts = [str(stat.st_size), str(stat.st_mtime_ns), text.read_bytes().hex() if text.is_file() else "none"]
    return f"{video.name}@{hashlib.sha256('|'.join(parts).encode()).hexdigest()[:12]}"


def _pack(key: str, video: Path, size: tuple[int, int], detector: Callable[[], HandDetector]) -> PackedClip:
    """Raises: LeftOut."""
    try:
        sentences = sentences_of(text_beside(video))
        frames = np.stack([cover(frame, *size) for frame in _even_frames(video)])
    except InputError as error:
        raise LeftOut(error.what) from error
    hands = detector().detect(frames)
    joints = hands.joints.cpu().numpy()
    area = hull_area(joints, *size)
    if not area.any():
        raise LeftOut("no hands were found")
    return PackedClip(
        name=key,
        frames=frames,
        areas=area.astype(np.uint8),
        joints=joints,
        visible=hands.visible.cpu().numpy(),
        rois=hands.rois.cpu().numpy(),
        texts={"short": sentences[:1], "paraphrase": sentences[1:]},
    )


def _even_frames(video: Path) -> Frames:
    """16 frames spread evenly over a video, both ends included. Raises: InputError, LeftOut."""
    total = count_frames(video)
    while total >= FRAMES:
        wanted = even_indices(total, FRAMES)
        chosen, seen = [], 0
        for seen, frame in enumerate(read_frames(video), start=1):
            if seen - 1 in wanted:
                chosen.append(frame)
        if len(chosen) == FRAMES:
            return np.stack(chosen)
        total = seen  # the file announces more frames than it holds
    raise LeftOut(f"has {total} frames, {FRAMES} are needed")
