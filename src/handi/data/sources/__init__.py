"""Where clips come from: published data sets, lists, folders, the synthetic world; each read as `Clip`s."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

from handi.core.errors import InputError
from handi.data.sources.common import FRAMES, PAPER, Clip, ClipLength, SourceClips, Split, sound, unique
from handi.data.sources.ego4d import read_ego4d
from handi.data.sources.egodex import read_egodex
from handi.data.sources.epic import read_epic
from handi.data.sources.lego import read_lego
from handi.data.sources.lerobot import hands_key, read_lerobot
from handi.data.sources.listing import read_captions, read_folder
from handi.data.sources.webdataset import read_webdataset

__all__ = [
    "FRAMES",
    "KINDS",
    "Clip",
    "ClipLength",
    "Kind",
    "SourceClips",
    "Split",
    "has_hands",
    "read_source",
]

Kind = Literal["epic-kitchens", "ego4d", "lego", "json", "folder", "lerobot", "egodex", "webdataset", "world"]
KINDS: tuple[Kind, ...] = get_args(Kind)


def read_source(
    kind: Kind, path: str | Path, *, videos: Sequence[str | Path] = (),
    annotations: str | Path | None = None, length: ClipLength = PAPER, camera: str | None = None,
    hands: str | None = None,
) -> SourceClips:  # fmt: skip
    """The clips of a source, each with an id of its own and, where it cannot be used, a `problem`.

    path, by kind:
      epic-kitchens  the root of the footage (PXX/videos/…), or of the annotations, with `videos` for the rest
      ego4d          what the `ego4d` command wrote to, or fho_main.json, or narration.json
      lego           LEGO's folder or one of its lists; `videos`: the roots of EPIC-KITCHENS-100 and Ego4D
      json           AnimateAnything's list [{"caption", "video"}]
      folder         a folder of videos and text files of the same names, or a .csv or .jsonl list
      lerobot        a LeRobot dataset, v3 or v2
      egodex         EgoDex's folders, or one of them
      webdataset     a tar of videos and JSON or text files, or a folder of tars
      world          what `handi world` wrote
    videos: folders of footage beside `path`. annotations: of EPIC-KITCHENS-100, where they lie elsewhere.
    length: of the clips that will be cut; annotated actions may be shorter. camera, hands: of a LeRobot
    dataset, the keys of the videos and of 2-D joints to take.
    docs/data.md shows each layout. Raises: InputError, also where not one clip can be used.
    """
    path = Path(path).expanduser()
    roots = [Path(root).expanduser() for root in videos]
    extra = Path(annotations).expanduser() if annotations is not None else None
    if kind == "epic-kitchens":
        found = _epic(path, roots, extra, length)
    elif kind == "ego4d":
        found = read_ego4d(path, roots, length)
    elif kind == "lego":
        found = read_lego(path, roots, extra, length)
    elif kind == "json":
        found = read_captions(path, roots)
    elif kind == "folder":
        found = read_folder(path, roots)
    elif kind == "lerobot":
        found = read_lerobot(path, camera, hands)
    elif kind == "egodex":
        found = read_egodex(path)
    elif kind == "webdataset":
        found = read_webdataset(path)
    elif kind == "world":
        from handi.data.sources.world import read_world  # a worker that has no use for it starts sooner

        found = read_world(path)
    else:
        raise InputError(f"there is no source {kind!r}", hint=f"use {', '.join(KINDS)}")
    clips = unique(found.clips)
    if not clips:
        raise InputError(
            "; ".join(["lists no clip", *found.notes[:3]]), where=path, hint="check what it lists"
        )
    if all(clip.problem for clip in clips):
        reason, count = Counter(str(clip.problem) for clip in clips).most_common(1)[0]
        what = f"none of {len(clips):,} clips can be used; {count:,} of them: {reason}"
        raise InputError("; ".join([what, *found.notes[:3]]), where=path)
    return replace(found, clips=clips, notes=[sound(note) for note in found.notes])


def has_hands(kind: Kind, path: Path, hands: str | None = None) -> bool:
    """Whether a source of footage says where the hands are. Raises: InputError."""
    return kind == "egodex" or (kind == "lerobot" and hands_key(path.expanduser(), hands) is not None)


def _epic(path: Path, roots: list[Path], annotations: Path | None, length: ClipLength) -> SourceClips:
    """EPIC-KITCHENS-100, whose annotations come from another place than its footage."""
    if annotations is None:
        places = [path, path / "annotations", path / "epic-kitchens-100-annotations"]
        has = [place for place in places if place.is_file() or any(place.glob("EPIC_100_*.csv"))]
        annotations = has[0] if has else path
    return read_epic(annotations, roots or [path if path.is_dir() else path.parent], length)
