"""The file format of a clip (docs/world.md): a video or a film strip, an id map, an area map, and JSON."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from handi.core.errors import InputError
from handi.core.files import write_json
from handi.core.images import read_image, write_image
from handi.core.kinds import some
from handi.core.reading import read_json
from handi.core.types import BinaryMask
from handi.core.video import read_video, write_video
from handi.world.clip import FPS, WorldClip
from handi.world.render import Camera

FORMAT, VERSION = "handi-world-clip", 1
Pictures = Literal["mp4", "png"]
MANIFEST = "world.json"  # the settings that all clips of a folder share
HULL_BIT, MOVED_BIT = 1, 2  # of the area map's values
Area = Literal["moved", "hull"]  # every pixel that changes, or the hands' hulls (paper §2.1)
BITS: dict[Area, int] = {"moved": MOVED_BIT, "hull": HULL_BIT}


def name_of(seed: int, sibling: int | None = None) -> str:
    """The stem of a clip's files; `sibling` counts those of one seed."""
    return f"{seed:010d}" if sibling is None else f"{seed:010d}-{sibling}"


def strays(folder: Path, names: Iterable[str], lists: Iterable[str] = ()) -> list[str]:
    """A note on the files of a world folder that belong to none of these clips or lists; [] for none."""
    stems = {*names, *(name.partition(".")[0] for name in lists)}
    there = [path.name for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    found = [name for name in there if name.partition(".")[0] not in stems]
    return [f"{folder}: belongs to no clip, not read: {some(found)}"] if found else []


def write_clip(
    folder: str | Path, clip: WorldClip, *, pictures: Pictures = "png", name: str | None = None
) -> Path:
    """Write a clip's four files and return the JSON's path. The JSON comes last: where it is, all is.

    Raises: OutputError.
    """
    folder, stem = Path(folder), name or name_of(clip.seed)
    size = clip.size
    if pictures == "mp4":
        write_video(folder / f"{stem}.mp4", clip.frames, fps=clip.fps)
    else:
        write_image(folder / f"{stem}.png", clip.frames.reshape(-1, size, 3))
    write_image(folder / f"{stem}.ids.png", clip.ids.reshape(-1, size))
    area = clip.area_hull.astype(np.uint8) * HULL_BIT + clip.area_moved.astype(np.uint8) * MOVED_BIT
    write_image(folder / f"{stem}.area.png", area)
    record: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "seed": clip.seed,
        "split": clip.split,
        "video": f"{stem}.{pictures}",
        "frames": len(clip.frames),
        "size": size,
        "fps": clip.fps,
        "action": clip.action,
        "choice": clip.choice,
        "hands": list(clip.hands),
        "text": clip.text,
        "paraphrases": list(clip.paraphrases),
        "enriched": clip.enriched,
        "objects": list(clip.objects),
        "before": clip.before,
        "after": clip.after,
        "cameras": [
            {"eye": c.eye.tolist(), "rotation": c.rotation.tolist(), "fov": c.fov, "focal": c.focal(size)}
            for c in clip.cameras
        ],
        "joints2d": _rounded(clip.joints2d, 6),
        "joints3d": _rounded(clip.joints3d, 5),
        "visible": clip.visible.tolist(),
    }
    path = folder / f"{stem}.json"
    write_json(path, record, separators=(",", ":"))
    return path


def _rounded(values: np.ndarray, digits: int) -> list[Any]:
    return np.round(values.astype(np.float64), digits).tolist()


def read_record(path: str | Path) -> dict[str, Any]:
    """The JSON of a clip as it is. Raises: InputError for a file that is not one, or of a later version."""
    path = Path(path)
    record = read_json(path)
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise InputError("is not a clip of the synthetic world", where=path)
    if record.get("version") != VERSION:
        raise InputError(
            f"has version {record.get('version')} of the format, this handi reads {VERSION}",
            where=path,
            hint="render it again or update handi",
        )
    return record


def kind_of_area(folder: str | Path) -> Area:
    """Which of their two areas is the motion area of a folder's clips: as its manifest says, else "moved".

    Raises: InputError for a manifest that cannot be read.
    """
    path = Path(folder) / MANIFEST
    manifest = read_json(path) if path.exists() else {}
    kind = manifest.get("area", "moved") if isinstance(manifest, dict) else None
    if kind not in BITS:
        raise InputError(f"area is {kind!r}", where=path, hint=f"use {' or '.join(BITS)}")
    return kind


def read_area(path: Path, kind: Area) -> BinaryMask:
    """The motion area H×W of a clip, from its JSON's path. Raises: InputError."""
    return (read_image(path.with_suffix(".area.png"))[..., 0] & BITS[kind]) > 0


def read_clip(path: str | Path) -> WorldClip:
    """Read a clip back from its JSON. From an mp4 the frames are near to the rendered ones, from a png equal.

    Raises: InputError.
    """
    path = Path(path)
    record = read_record(path)
    try:
        size, count = record["size"], record["frames"]
        video = path.parent / record["video"]
        if video.suffix == ".png":
            frames = read_image(video).reshape(count, size, size, 3)
        else:
            frames = read_video(video)
        stem = path.stem
        ids = read_image(path.parent / f"{stem}.ids.png")[..., 0].reshape(count, size, size)
        area = read_image(path.parent / f"{stem}.area.png")[..., 0]
        if len(frames) != count:
            raise InputError(f"has {len(frames)} frames, not {count}", where=video)
        return WorldClip(
            seed=record["seed"],
            action=record["action"],
            choice=record["choice"],
            hands=tuple(record["hands"]),
            text=record["text"],
            paraphrases=tuple(record["paraphrases"]),
            enriched=record["enriched"],
            frames=frames,
            joints2d=np.array(record["joints2d"], np.float32),
            joints3d=np.array(record["joints3d"], np.float32),
            visible=np.array(record["visible"], np.uint8),
            ids=ids,
            area_hull=(area & HULL_BIT) > 0,
            area_moved=(area & MOVED_BIT) > 0,
            objects=tuple(record["objects"]),
            before=record["before"],
            after=record["after"],
            cameras=tuple(
                Camera(np.array(c["eye"]), np.array(c["rotation"]), c["fov"]) for c in record["cameras"]
            ),
            fps=float(record.get("fps", FPS)),
        )
    except InputError:  # names the file at fault
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"the clip is damaged ({type(error).__name__}: {error})", where=path) from error
