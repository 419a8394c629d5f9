"""One side of an evaluation: the videos of a folder or a manifest by id, and what is known of each.

A folder may hold, for the id "24":

    24.mp4 (or .MTS, .webm, …)   a video, as its content says; a .gif is one too, in 256 colours
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
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from handi.core.errors import InputError, reason
from handi.core.footage import find_footage
from handi.core.kinds import files_in, named, some
from handi.core.names import is_name_of, safe_name
from handi.core.reading import read_json, read_jsonl, read_lines, text_beside
from handi.data.shards import PREPARED
from handi.evaluation.entries import Entry, is_video
from handi.evaluation.prepared import prepared_side
from handi.world.files import FORMAT, read_record
from handi.world.produce import CAPTIONS, MANIFEST

SIDECARS = ("motion_area", "context")  # folders whose pictures belong to ids and are no frames
PROMPTS = "prompts.jsonl"
RECORD = ("video", "frames", "size", "text", "enriched", "seed")  # what is read of a world clip's record
LISTS = (MANIFEST, CAPTIONS)  # what `handi world` says of a folder's clips; they are none
HASHED = re.compile(r"-[0-9a-f]{8}$")  # the end of a folder's name that stands for an id
NAMES = {"text": ("text", "action"), "description": ("description", "enriched"),
         "area": ("area", "motion_area")}  # in a manifest or prompts.jsonl  # fmt: skip


def read_side(path: str | Path, say: Callable[[str], None] = lambda line: None) -> dict[str, Entry]:
    """Everything of a folder or a manifest (see above), by id in sorted order.

    What cannot be used of an id is its `problem`; `say` is told what is passed over. Raises: InputError for
    a folder or manifest that cannot be read or holds nothing.
    """
    path = Path(path).expanduser()
    if (path / PREPARED).is_file():
        entries = prepared_side(path)
    elif path.is_dir():
        entries = _Folder(path).read(say)
    elif path.is_file():
        entries = _of_manifest(path)
    else:
        raise InputError("no such folder or manifest", where=path)
    if not entries:
        raise InputError(
            "holds no video", where=path, mend="see `handi evaluate --help` for what it may hold"
        )
    return dict(sorted(entries.items()))


class _Folder:
    """The entries of a folder while it is read: what goes wrong with a file is its id's problem."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.entries: dict[str, Entry] = {}

    def read(self, say: Callable[[str], None]) -> dict[str, Entry]:
        files = sorted(path for path in self.folder.iterdir() if not path.name.startswith("."))
        texts = [path for path in files if path.suffix.lower() == ".txt" and path.is_file()]
        passed = [path.name for path in files if path not in texts and not self._take(path)]
        for name, key in (("motion_area", "area_file"), ("context", "context_file")):
            if (self.folder / name).is_dir():
                found = files_in(self.folder / name)
                for path in found.pictures:
                    self._add(_nfc(path.stem), **{key: path})
                passed += [f"{name}/{path.name}" for path in (*found.videos, *found.others)]
        for path in files:
            if path.name == PROMPTS:
                self._prompts(path)
        used = {self._text(id) for id in list(self.entries)}
        alone = [path.name for path in texts if path not in used]
        # Beside ID.json lie the pictures of a world clip: ID.png, ID.area.png, …
        passed = [name for name in passed if not self._is_of_world(name.partition(".")[0])]
        if passed := sorted([*passed, *alone]):
            say(f"note: {self.folder}: not read, as no video: {some(passed)}")
        return self.entries

    def _is_of_world(self, id: str) -> bool:
        return id in self.entries and self.entries[id].truth is not None

    def _add(self, id: str, **what: Any) -> None:
        self.entries[id] = replace(self.entries.get(id, Entry(id)), **what)

    def _take(self, path: Path) -> bool:
        """Enter what a file or subfolder stands for; whether it stands for anything."""
        id = _id_of_folder(path) if path.is_dir() else _nfc(path.stem)
        try:
            if path.name in (PROMPTS, *LISTS, *SIDECARS):
                return True
            if path.is_dir():
                if (video := _video_of_folder(path)) is None:
                    return False
                self._add(id, video=video)
            elif path.suffix.lower() == ".npy" or is_video(path):
                other = self.entries[id].video if id in self.entries else None
                if other not in (None, path):
                    names = f"{path.name} and {other.name if other else ''}"
                    raise InputError(f"{names} are two videos of one id", where=self.folder)
                self._add(id, video=path)
            elif path.suffix == ".json" and _is_world_clip(path):
                self.entries[id] = _world_clip(path)
            else:
                return False
        except Exception as error:
            self._add(id, problem=reason(error))
        return True

    def _prompts(self, path: Path) -> None:
        for number, line in read_jsonl(path):
            try:
                self._add(_id_of(line), **_texts(_object(line)))
            except ValueError as error:
                self._add(f"{path.name}, line {number}", problem=_at(path, number, error))

    def _text(self, id: str) -> Path | None:
        """Take the text file of a video's name; its path, where there is one."""
        path, entry = text_beside(self.folder / f"{safe_name(id)}.mp4"), self.entries[id]
        if not path.is_file():
            return None
        try:
            said = [line.strip() for line in read_lines(path) if line.strip()]
        except InputError as error:
            self._add(id, problem=entry.problem or str(error))
            return path
        description = said[1] if len(said) > 1 else entry.description
        self._add(id, text=said[0] if said else None, description=description)
        return path


