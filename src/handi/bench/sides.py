"""One side of an evaluation: the videos of a folder or a manifest by id, and what is known of each.

A folder may hold, for the id "24":

    24.mp4 (or .mov, .webm, …)   a video
    24.npy                       F×H×W×3, uint8 or floats in [0, 1]
    24/video.mp4, 24/frames/     what `handi generate` writes; the frames are preferred, they are lossless
    24/0000.png, 24/0001.png …   an image sequence
    24.json                      a clip of `handi world`, with its pictures beside it
    24.txt                       the action; a second line is the enriched text
    motion_area/24.png           the motion area, bright where things may move
    context/24.png               the context image
    prompts.jsonl                {"id", "action", "enriched"?} a line

A manifest is a JSONL file, {"id", "video"?, "area"?, "context"?, "text"?, "description"?, "truth"?} a line;
its paths count from its own folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from handi.errors import InputError
from handi.footage import IMAGE_SUFFIXES, find_footage
from handi.images import VIDEO_SUFFIXES, open_image, read_image, to_mask
from handi.types import BinaryMask, Frames, Picture
from handi.video import count_frames, probe_video, read_video
from handi.world.files import FORMAT, HULL_BIT, read_record

Shape = tuple[int, int, int]  # frames, H, W
SIDECARS = ("motion_area", "context")  # folders whose pictures belong to ids and are no frames
NAMES = {"text": ("text", "action"), "description": ("description", "enriched"),
         "area": ("area", "motion_area")}  # in a manifest or prompts.jsonl  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """What one side has of one id. Paths are not opened before they are needed."""

    id: str
    video: Path | None = None
    area_file: Path | None = None
    context_file: Path | None = None
    text: str | None = None
    description: str | None = None
    truth: Path | None = None  # the record of a world clip

    def shape(self) -> Shape:
        """Frames, H and W as the files announce them, without decoding. Raises: InputError."""
        return _shape(self._video(), self.truth)

    def frames(self) -> Frames:
        """F×H×W×3 uint8. Raises: InputError: damaged, NaN, or fewer frames than announced."""
        return _frames(self._video(), self.truth)

    def area(self) -> BinaryMask | None:
        """H×W, or None where none is given. Raises: InputError."""
        if self.area_file is not None:
            return to_mask(open_image(self.area_file)) >= 0.5
        if self.truth is not None:
            return (read_image(self.truth.with_suffix(".area.png"))[..., 0] & HULL_BIT) > 0
        return None

    def context(self) -> Picture | None:
        """H×W×3, where it is given as a file. Raises: InputError."""
        return None if self.context_file is None else read_image(self.context_file)

    def _video(self) -> Path:
        if self.video is None:
            raise InputError("there is no video", where=self.id)
        return self.video


def read_side(path: str | Path) -> dict[str, Entry]:
    """Everything of a folder or a manifest (see above), by id in sorted order. Raises: InputError."""
    path = Path(path).expanduser()
    if path.is_dir():
        entries = _of_folder(path)
    elif path.is_file():
        entries = _of_manifest(path)
    else:
        raise InputError("no such folder or manifest", where=path)
    if not entries:
        raise InputError(
            "holds no video", where=path, mend="see `handi evaluate --help` for what it may hold"
        )
    return dict(sorted(entries.items()))


def _of_folder(folder: Path) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}

    def add(id: str, **what: Any) -> None:
        entries[id] = replace(entries.get(id, Entry(id)), **what)

    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            if path.name not in SIDECARS and (video := _video_of_folder(path)) is not None:
                add(path.name, video=video)
        elif path.suffix.lower() in VIDEO_SUFFIXES or path.suffix == ".npy":
            if path.stem in entries and entries[path.stem].video is not None:
                raise InputError(f"{path.name} and {entries[path.stem].video} are two videos of one id",
                                 where=folder)  # fmt: skip
            add(path.stem, video=path)
        elif path.suffix == ".json" and (world := _world_clip(path)) is not None:
            entries[path.stem] = world
    for name, key in (("motion_area", "area_file"), ("context", "context_file")):
        for path in sorted((folder / name).glob("*")):
            if path.suffix.lower() in IMAGE_SUFFIXES:
                add(path.stem, **{key: path})
    if (prompts := folder / "prompts.jsonl").is_file():
        for number, line in _json_lines(prompts):
            add(_id_of(line, prompts, number), **_texts(line))
    for id, entry in entries.items():
        text = folder / f"{id}.txt"
        if text.is_file():
            lines = [line.strip() for line in text.read_text(encoding="utf-8-sig").splitlines()]
            said = [line for line in lines if line]
            entries[id] = replace(entry, text=said[0] if said else None,
                                  description=said[1] if len(said) > 1 else entry.description)  # fmt: skip
    return entries


def _video_of_folder(folder: Path) -> Path | None:
    """The video that a subfolder stands for, or None for a folder of anything else."""
    if (frames := folder / "frames").is_dir():
        return frames
    if (video := folder / "video.mp4").is_file():
        return video
    try:
        footage = find_footage(folder)
    except InputError:
        return None
    return folder if [one.kind for one in footage] == ["sequence"] else None


def _world_clip(path: Path) -> Entry | None:
    """The entry of a world clip's record; None for another JSON file."""
    try:
        record = read_record(path)
    except InputError:
        if FORMAT in path.read_text(errors="replace")[:200]:
            raise
        return None
    return Entry(
        path.stem,
        video=path.parent / record["video"],
        text=record["text"],
        description=record["enriched"],
        truth=path,
    )


