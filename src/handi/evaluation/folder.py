"""The videos of a folder or a manifest by id, and what is known about each.

A folder may hold, for the id "24":

    24.mp4 (or .MTS, .webm, …)   a video, recognised by its content; a .gif counts, with its 256 colours
    24.npy                       F×H×W×3, uint8 or floats in [0, 1]
    24/video.mp4, 24/frames/     what `handi generate` writes; the frames are preferred, they are lossless
    24/0000.png, 24/0001.png …   an image sequence
    24.json                      a clip of `handi world`, with its pictures beside it
    24.txt                       the action; a second line is the enriched text
    motion_area/24.png           the motion area, bright where things may move
    context/24.png               the context image
    prompts.jsonl                {"id", "action", "enriched"?} per line

A folder that `handi prepare` wrote stands for its test clips, or for its validation clips if it has none.
A manifest is a JSONL file, {"id", "video"?, "area"?, "context"?, "text"?, "description"?, "truth"?} per line;
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
from handi.core.ledger import LEDGER
from handi.core.names import is_name_of, safe_name
from handi.core.reading import read_json, read_jsonl, read_lines, text_beside
from handi.core.stores import local
from handi.data.shards import PREPARED
from handi.evaluation.videos import Entry, is_video, prepared_entries
from handi.evaluation.world import WorldEntry, is_world_clip, world_entry
from handi.world.rendering import CAPTIONS, MANIFEST

Say = Callable[[str], None]

SIDECARS = {"motion_area": "area_file", "context": "context_file"}  # folder → field of the ids' entries
PROMPTS = "prompts.jsonl"
LISTS = (MANIFEST, CAPTIONS, LEDGER)  # what handi says about a folder's clips
HASHED = re.compile(r"-[0-9a-f]{8}$")  # the end of a folder's name that stands for an id
NAMES = {"text": ("text", "action"), "description": ("description", "enriched"),
         "area": ("area", "motion_area")}  # in a manifest or prompts.jsonl  # fmt: skip


def read_videos(path: str | Path, say: Say = lambda line: None) -> dict[str, Entry]:
    """Everything of a folder or a manifest (see above), by id in sorted order.

    What is wrong with an id is its `problem`; `say` reports what is passed over. Raises: InputError for a
    folder or manifest that cannot be read or holds nothing.
    """
    path = local(path)
    if (path / PREPARED).is_file():
        entries = prepared_entries(path)
    elif path.is_dir():
        entries = _Folder(path).read(say)
    elif path.is_file():
        entries = _of_manifest(path)
    else:
        raise InputError("no such folder or manifest", where=path)
    if not entries:
        raise InputError(
            "holds no video", where=path, hint="see `handi evaluate --help` for what it may hold"
        )
    return dict(sorted(entries.items()))


class _Folder:
    """The entries of a folder while it is read; what goes wrong with a file is its id's problem."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.entries: dict[str, Entry] = {}

    def read(self, say: Say) -> dict[str, Entry]:
        files = sorted(path for path in self.folder.iterdir() if not path.name.startswith("."))
        texts = [path for path in files if path.suffix.lower() == ".txt" and path.is_file()]
        passed = [path.name for path in files if path not in texts and not self._take(path)]
        for name, key in SIDECARS.items():
            if (self.folder / name).is_dir():
                found = files_in(self.folder / name)
                for path in found.pictures:
                    self._add(_nfc(path.stem), **{key: path})
                passed += [f"{name}/{path.name}" for path in (*found.videos, *found.others)]
        if (prompts := self.folder / PROMPTS) in files:
            self._take_prompts(prompts)
        used = {self._take_text(id) for id in list(self.entries)}
        passed += [path.name for path in texts if path not in used]
        # Beside ID.json lie the pictures of a world clip: ID.png, ID.area.png, …
        passed = [name for name in passed if not self._is_of_world(name)]
        if passed:
            say(f"note: {self.folder}: not read, as no video: {some(sorted(passed))}")
        return self.entries

    def _is_of_world(self, name: str) -> bool:
        return isinstance(self.entries.get(name.partition(".")[0]), WorldEntry)

    def _add(self, id: str, **fields: Any) -> None:
        self.entries[id] = replace(self.entries.get(id, Entry(id)), **fields)

    def _take(self, path: Path) -> bool:
        """Enter what a file or subfolder stands for; False if it stands for nothing."""
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
            elif path.suffix == ".json" and is_world_clip(path):
                self.entries[id] = world_entry(path)
            else:
                return False
        except Exception as error:
            self._add(id, problem=reason(error))
        return True

    def _take_prompts(self, path: Path) -> None:
        for number, line in read_jsonl(path):
            try:
                id, line = _checked(line)
                self._add(id, **_texts(line))
            except ValueError as error:
                self._add(f"{path.name}, line {number}", problem=_at(path, number, error))

    def _take_text(self, id: str) -> Path | None:
        """Read the text file of an id; its path, if there is one."""
        path, entry = text_beside(self.folder / f"{safe_name(id)}.mp4"), self.entries[id]
        if not path.is_file():
            return None
        try:
            lines = [line.strip() for line in read_lines(path) if line.strip()]
        except InputError as error:
            self._add(id, problem=entry.problem or str(error))
            return path
        description = lines[1] if len(lines) > 1 else entry.description
        self._add(id, text=lines[0] if lines else None, description=description)
        return path


