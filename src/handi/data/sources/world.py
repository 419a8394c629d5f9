"""Clips of the synthetic world, as `handi world` writes them, with their ground truth."""

from __future__ import annotations

from pathlib import Path

from handi.core.errors import InputError
from handi.data.sources.common import Clip, Found, check_split
from handi.world.files import read_record, strays
from handi.world.produce import LISTS


def read_world(folder: Path) -> Found:
    """All clips of a world folder, by seed; the split is that of the seed.

    A clip's video is an mp4, or a film strip as png: read either through `truth`. Raises: InputError.
    """
    paths = sorted(folder.glob("[0-9]*.json")) if folder.is_dir() else []
    if not paths:
        raise InputError(
            "holds no clips of the synthetic world",
            where=folder,
            mend=f"render some: handi world --clips 1000 --out {folder}",
        )
    return Found([_clip(path) for path in paths], strays(folder, [path.stem for path in paths], LISTS))


def _clip(path: Path) -> Clip:
    try:
        record = read_record(path)
        video = path.parent / record["video"]
        return Clip(
            id=path.stem,
            video=video if video.is_file() else None,
            start=0.0,
            end=None,
            action=record["text"],
            description=record["enriched"],
            split=check_split(record["split"]),
            verb=record["action"],
            noun=record["choice"].get("object"),
            paraphrases=tuple(record["paraphrases"]),
            problem=None if video.is_file() else f"there is no {video.name}",
            truth=path,
        )
    except InputError as error:
        return Clip(path.stem, None, 0.0, None, "", problem=f"{path.name} {error.what}")
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        return Clip(path.stem, None, 0.0, None, "", problem=f"{path.name} is damaged ({error})")
