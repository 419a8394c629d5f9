"""What a gallery shows: samples, and the methods' videos of them."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from pathlib import Path

from handi.core.errors import HandiError, InputError, failure
from handi.core.reading import read_json
from handi.core.types import Frames, Picture
from handi.core.video import probe_video
from handi.evaluation.folder import read_videos
from handi.evaluation.videos import Entry, is_video

FPS = 8.0  # of frames that come without a rate: that of the paper's clips


@dataclass(frozen=True)
class Shown:
    """A method: its name, its videos by id, and what `handi evaluate` said of them."""

    name: str
    videos: dict[str, Entry]
    results: Path | None = None


@dataclass(frozen=True)
class Clip:
    """A method's video of one sample."""

    frames: Frames  # F×H×W×3, the context image first
    fps: float


def read_method(name: str, folder: str | Path, results: Path | None = None) -> Shown:
    """A method of a folder (or manifest) of videos, see `sides.py`; what it made of a sample by itself, such
    as its motion area, lies beside the video. Raises: InputError."""
    return Shown(name, read_videos(folder), results)


def samples_of_runs(folder: str | Path) -> dict[str, Entry]:
    """Samples of a folder that `handi generate --batch` wrote, from the run.json of each clip.

    Raises: InputError where there is none.
    """
    folder = Path(folder)
    samples = {}
    for record in sorted(folder.glob("*/run.json")):
        try:
            request = read_json(record)["request"]
            context, text = Path(request["image"]), str(request["prompt"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"is not the record of a run ({error})", where=record) from error
        id = record.parent.name
        samples[id] = Entry(id, context_file=context, text=text)
    if not samples:
        raise InputError(
            "holds no folders with a run.json",
            where=folder,
            mend="say what the samples are: --ref FOLDER_OR_MANIFEST",
        )
    return samples


def clip_of(method: Shown, id: str) -> Clip:
    """The method's video of a sample. Raises: InputError where there is none that can be read."""
    entry = method.videos.get(id)
    if entry is None or entry.video is None:
        raise InputError(f"no video of {id!r}", where=method.name)
    fps = probe_video(entry.video).fps if is_video(entry.video) else FPS
    return Clip(entry.frames(), fps)


def context_of(sample: Entry) -> Picture:
    """The context image: its own file, or frame 0 of the true video. Raises: InputError."""
    picture = sample.context()
    return sample.frames()[0] if picture is None else picture


def own_area(method: Shown, id: str) -> Path | None:
    """The motion area that a method kept beside its video, as `handi generate` does."""
    entry = method.videos.get(id)
    if entry is None or entry.video is None:
        return None
    folder = entry.video.parent  # ID/frames and ID/video.mp4 lie in the clip's own folder
    path = folder / "motion_area.png"
    return path if unicodedata.normalize("NFC", folder.name) == id and path.is_file() else None


def same_context(samples: dict[str, Entry]) -> tuple[list[list[Entry]], list[HandiError]]:
    """Groups of two samples or more that start from one context image, and what could not be read."""
    groups: dict[bytes, list[Entry]] = {}
    failures: list[HandiError] = []
    for sample in samples.values():
        try:
            groups.setdefault(context_of(sample).tobytes(), []).append(sample)
        except Exception as error:
            failures.append(failure(error))
    return [group for group in groups.values() if len(group) > 1], failures