def _id_of_folder(folder: Path) -> str:
    """The id of a clip's folder: its name, or the id in its run.json if that could not be a name."""
    if HASHED.search(folder.name):
        with suppress(InputError):
            record = read_json(folder / "run.json")
            id = record.get("id") if isinstance(record, dict) else None
            if isinstance(id, str) and is_name_of(folder.name, id):
                return id  # exactly: two ids may differ in their Unicode form alone
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


def _of_manifest(path: Path) -> dict[str, Entry]:
    """The entries of a manifest; a line that is damaged or repeats an id is an entry with a problem."""
    entries: dict[str, Entry] = {}
    for number, line in read_jsonl(path):
        try:
            id, line = _checked(line)
            if id in entries:
                raise InputError(f"the id {id!r} was used before")
            entries[id] = _of_line(id, line, path.parent)
        except ValueError as error:
            place = f"{path.name}, line {number}"
            entries[place] = Entry(place, problem=_at(path, number, error))
    return entries


def _of_line(id: str, line: dict[str, Any], folder: Path) -> Entry:
    """Raises: InputError."""

    def file(key: str) -> Path | None:
        given = _value(line, key)
        return None if given is None else named(folder, given) or folder / given

    truth = file("truth")
    entry = Entry(id) if truth is None else world_entry(truth, id)
    files = {"video": file("video"), "area_file": file("area"), "context_file": file("context")}
    given: dict[str, Any] = {key: value for key, value in files.items() if value}
    return replace(entry, **(given | _texts(line)))


def _at(path: Path, number: int, error: ValueError) -> str:
    """What is wrong with a line, with its place in front."""
    place = f"{path}, line {number}"
    return str(error) if str(error).startswith(place) else f"{place}: {error}"


def _checked(line: Any) -> tuple[str, dict[str, Any]]:
    """The id of a line of JSONL, and the line. Raises: InputError for no object, or no id."""
    if isinstance(line, InputError):
        raise line
    if not line.get("id"):
        raise InputError("has no id")
    return _nfc(str(line["id"])), line


def _nfc(id: str) -> str:
    """An id in one Unicode form, since file systems and archives change the form of names."""
    return unicodedata.normalize("NFC", id)


def _value(line: dict[str, Any], key: str) -> str | None:
    return next((str(line[name]) for name in NAMES.get(key, (key,)) if line.get(name)), None)


def _texts(line: dict[str, Any]) -> dict[str, str]:
    return {key: text for key in ("text", "description") if (text := _value(line, key)) is not None}
