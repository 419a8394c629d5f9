"""Your own footage: a JSON, CSV or JSON Lines list of videos, or a folder of videos and text files."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from handi.core.errors import InputError
from handi.core.kinds import files_in, named, some
from handi.core.reading import check_plain, read_csv, read_json, read_jsonl, text_beside
from handi.core.tars import tar_of
from handi.data.sources.common import Clip, SourceClips, Split, check_split, clip_id, sentences_of

LISTS = {".csv", ".jsonl"}
WORDS = ("action", "caption", "prompt", "text")  # columns for the action, the first one that is there counts
Row = tuple[int, dict[str, Any] | None, str | None]  # its number, its entries, what is wrong with it
COLUMNS = ("id", "video", "start", "end", *WORDS, "description", "split", "verb", "noun", "participant")


def read_captions(path: Path, videos: Sequence[Path]) -> SourceClips:
    """AnimateAnything's list [{"caption", "video"}]; each video is a clip.

    videos: the folders that the videos are named from; without any, the list's own. Raises: InputError.
    """
    data = read_json(path, checked=False)
    if not isinstance(data, list):
        raise InputError('is not a list of {"caption", "video"}', where=path)
    if not data:
        raise InputError("is an empty list", where=path)
    rows = [_checked(number, item) for number, item in enumerate(data, start=1)]
    return clips_of_rows(rows, "item", videos or [path.parent])


def read_folder(path: Path, videos: Sequence[Path]) -> SourceClips:
    """A folder of videos, each with a text file of the same name; or a CSV or JSON Lines list of clips.

    videos: the folders that a list's videos are named from; without any, the list's own. Raises: InputError.
    """
    if path.is_file():
        if path.suffix.lower() not in LISTS:
            raise InputError("is neither a folder nor a list", where=path, hint="use a .csv or .jsonl file")
        return _list(path, videos or [path.parent])
    if not path.is_dir():
        raise InputError("no such file or folder", where=path)
    files = files_in(path)
    clips = [_clip(file) for file in files.videos]
    if not clips:
        raise InputError(
            "; ".join(["holds no videos", *files.passed_over()]),
            where=path,
            hint="put videos and text files of the same names there",
        )
    texts = [file for file in files.others if file.suffix.lower() == ".txt"]
    used = {text_beside(file) for file in files.videos}
    alone = [file.name for file in texts if file not in used]
    notes = [f"text without a video: {some(alone)}"] if alone else []
    notes += [f"pictures, not read: {some(file.name for file in files.pictures)}"] if files.pictures else []
    notes += files.passed_over(texts)
    return SourceClips(clips, notes, has_splits=False)


def _clip(video: Path) -> Clip:
    problem = None
    sentences: tuple[str, ...] = ("",)
    try:
        sentences = sentences_of(text_beside(video))
    except InputError as error:
        problem = error.what
    return Clip(
        clip_id(video.stem), video, 0.0, None, sentences[0], paraphrases=sentences[1:], problem=problem
    )


def _list(path: Path, roots: Sequence[Path]) -> SourceClips:
    """A CSV or JSON Lines file with a clip a line."""
    if path.suffix.lower() == ".csv":
        table = read_csv(path, ("video",))
        rows: list[Row]
        rows = [(row.line, {k: v for k, v in row.values.items() if v}, row.problem) for row in table]
        if table and not any(word in table[0].values for word in WORDS):
            raise InputError(f"has no column {' or '.join(WORDS)}", where=path)
    else:
        rows = [_checked(number, value) for number, value in read_jsonl(path, checked=False)]
    if not rows:
        raise InputError("lists no clips", where=path)
    return clips_of_rows(rows, "line", roots)


def _checked(number: int, value: object) -> Row:
    """An item of a list, None with its problem where it cannot be used."""
    try:
        if isinstance(value, InputError):
            raise value
        check_plain(value, f"item {number}", halves=True)  # `unique` replaces them
    except InputError as error:
        return number, None, error.what
    return (number, value, None) if isinstance(value, dict) else (number, None, "is not a JSON object")


def clips_of_rows(rows: Iterable[Row], unit: str, roots: Sequence[Path]) -> SourceClips:
    """The clips that rows with the columns of a list describe; `unit` is what a row is called.

    roots: the folders that videos are named from. Raises: InputError for one that is not there.
    """
    for root in roots:
        if not root.is_dir():
            raise InputError("no such folder of videos", where=root)
    clips, unknown, used, has_splits = [], dict[str, None](), set[str](), False
    for number, row, problem in rows:
        if row is None:
            row = {}
        has_splits |= bool(row.get("split"))
        unknown |= dict.fromkeys(key for key in row if key not in (*COLUMNS, "paraphrases"))
        clip = _of_row(row, f"{unit} {number}", problem, roots)
        # A video may be listed once for each of its actions: those without an id are told apart by number.
        if not row.get("id") and clip.id in used:
            clip = replace(clip, id=clip_id(f"{clip.id}.{unit}-{number}"))
        used.add(clip.id)
        clips.append(clip)
    return SourceClips(clips, [f"not read: {some(unknown)}"] if unknown else [], has_splits)


def _of_row(row: dict[str, Any], place: str, problem: str | None, roots: Sequence[Path]) -> Clip:
    """One entry of a list; `place` is its name if it has none."""
    name = row.get("video")
    video: Path | None = None
    if not isinstance(name, str) or not name.strip():
        problem = problem or "names no video"
    else:
        if tar_of(Path(name)) is not None:
            video = Path(name)
        else:
            video = next((path for root in roots if (path := named(root, name)) is not None), None)
        problem = problem or (None if video else f"there is no video {name}")
    words = next((row[word] for word in WORDS if row.get(word)), None)
    if not isinstance(words, str) or not words.strip():
        words, problem = "", problem or f"has no {' or '.join(WORDS[:2])}"
    start, end = 0.0, None
    split: Split = "train"
    try:
        start, end = _time(row, "start") or 0.0, _time(row, "end")
        split = check_split(str(row.get("split") or "train"))
        if end is not None and end <= start:
            raise ValueError(f"ends at {end:g} s, before it starts at {start:g} s")
    except ValueError as error:
        problem = problem or str(error)
    others = row.get("paraphrases")
    identity = str(row.get("id") or (Path(str(name)).stem if video else "") or place.replace(" ", "-"))
    return Clip(
        clip_id(identity),
        video,
        start,
        end,
        " ".join(words.split()),
        description=_words(row, "description"),
        split=split,
        verb=_words(row, "verb"),
        noun=_words(row, "noun"),
        participant=_words(row, "participant"),
        paraphrases=tuple(str(o) for o in others) if isinstance(others, list) else (),
        problem=problem,
    )


def _time(row: dict[str, Any], key: str) -> float | None:
    """Seconds of a column. Raises: ValueError with the words for the ledger."""
    value = row.get(key)
    if value is None or value == "":
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"has a {key} that is no number of seconds ({value!r})") from None
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError(f"has a {key} of {value} s")
    return seconds


def _words(row: dict[str, Any], key: str) -> str | None:
    return " ".join(str(row[key]).split()) or None if row.get(key) is not None else None