def _id_of_folder(folder: Path) -> str:
    """What a clip's folder is of: its name, or the id that its run.json has where that could be no name."""
    if HASHED.search(folder.name):
        with suppress(InputError):
            record = read_json(folder / "run.json")
            id = record.get("id") if isinstance(record, dict) else None
            if isinstance(id, str) and is_name_of(folder.name, id):
                return id  # to the letter: it may differ from another one in its Unicode form alone
    return _nfc(folder.name)


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
    """The entries of a manifest; a line that is none, or names an id again, is one with a problem."""
    entries: dict[str, Entry] = {}
    for number, line in read_jsonl(path):
        place = f"{path.name}, line {number}"
        try:
            id = _id_of(line)
            if id in entries:
                raise InputError(f"the id {id!r} was used before")
            entries[id] = _of_line(id, _object(line), path.parent)
        except ValueError as error:
            entries[place] = Entry(place, problem=_at(path, number, error))
    return entries


def _of_line(id: str, line: dict[str, Any], folder: Path) -> Entry:
    """Raises: InputError."""

    def file(key: str) -> Path | None:
        given = next((str(line[name]) for name in NAMES.get(key, (key,)) if line.get(name)), None)
        return None if given is None else named(folder, given) or folder / given

    truth = file("truth")
    entry = Entry(id) if truth is None else replace(_world_clip(truth), id=id)
    files = {"video": file("video"), "area_file": file("area"), "context_file": file("context")}
    given: dict[str, Any] = {key: value for key, value in files.items() if value is not None}
    return replace(entry, **(given | _texts(line)))


def _at(path: Path, number: int, error: ValueError) -> str:
    """What is wrong with a line, with its place in front."""
    place = f"{path}, line {number}"
    return str(error) if str(error).startswith(place) else f"{place}: {error}"


def _object(line: Any) -> dict[str, Any]:
    """Raises: InputError for a line that is no object."""
    if isinstance(line, InputError):
        raise line
    found: dict[str, Any] = line
    return found


def _id_of(line: Any) -> str:
    if not _object(line).get("id"):
        raise InputError("has no id")
    return _nfc(str(line["id"]))


def _nfc(id: str) -> str:
    """One form of an id for all sides: file systems and archives change the Unicode form of names."""
    return unicodedata.normalize("NFC", id)


def _texts(line: dict[str, Any]) -> dict[str, str]:
    found = {key: next((str(line[name]) for name in NAMES[key] if line.get(name)), None)
             for key in ("text", "description")}  # fmt: skip
    return {key: value for key, value in found.items() if value is not None}
