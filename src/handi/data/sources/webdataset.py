"""WebDataset tars: each sample a video with a .json or .txt beside it, of one name up to the first dot.

Nothing is unpacked: `handi.core.video` reads a video where it lies in its tar.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

from handi.core.errors import InputError
from handi.core.images import VIDEO_SUFFIXES
from handi.core.kinds import some
from handi.core.reading import parse_json, split_lines
from handi.data.sources.common import SourceClips
from handi.data.sources.listing import Row, clips_of_rows

MOST_TEXT = 1 << 20  # bytes of a sample's .json or .txt


def read_webdataset(path: Path) -> SourceClips:
    """The samples of a tar, or of all tars of a folder, as a list whose rows lie beside the videos.

    Raises: InputError.
    """
    tars = [path] if path.is_file() else sorted(path.rglob("*.tar")) if path.is_dir() else []
    if not tars:
        raise InputError("holds no .tar files", where=path, hint="name a tar, or a folder of tars")
    rows: list[Row] = []
    for tar in tars:
        rows += _rows(tar)
    if not rows:
        raise InputError("holds no videos", where=path, hint=f"a sample has one of {some(VIDEO_SUFFIXES, 9)}")
    return clips_of_rows(rows, "sample", [])


def _rows(path: Path) -> Iterator[Row]:
    """The rows of a tar's videos, with the problem of those that cannot be used."""
    samples: dict[str, dict[str, tarfile.TarInfo]] = {}
    try:
        with tarfile.open(path, "r:") as tar:  # a compressed one has no places to read at
            for member in tar:
                if member.isfile():
                    folder, _, name = member.name.rpartition("/")
                    stem, _, suffix = name.partition(".")
                    samples.setdefault(f"{folder}/{stem}".lstrip("./"), {})[f".{suffix.lower()}"] = member
            for number, (key, sample) in enumerate(samples.items(), start=1):
                video = next((sample[s] for s in sample if s.endswith(tuple(VIDEO_SUFFIXES))), None)
                if video is not None:
                    yield _row(tar, path, number, key, video, sample)
    except tarfile.TarError as error:
        what = f"is damaged, compressed or not a tar ({error})"
        raise InputError(what, where=path, hint="unpack .tar.gz to .tar; download it again") from error


def _row(
    tar: tarfile.TarFile, path: Path, number: int, key: str, video: tarfile.TarInfo,
    sample: dict[str, tarfile.TarInfo],
) -> Row:  # fmt: skip
    row: dict[str, object] = {"id": f"{path.stem}.{key}".replace("/", ".")}
    problem = None
    try:
        for suffix in (".txt", ".json"):
            if suffix in sample:
                text = _text(tar, sample[suffix])
                if suffix == ".txt":
                    row["action"] = next((line for line in split_lines(text) if line.strip()), "")
                elif isinstance(value := parse_json(text, f"{path}, {sample[suffix].name}"), dict):
                    row |= value
                else:
                    problem = f"{sample[suffix].name} is not a JSON object"
    except (InputError, UnicodeDecodeError) as error:
        problem = f"its text cannot be read ({error})"
    return number, {**row, "video": str(path / video.name)}, problem


def _text(tar: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    if member.size > MOST_TEXT:
        raise InputError(f"{member.name} has {member.size:,} bytes")
    file = tar.extractfile(member)
    return file.read().decode("utf-8-sig") if file else ""