def _of_manifest(path: Path) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    for number, line in _json_lines(path):
        id = _id_of(line, path, number)
        if id in entries:
            raise InputError(f"the id {id!r} was used before", where=f"{path}, line {number}")

        def file(key: str, line: dict[str, Any] = line) -> Path | None:
            named = next((line[name] for name in NAMES.get(key, (key,)) if line.get(name)), None)
            return None if named is None else path.parent / str(named)

        truth = file("truth")
        entry = Entry(id) if truth is None else replace(_world_clip(truth) or Entry(id), id=id)
        files = {"video": file("video"), "area_file": file("area"), "context_file": file("context")}
        given: dict[str, Any] = {key: value for key, value in files.items() if value is not None}
        entries[id] = replace(entry, **(given | _texts(line)))
    return entries


def _json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object). Raises: InputError naming the line."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read as UTF-8 text ({error})", where=path) from error
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            raise InputError(f"is not JSON ({error})", where=f"{path}, line {number}") from error
        if not isinstance(value, dict):
            raise InputError("is not a JSON object", where=f"{path}, line {number}")
        yield number, value


def _id_of(line: dict[str, Any], path: Path, number: int) -> str:
    if not line.get("id"):
        raise InputError("has no id", where=f"{path}, line {number}")
    return str(line["id"])


def _texts(line: dict[str, Any]) -> dict[str, str]:
    found = {key: next((str(line[name]) for name in NAMES[key] if line.get(name)), None)
             for key in ("text", "description")}  # fmt: skip
    return {key: value for key, value in found.items() if value is not None}


# ------------------------------------------------------------------------------------------- videos


def _shape(video: Path, truth: Path | None) -> Shape:
    if truth is not None and video.suffix == ".png":
        record = read_record(truth)
        return record["frames"], record["size"], record["size"]
    if video.suffix == ".npy":
        frames, height, width, _ = _array(video).shape
        return frames, height, width
    if video.is_dir():
        pictures = _pictures(video)
        width, height = open_image(pictures[0]).size
        return len(pictures), height, width
    info = probe_video(video)
    return count_frames(video), info.height, info.width


def _frames(video: Path, truth: Path | None) -> Frames:
    if truth is not None and video.suffix == ".png":
        count, height, width = _shape(video, truth)
        return _strip(video, count, height, width)
    if video.suffix == ".npy":
        return _whole_array(video)
    if video.is_dir():
        return np.stack([read_image(path) for path in _pictures(video)])  # they are of one size
    frames = read_video(video)
    if (announced := probe_video(video).frames) > len(frames):
        raise InputError(f"breaks off: {len(frames)} of {announced} frames can be read", where=video)
    return frames


def _strip(path: Path, count: int, height: int, width: int) -> Frames:
    strip = read_image(path)
    if strip.shape != (count * height, width, 3):
        raise InputError(f"is no film strip of {count} frames of {width}×{height}", where=path)
    return strip.reshape(count, height, width, 3)


def _pictures(folder: Path) -> tuple[Path, ...]:
    """The pictures of a folder of frames, in order. Raises: InputError."""
    footage = find_footage(folder)
    if [one.kind for one in footage] != ["sequence"]:
        raise InputError("is not an evenly numbered sequence of pictures of one size", where=folder)
    return footage[0].pictures


def _array(path: Path) -> np.ndarray:
    """An .npy file as a memory map. Raises: InputError for anything but F×H×W×3 uint8 or floats."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"is not an array that can be read ({error})", where=path) from error
    if array.ndim != 4 or array.shape[3] != 3 or not array.size:
        raise InputError(f"is {'×'.join(map(str, array.shape))}, not F×H×W×3", where=path)
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise InputError(f"holds {array.dtype}, not uint8 or floats in [0, 1]", where=path)
    return array


def _whole_array(path: Path) -> Frames:
    array = _array(path)
    if array.dtype == np.uint8:
        return np.array(array)
    if not (finite := np.isfinite(array).all(axis=(1, 2, 3))).all():
        bad = np.flatnonzero(~finite)
        more = f" and {len(bad) - 1} others" if len(bad) > 1 else ""
        raise InputError(f"NaN or infinite pixels in frame {bad[0]}{more}", where=path)
    if array.min() < 0 or array.max() > 1:
        raise InputError(f"floats from {array.min():g} to {array.max():g}, not in [0, 1]", where=path)
    return np.rint(array.astype(np.float32) * 255).astype(np.uint8)
