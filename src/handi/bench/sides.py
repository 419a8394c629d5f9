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

A folder that `handi prepare` wrote stands for its test clips, or else for its validation clips.
A manifest is a JSONL file, {"id", "video"?, "area"?, "context"?, "text"?, "description"?, "truth"?} a line;
its paths count from its own folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from handi.bench.entries import Entry
from handi.bench.prepared import prepared_side
from handi.data.shards import PREPARED
from handi.errors import InputError
from handi.footage import IMAGE_SUFFIXES, find_footage
from handi.images import VIDEO_SUFFIXES
from handi.names import is_name_of, safe_name
from handi.reading import read_json, read_jsonl, read_lines, text_beside
from handi.world.files import FORMAT, read_record
from handi.world.produce import CAPTIONS, MANIFEST

SIDECARS = ("motion_area", "context")  # folders whose pictures belong to ids and are no frames
RECORD = ("video", "frames", "size", "text", "enriched", "seed")  # what is read of a world clip's record
LISTS = (MANIFEST, CAPTIONS)  # what `handi world` says of a folder's clips; they are none
HASHED = re.compile(r"-[0-9a-f]{8}$")  # the end of a folder's name that stands for an id
NAMES = {"text": ("text", "action"), "description": ("description", "enriched"),
         "area": ("area", "motion_area")}  # in a manifest or prompts.jsonl  # fmt: skip


def read_side(path: str | Path) -> dict[str, Entry]:
    """Everything of a folder or a manifest (see above), by id in sorted order. Raises: InputError."""
    path = Path(path).expanduser()
    if (path / PREPARED).is_file():
        entries = prepared_side(path)
    elif path.is_dir():
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
                add(_id_of_folder(path), video=video)
        elif path.suffix.lower() in VIDEO_SUFFIXES or path.suffix == ".npy":
            other = entries[path.stem].video if path.stem in entries else None
            if other not in (None, path):
                raise InputError(f"{path.name} and {other} are two videos of one id", where=folder)
            add(path.stem, video=path)
        elif path.suffix == ".json" and path.name not in LISTS and _is_world_clip(path):
            entries[path.stem] = _world_clip(path)
    for name, key in (("motion_area", "area_file"), ("context", "context_file")):
        for path in sorted((folder / name).glob("*")):
            if path.suffix.lower() in IMAGE_SUFFIXES:
                add(path.stem, **{key: path})
    if (prompts := folder / "prompts.jsonl").is_file():
        for number, line in _json_lines(prompts):
            add(_id_of(line, prompts, number), **_texts(line))
    for id, entry in entries.items():
        text = text_beside(folder / f"{safe_name(id)}.mp4")
        if text.is_file():
            lines = [line.strip() for line in read_lines(text)]
            said = [line for line in lines if line]
            entries[id] = replace(entry, text=said[0] if said else None,
                                  description=said[1] if len(said) > 1 else entry.description)  # fmt: skip
    return entries


def _id_of_folder(folder: Path) -> str:
    """What a clip's folder is of: its name, or the id that its run.json has where that could be no name."""
    if HASHED.search(folder.name):
        with suppress(InputError):
            record = read_json(folder / "run.json")
            id = record.get("id") if isinstance(record, dict) else None
            if isinstance(id, str) and is_name_of(folder.name, id):
                return id
    return folder.name


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


def _is_world_clip(path: Path) -> bool:
    """Whether a JSON file is a world clip's record, though perhaps a damaged one."""
    with path.open("rb") as file:
        return FORMAT.encode() in file.read(200)


def _world_clip(path: Path) -> Entry:
    """The entry of a world clip's record. Raises: InputError."""
    record = read_record(path)
    if lacking := [key for key in RECORD if key not in record]:
        raise InputError(f"the clip is damaged: it has no {lacking[0]!r}", where=path)
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
        entry = Entry(id) if truth is None else replace(_world_clip(truth), id=id)
        files = {"video": file("video"), "area_file": file("area"), "context_file": file("context")}
        given: dict[str, Any] = {key: value for key, value in files.items() if value is not None}
        entries[id] = replace(entry, **(given | _texts(line)))
    return entries


def _json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object). Raises: InputError naming the line."""
    for number, value in read_jsonl(path):
        if isinstance(value, InputError):
            raise value
        yield number, value


def _id_of(line: dict[str, Any], path: Path, number: int) -> str:
    if not line.get("id"):
        raise InputError("has no id", where=f"{path}, line {number}")
    return str(line["id"])


def _texts(line: dict[str, Any]) -> dict[str, str]:
    found = {key: next((str(line[name]) for name in NAMES[key] if line.get(name)), None)
             for key in ("text", "description")}  # fmt: skip
    return {key: value for key, value in found.items() if value is not None}
