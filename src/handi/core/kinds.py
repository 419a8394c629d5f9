"""What a file is: by its content, and by its suffix only where the content says nothing (a damaged file)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image

from handi.core.errors import InputError
from handi.core.images import IMAGE_SUFFIXES, VIDEO_SUFFIXES

Kind = Literal["picture", "video"]

PICTURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"II*\x00", b"MM\x00*")
VIDEOS = (
    b"\x1aE\xdf\xa3",  # Matroska, WebM
    b"\x00\x00\x01\xba",  # MPEG program stream
    b"\x00\x00\x01\xb3",  # MPEG video
    b"FLV\x01",
    b"0&\xb2u\x8ef\xcf\x11",  # ASF, WMV
    b"\x06\x0e+4\x02\x05\x01\x01",  # MXF
    b"DKIF",  # IVF
    b"YUV4MPEG2",
    b"nut/multimedia container\x00",
    b".RMF",
)
STILL_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"mif1", b"avif")  # of the family of mp4
SOUND_BRANDS = (b"M4A ", b"M4B ")
ANIMATED = ("GIF", "PNG", "WEBP")  # formats of pictures that may be animations; pages of a TIFF are none
OTHER_VIDEOS = {".mts", ".m2ts", ".3gp", ".3g2", ".mpg", ".mpeg", ".wmv", ".flv", ".ogv"}
SUFFIXES = {"picture": {*IMAGE_SUFFIXES, ".gif"}, "video": VIDEO_SUFFIXES | OTHER_VIDEOS}


def kind_of(path: Path) -> Kind | None:
    """Whether a file is a picture or a video (animated pictures are), None for anything else."""
    try:
        with path.open("rb") as file:
            head = file.read(600)
    except (OSError, ValueError):
        head = b""
    kind = _by_content(head)
    if kind == "picture" and is_animation(path):
        return "video"
    if kind is None:
        kind = next((kind for kind in ("picture", "video") if path.suffix.lower() in SUFFIXES[kind]), None)
    return kind


def _by_content(head: bytes) -> Kind | None:
    if head.startswith(PICTURES) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        return "picture"
    if head[:2] == b"BM" and head[6:10] == bytes(4):
        return "picture"
    if head[4:8] == b"ftyp":
        if head[8:12] in STILL_BRANDS:
            return "picture"
        return None if head[8:12] in SOUND_BRANDS else "video"
    if head.startswith(VIDEOS) or head[4:8] in (b"moov", b"mdat", b"wide", b"pnot"):
        return "video"
    if head[:4] == b"RIFF" and head[8:11] == b"AVI":
        return "video"
    if head[:4] == b"OggS" and (b"theora" in head or b"OVP80" in head):
        return "video"
    # MPEG transport streams: a packet of 188 bytes after the other, a camcorder's with 4 before each.
    return "video" if any({*head[at : at + 2 * step + 1 : step]} == {0x47} and len(head) > at + 2 * step
                          for at, step in ((0, 188), (4, 192))) else None  # fmt: skip


def is_animation(path: Path) -> bool:
    """Whether a file is a picture of several frames that are shown one after the other: GIF, APNG, WebP."""
    try:
        with Image.open(path, formats=ANIMATED) as image:
            return bool(getattr(image, "is_animated", False))
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError):
        return False


def is_gif(path: Path) -> bool:
    """Whether a file is a GIF, which holds at most 256 colours per frame."""
    try:
        with path.open("rb") as file:
            return file.read(4) == b"GIF8"
    except OSError:
        return False


@dataclass(frozen=True)
class Files:
    """The files of a folder by kind, in the order of their names, frame2 before frame10."""

    pictures: list[Path]
    videos: list[Path]
    others: list[Path]

    def passed_over(self, used: Iterable[Path] = ()) -> list[str]:
        """A note on what is neither picture nor video, but for what is `used` otherwise; [] for nothing."""
        known = set(used)
        names = [path.name for path in self.others if path not in known]
        return [f"neither picture nor video, not read: {some(names)}"] if names else []


def files_in(folder: Path) -> Files:
    """The files of a folder, hidden ones left out. Raises: InputError for a folder that cannot be read."""
    try:
        files = sorted(
            (path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")),
            key=natural,
        )
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror or error})", where=folder) from error
    kinds = [(kind_of(path), path) for path in files]
    return Files(*([path for kind, path in kinds if kind == wanted] for wanted in ("picture", "video", None)))


def natural(path: Path) -> list[tuple[int, str]]:
    """Sort key by which frame2 comes before frame10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name)]


def some(names: Iterable[str], limit: int = 5) -> str:
    """A list of names for a note: the first few, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - limit:,} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def named(folder: Path, name: str) -> Path | None:
    """The file that a list calls `name`, also in another Unicode form; None where there is none."""
    try:
        if (folder / name).exists():
            return folder / name
        return None if name.isascii() else _in_another_form(folder / name)
    except (OSError, ValueError):
        return None


def _in_another_form(path: Path) -> Path | None:
    """A path whose folders, too, may be in another Unicode form. Raises: OSError."""
    if path.exists():
        return path
    if path.parent == path or (parent := _in_another_form(path.parent)) is None:
        return None
    wanted = unicodedata.normalize("NFC", path.name)
    return next((p for p in parent.iterdir() if unicodedata.normalize("NFC", p.name) == wanted), None)
