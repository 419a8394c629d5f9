"""LEGO's curated lists of EPIC-KITCHENS-100 and Ego4D clips, joined to the footage and the annotations."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from handi.core.errors import InputError
from handi.core.kinds import some
from handi.core.reading import read_json
from handi.data.sources.common import (
    PAPER,
    Annotation,
    Clip,
    ClipLength,
    SourceClips,
    Split,
    clip_id,
    sentence,
)
from handi.data.sources.ego4d import ego4d_entries, spoken
from handi.data.sources.epic import FILES as EPIC_FILES
from handi.data.sources.epic import epic_entries

# Clips of each list (LEGO, arXiv 2312.03849). The test sets of both data sets are hidden, so its validation
# lists are what LEGO and HANDI test on.
PUBLISHED = {
    "epickitchen_train.json": 60_429,
    "epickitchen_val.json": 8_857,
    "ego4d_train.json": 85_521,
    "ego4d_val.json": 9_931,
}
SPLIT: dict[str, Split] = {"train": "train", "val": "test"}
MISSING = {"epickitchen": "the CSV files of EPIC-KITCHENS-100", "ego4d": "annotations/fho_main.json"}
DESCRIPTION = "llava_forecast_finetune"


@dataclass(frozen=True)
class _Item:
    """One clip of a list: {group: {name: {"image_0", "image_1", "action", "llava_forecast_finetune"}}}."""

    group: str
    name: str
    text: str
    description: str | None
    frame: int | None  # the last number in the file name of its target picture
    split: Split

    @property
    def id(self) -> str:
        return clip_id(self.name if self.name.startswith(self.group) else f"{self.group}.{self.name}")


def read_lego(
    path: Path, videos: Sequence[Path], annotations: Path | None = None, length: ClipLength = PAPER
) -> SourceClips:
    """LEGO's clips with their enriched descriptions, and times from the annotations that they came from.

    path: LEGO's folder, or one of its lists. videos: the roots of EPIC-KITCHENS-100 and of Ego4D, as for
    these sources. annotations: the folder of EPIC's CSV files; without it, it is looked for in the roots. A
    list of a data set that none of the roots holds is left aside, in a note. Raises: InputError.
    """
    notes: list[str] = []
    clips: list[Clip] = []
    for dataset, files in _lists(path).items():
        entries = _entries(dataset, videos, annotations, notes, length)
        if entries is None:
            what = f"{some(file.name for file in files)}: no folder of footage holds {MISSING[dataset]}"
            if path.is_file():
                raise InputError(what, hint="name the folder")
            notes.append(f"{what}; left aside")
            continue
        index = _Index(entries)
        for file in files:
            items = _items(file)
            matches = [index.find(item) for item in items]
            notes += _counts(file, items, matches)
            clips += [_joined(item, match) for item, match in zip(items, matches, strict=True)]
    return SourceClips(clips, notes)


def _lists(path: Path) -> dict[str, list[Path]]:
    """The lists of each data set, training first. Raises: InputError."""
    files = [path] if path.is_file() else [path / name for name in PUBLISHED if (path / name).is_file()]
    if not files:
        raise InputError(f"holds none of {', '.join(PUBLISHED)}", where=path, hint="name LEGO's own folder")
    found: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        match = re.fullmatch(r"(epickitchen|ego4d)_(train|val).*", file.stem)
        if not match:
            raise InputError(
                "is not named like one of LEGO's lists", where=file, hint=f"use {some(PUBLISHED)}"
            )
        found[match[1]].append(file)
    return found


def _entries(
    dataset: str, videos: Sequence[Path], annotations: Path | None, notes: list[str], length: ClipLength
) -> Iterable[Annotation] | None:
    """All annotations of a data set; None where they are not to be found."""
    if dataset == "ego4d":
        for root in videos:
            for home in (root, root / "v2"):
                if (home / "annotations" / "fho_main.json").is_file():
                    return ego4d_entries(home, videos, notes, length, curated=True)
        return None
    folders = [annotations] if annotations else []
    folders += [r / part for r in videos for part in ("", "annotations", "epic-kitchens-100-annotations")]
    for folder in folders:
        if folder.is_file() or any((folder / name).is_file() for name in EPIC_FILES.values()):
            return epic_entries(folder, videos, notes, length)
    return None


def _items(file: Path) -> list[_Item]:
    """The clips of a list, in order. Raises: InputError for a file of another form."""
    data = read_json(file, checked=False)
    split = SPLIT["train" if "_train" in file.stem else "val"]
    form = "is not of the form {clip: {action id: {image_0, image_1, action}}}"
    if not isinstance(data, dict) or not data:
        raise InputError(form, where=file)
    items = []
    for group, actions in data.items():
        if not isinstance(actions, dict):
            raise InputError(f"{form} at {group!r}", where=file)
        for name, action in actions.items():
            if not isinstance(action, dict) or not isinstance(action.get("action"), str):
                raise InputError(f"{form} at {group!r}, {name!r}", where=file)
            items.append(_Item(group, name, action["action"], _text(action), _frame(action), split))
    return items


def _text(action: dict[str, Any]) -> str | None:
    text = action.get(DESCRIPTION)
    return " ".join(text.split()) or None if isinstance(text, str) else None


def _frame(action: dict[str, Any]) -> int | None:
    numbers = re.findall(r"\d+", Path(str(action.get("image_1", ""))).stem)
    return int(numbers[-1]) if numbers else None


class _Index:
    """Finds the annotation that an item was made from."""

    def __init__(self, entries: Iterable[Annotation]) -> None:
        self._said: dict[tuple[str, str], list[Annotation]] = defaultdict(list)  # by group and words
        self._names: dict[str, list[Annotation]] = defaultdict(list)
        for entry in entries:
            own = [name for name in entry.names if not name.isdigit()]  # a number names nothing by itself
            for name in dict.fromkeys(own):
                self._names[name].append(entry)
            for group in dict.fromkeys([*entry.groups, *own]):
                self._said[group, _plain(entry.text)].append(entry)

    def find(self, item: _Item) -> list[Annotation]:
        """The annotations that an item can be meant by: one, if all is well.

        Its words and its name must agree; where they do not, either alone counts that is without doubt.
        """
        whole = self._names.get(item.name, [])
        alike = self._said.get((item.group, _plain(item.text)), [])
        alike = alike or self._said.get((item.name, _plain(item.text)), [])
        named = [entry for entry in alike if item.name in entry.names]
        if len(named) == 1:
            return named
        if len(alike) > 1 and item.frame is not None:
            within = [entry for entry in alike if entry.frames[0] <= item.frame <= entry.frames[1]]
            if len(within) == 1:
                return within
        return alike or (whole if len(whole) == 1 else [])


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _joined(item: _Item, found: list[Annotation]) -> Clip:
    """The item as a clip; one that no annotation, or more than one, can be meant by has a problem."""
    if len(found) == 1:
        return replace(found[0].clip, id=item.id, description=item.description, split=item.split)
    if found:
        problem = f"{len(found)} annotations of {item.group} say {item.text!r}, none is named {item.name}"
    else:
        problem = f"no annotation of {item.group} is named {item.name} and says {item.text!r}"
    action = spoken(item.text) if item.text.startswith("#") else sentence(item.text)
    return Clip(item.id, None, 0.0, None, action, item.description, item.split, problem=problem)


def _counts(file: Path, items: list[_Item], matches: list[list[Annotation]]) -> list[str]:
    """What does not agree with what is published, by name."""
    notes = []
    if (published := PUBLISHED.get(file.name)) not in (None, len(items)):
        notes.append(f"{file.name}: {len(items):,} clips, published are {published:,}")
    if unmatched := [item.id for item, match in zip(items, matches, strict=True) if len(match) != 1]:
        notes.append(f"{file.name}: {len(unmatched):,} clips match no annotation: {some(unmatched)}")
    if silent := [item.id for item in items if item.description is None]:
        notes.append(f"{file.name}: {len(silent):,} clips have no {DESCRIPTION}: {some(silent)}")
    metadata = file.with_name(f"{file.stem.split('_')[0]}_metadata.json")
    if not metadata.is_file():
        return [*notes, f"{metadata.name} is not there: {file.name} was not checked against it"]
    known = read_json(metadata, checked=False)
    if not isinstance(known, dict):
        raise InputError("is not of the form {clip: {height, width, …}}", where=metadata)
    if strange := sorted({item.group for item in items} - known.keys()):
        notes.append(f"{file.name}: {len(strange):,} videos are not in {metadata.name}: {some(strange)}")
    return notes
