"""The clips to export: of a folder that `handi prepare` wrote, or that `handi generate` wrote."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from handi.core.errors import InputError
from handi.core.images import read_image
from handi.core.reading import read_json
from handi.core.types import BinaryMask, Frames
from handi.core.video import read_video
from handi.data.dataset import PreparedClips
from handi.data.shards import PREPARED, read_prepared
from handi.generation.record import RUN_FILE
from handi.hands import HandDetector

Text = Literal["enriched", "short"]
FPS = 8.0  # of clips whose frames are spread over their action: that of the paper's clips
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Content:
    """What a clip shows."""

    frames: Frames  # F×H×W×3
    area: BinaryMask  # H×W
    joints: np.ndarray  # F×42×2 float32 in [0, 1], left hand first, zeros for a hand that is not there
    visible: np.ndarray  # F×2 bool


@dataclass(frozen=True)
class ExportClip:
    """A clip to export, not read yet."""

    id: str
    split: str
    text: str  # one line
    read: Callable[[], Content]


@dataclass(frozen=True)
class ClipSource:
    """Clips of one size, length and rate, by split in the order train, val, test."""

    clips: list[ExportClip]
    frames: int
    size: tuple[int, int]  # H, W px
    fps: float
    fingerprint: str  # of everything that an export is a function of
    notes: list[str] = field(default_factory=list)

    def splits(self) -> dict[str, list[ExportClip]]:
        """The clips of each split that has any."""
        named = {name: [clip for clip in self.clips if clip.split == name] for name in SPLITS}
        return {name: clips for name, clips in named.items() if clips}


def clips_of(source: Path, text: Text = "enriched", fps: float | None = None) -> ClipSource:
    """The clips of a prepared folder, or of a folder of generated clips (all are "train").

    Raises: InputError for a folder that is neither, or whose clips are not of one kind.
    """
    source = source.expanduser()
    if fps is not None and not 0 < fps <= 1000:
        raise InputError(f"{fps:g} frames per second", where="--fps", hint="use more than 0")
    if (source / PREPARED).is_file():
        return _prepared(source, text, fps)
    if not source.is_dir():
        raise InputError("no such folder", where=source)
    runs = sorted(path.parent for path in source.rglob(RUN_FILE) if (path.parent / "video.mp4").is_file())
    runs = [run for run in runs if not any(parent in runs for parent in run.parents)]  # no parts of sequences
    if not runs:
        raise InputError(
            "holds neither prepared nor generated clips", where=source,
            hint="name what handi prepare or handi generate wrote",
        )  # fmt: skip
    return _generated(source, runs, text, fps)


def _prepared(folder: Path, text: Text, fps: float | None) -> ClipSource:
    about = read_prepared(folder)
    settings = about["settings"]
    if settings["first_frames"]:
        raise InputError("holds first frames, not clips", where=folder, hint="prepare clips")
    if settings["pictures"] == "none":
        raise InputError("holds no frames", where=folder, hint="prepare it with --pictures jpg or png")
    clips: list[ExportClip] = []
    for split in SPLITS:
        if about["splits"].get(split, {}).get("kept"):
            stored = PreparedClips(folder, split)
            for index in range(len(stored)):
                words = stored.words(index)
                kind = "enriched" if text == "enriched" and "enriched" in words.texts else "short"
                sentence = " ".join(words.texts[kind][0].split())
                clips.append(ExportClip(words.name, split, sentence, _Reader(stored, index)))
    rate = fps or settings["fps"]
    notes = (
        []
        if rate
        else [f"the frames of a clip are spread over its action; videos play at {FPS:g} per second"]
    )
    height, width = settings["size"]
    return ClipSource(
        clips, settings["frames"], (height, width), float(rate or FPS), str(about["sha256"]), notes
    )


@dataclass(frozen=True)
class _Reader:
    """Reads a prepared clip."""

    clips: PreparedClips
    index: int

    def __call__(self) -> Content:
        clip = self.clips[self.index]
        return Content(clip.frames, clip.area, clip.joints.astype(np.float32), clip.visible)


def _generated(source: Path, runs: list[Path], text: Text, fps: float | None) -> ClipSource:
    """Generated clips, whose hands are those that the detector finds in them."""
    clips, kinds, digest = [], set(), hashlib.sha256()
    for folder in runs:
        record = read_json(folder / RUN_FILE)
        try:
            request, result = record["request"], record["result"]
            written = (record.get("description") or {}).get("text") if text == "enriched" else None
            sentence = written or request["prompt"]
            kinds.add((result["frames"], result["height"], result["width"], float(fps or result["fps"])))
        except (KeyError, TypeError) as error:
            raise InputError(f"is damaged ({error})", where=folder / RUN_FILE) from error
        name = folder.relative_to(source).as_posix().replace("/", ".") if folder != source else folder.name
        stat = (folder / "video.mp4").stat()
        digest.update(f"{name} {sentence} {stat.st_size} {stat.st_mtime_ns}\n".encode())
        clips.append(ExportClip(name, "train", " ".join(str(sentence).split()), _GeneratedReader(folder)))
    if len(kinds) > 1:
        shown = ", ".join(f"{f} frames of {h}×{w} at {r:g}" for f, h, w, r in sorted(kinds))
        raise InputError(
            f"holds clips of {len(kinds)} kinds: {shown}", where=source, hint="export each alone"
        )
    frames, height, width, rate = kinds.pop()
    return ClipSource(clips, frames, (height, width), rate, digest.hexdigest())


@dataclass(frozen=True)
class _GeneratedReader:
    """Reads a clip that `handi generate` wrote."""

    folder: Path

    def __call__(self) -> Content:
        pictures = sorted((self.folder / "frames").glob("*.png"))  # lossless, where they were asked for
        if pictures:
            frames = np.stack([read_image(path) for path in pictures])
        else:
            frames = read_video(self.folder / "video.mp4")
        area = read_image(self.folder / "motion_area.png").mean(axis=-1) > 127
        hands = _detector().detect(torch.from_numpy(frames))
        return Content(frames, area, hands.joints.cpu().numpy(), hands.visible.cpu().numpy())


@lru_cache(maxsize=1)
def _detector() -> HandDetector:
    """One for all clips: its networks take longer to load than a clip to read."""
    return HandDetector.from_pretrained("full", threads=1)
