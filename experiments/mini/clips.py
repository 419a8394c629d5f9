"""Test clips and groups of siblings for `score.py`, and the store of what was measured on them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from handi.core.files import replacing
from handi.world import WorldClip, read_clip, siblings, split_of, write_clip
from handi.world.rendering import WorldSettings, render_folder

FIRST_CLIP, FIRST_GROUP = 900_000, 930_000  # test seeds
Row = dict[str, Any]


def load_clips(folder: Path, count: int, size: int) -> list[WorldClip]:
    """The first `count` clips of the test seeds in a folder; those that are missing are rendered."""
    paths = _clips_of(folder)
    if len(paths) < count:
        settings = WorldSettings(size=size, pictures="png")
        failures = render_folder(folder, clips=count, seed=FIRST_CLIP, settings=settings)
        if failures:
            raise SystemExit("\n".join(failures))
        paths = _clips_of(folder)
    clips = [read_clip(path) for path in paths[:count]]
    for clip in clips:
        if split_of(clip.seed) != "test":
            raise SystemExit(f"{folder}: seed {clip.seed} is not a test seed")
    return clips


def _clips_of(folder: Path) -> list[Path]:
    return sorted(folder.glob("[0-9]*.json"))


def sibling_groups(folder: Path, groups: int, count: int, size: int) -> list[list[WorldClip]]:
    """`groups` times `count` clips of different actions from one first frame; rendered where missing."""
    result = []
    for seed in range(FIRST_GROUP, FIRST_GROUP + groups):
        home = folder / f"{seed}-{count}-{size}"
        if not (home / "whole").exists():  # the clips of a group have one seed, so a folder each
            for number, clip in enumerate(siblings(seed, size=size, count=count)):
                (home / str(number)).mkdir(parents=True, exist_ok=True)
                write_clip(home / str(number), clip, pictures="png")
            (home / "whole").touch()
        result.append([read_clip(path) for path in sorted(home.glob("*/[0-9]*.json"))])
    return result


def shuffled(clips: Sequence[WorldClip]) -> list[str]:
    """For each clip another clip's text that is not its own; the same texts all in all, as near as can be."""
    texts = [clip.text for clip in clips]
    order = np.random.default_rng(0).permutation(len(texts))
    result = []
    for n, text in enumerate(texts):
        others = (texts[order[(n + shift) % len(texts)]] for shift in range(len(texts)))
        other = next((candidate for candidate in others if candidate != text), None)
        if other is None:
            raise SystemExit("all clips have the same text: nothing to shuffle")
        result.append(other)
    return result


class Store:
    """Rows of figures, one per clip, in one JSON file per condition: what is there is not measured again."""

    def __init__(self, folder: Path, model: str) -> None:
        self.folder, self.model = folder, model
        self.seconds: dict[str, float] = {}  # CPU seconds that each condition took when it was measured

    def rows(
        self,
        name: str,
        seeds: Sequence[int],
        compute: Callable[[], list[Row]],
        *,
        again: bool = False,
        any_model: bool = False,
        **about: Any,
    ) -> list[Row]:
        """The rows of a condition on these seeds, from its file or measured now.

        again: measured now in any case; any_model: the model has no part in it; about: settings.
        """
        return self.rows_in_pieces(
            name, seeds, lambda piece: compute()[piece], len(seeds), again=again, any_model=any_model, **about
        )

    def rows_in_pieces(
        self,
        name: str,
        seeds: Sequence[int],
        compute: Callable[[slice], list[Row]],
        piece: int,
        *,
        again: bool = False,
        any_model: bool = False,
        **about: Any,
    ) -> list[Row]:
        """As `rows`, for what takes long: `piece` clips are measured at a time and kept at once, so a
        run that was stopped resumes there. Where the file has the first of these seeds, or more than these,
        they are not measured again."""
        path = self.folder / f"{name.replace(' ', '_')}.json"
        model = "any" if any_model else self.model
        key = json.loads(json.dumps({"model": model, "seeds": list(seeds), **about}))
        rows, done, seconds = ([], 0, 0.0) if again else _kept(path, key)  # done: of the seeds
        self.folder.mkdir(parents=True, exist_ok=True)
        while done < len(seeds):
            begin = time.process_time()
            rows = rows + compute(slice(done, done + piece))
            seconds, done = seconds + time.process_time() - begin, min(done + piece, len(seeds))
            with replacing(path) as temporary:
                temporary.write_text(json.dumps({"key": key, "seconds": seconds, "done": done, "rows": rows}))
        self.seconds[name] = seconds
        return rows


def _kept(path: Path, key: Row) -> tuple[list[Row], int, float]:
    """What a file has for these seeds: the rows, how many seeds they are of, the seconds they took."""
    if not path.exists():
        return [], 0, 0.0
    stored = json.loads(path.read_text())
    rows, theirs, seconds = stored["rows"], stored["key"]["seeds"], stored["seconds"]
    done = stored.get("done", len(theirs))
    if stored["key"] == key:
        return rows, done, seconds
    count = min(done, len(key["seeds"]))
    same = stored["key"] | {"seeds": None} == key | {"seeds": None} and theirs[:count] == key["seeds"][:count]
    if not same or len(rows) != done:  # a row may be of several seeds: then all of them or none
        return [], 0, 0.0
    return rows[:count], count, seconds * count / max(done, 1)


def column(rows: Sequence[Row], name: str) -> list[float]:
    """A figure of all rows; NaN where a clip has none."""
    return [np.nan if row[name] is None else float(row[name]) for row in rows]
