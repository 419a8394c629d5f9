"""Object stores, by URL: s3://bucket/data, gs://…, hf://datasets/owner/name, or any other that fsspec opens.

A folder in a store is worked on through a local one, its copy in the cache: small files are copied there, and
large ones (`LARGE`) stay where they are and are read in ranges. What is written goes up file by file; a store
shows a file whole or not at all.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from handi.core.errors import HandiError, InputError, OutputError
from handi.core.files import cache_folder, replacing, write_json, writing
from handi.core.reading import read_json

LARGE = ".tar"
MARK = ".store"  # of a copy: the URL, and what the files were that it was made from
# A Path has lost one of the slashes. Two letters or more: C: is a disk.
_URL = re.compile(r"([a-z][a-z0-9+.-]+):/+(.*)", re.DOTALL)


def url_of(place: str | Path) -> str | None:
    """A place as a URL, if it is one: Path("s3://bucket/data"), which has lost a slash, too."""
    match = _URL.fullmatch(str(place).rstrip("/"))
    if match is None:
        return None
    return f"{match[1]}://{'/' if match[1] in ('file', 'local') else ''}{match[2]}"


def local(place: str | Path) -> Path:
    """A folder as it is, or the copy of a URL's, brought up to date.

    Raises: InputError for a store that cannot be read, or a library for it that is missing.
    """
    url = url_of(place)
    return Path(place).expanduser() if url is None else pull(url)


def pull(url: str) -> Path:
    """The copy of a URL's folder, all but large files, as it is now; what is gone there goes here too.

    Raises: InputError.
    """
    folder = cache_folder("stores") / hashlib.sha256(url.encode()).hexdigest()[:16]
    with _reading(url) as (system, root):
        found = {
            path[len(root) :].lstrip("/"): _stamp(info)
            for path, info in system.find(root, detail=True).items()
            if not path.endswith(LARGE)
        }
        known = store_of(folder).get("files", {})
        for name in sorted({*known, *found}):
            copy = folder / name
            if name not in found:
                copy.unlink(missing_ok=True)
            elif known.get(name) != found[name] or not copy.is_file():
                with replacing(copy) as temporary:
                    temporary.write_bytes(system.cat_file(f"{root}/{name}"))
    write_json(folder / MARK, {"url": url, "files": found})
    return folder


def store_of(folder: Path) -> dict[str, Any]:
    """What a copy says of the store that it stands for; {} for a folder that stands for itself."""
    return read_json(folder / MARK) if (folder / MARK).is_file() else {}


def size_of(folder: Path, name: str) -> int | None:
    """Bytes of a file of a folder, in its store where it is not here; None where it is nowhere.

    Raises: InputError.
    """
    if (folder / name).is_file():
        return (folder / name).stat().st_size
    if not (url := store_of(folder).get("url")):
        return None
    with _reading(url) as (system, root):
        path = f"{root}/{name}"
        return int(system.info(path)["size"]) if system.exists(path) else None


def read_range(folder: Path, name: str, offset: int, length: int) -> bytes:
    """Bytes of a file of a folder, here or in its store. Raises: OSError, InputError, ValueError."""
    path = folder / name
    if not path.exists() and (url := store_of(folder).get("url")):
        with _reading(url) as (system, root):
            data: bytes = system.cat_file(f"{root}/{name}", offset, offset + length)
    else:
        file = os.open(path, os.O_RDONLY)
        try:
            there = os.fstat(file).st_size  # a length beyond it may be more than memory
            inside = min(offset, length) >= 0 and offset + length <= there
            data = os.pread(file, length, offset) if inside else b""
        finally:
            os.close(file)
    if len(data) != length or offset < 0:
        raise ValueError("it is cut off")
    return data


def upload(folder: Path, url: str, names: Iterable[str]) -> None:
    """Copy files of a folder to a URL's, one after the other; large ones are then deleted here.

    Raises: OutputError.
    """
    with _writing(url) as (system, root):
        for name in names:
            system.makedirs(f"{root}/{name}".rpartition("/")[0], exist_ok=True)
            system.put_file(str(folder / name), f"{root}/{name}")
    for name in names:
        if name.endswith(LARGE):
            (folder / name).unlink()


def delete(url: str, names: Iterable[str]) -> None:
    """Delete files of a URL's folder, if they are there. Raises: OutputError."""
    with _writing(url) as (system, root):
        for name in names:
            if system.exists(f"{root}/{name}"):
                system.rm_file(f"{root}/{name}")


def names_in(url: str, folder: str) -> list[str]:
    """The files of a URL's subfolder. Raises: InputError."""
    with _reading(url) as (system, root):
        return [path.rpartition("/")[2] for path in system.find(f"{root}/{folder}")]


def _stamp(info: dict[str, Any]) -> list[Any]:
    """What changes where a file does."""
    times = ("ETag", "etag", "mtime", "LastModified", "created")
    return [info.get("size"), str(next((info[key] for key in times if key in info), ""))]


@contextmanager
def _reading(url: str) -> Iterator[tuple[Any, str]]:
    """(file system, path of the URL in it). Raises: InputError."""
    with _opened(url, InputError, "read", "read it") as opened:
        yield opened


@contextmanager
def _writing(url: str) -> Iterator[tuple[Any, str]]:
    """(file system, path of the URL in it). Raises: OutputError."""
    with _opened(url, OutputError, "written", "write to it") as opened, writing(Path(url)):
        yield opened


@contextmanager
def _opened(url: str, kind: type[HandiError], done: str, do: str) -> Iterator[tuple[Any, str]]:
    """(file system, path of the URL in it); whatever fails within is an error of this kind."""
    import fsspec

    try:
        system, root = fsspec.url_to_fs(url, use_listings_cache=False)
        yield system, root.rstrip("/")
    except kind:
        raise
    except ImportError as error:
        raise kind(str(error), where=url, hint="pip install it") from error
    except Exception as error:  # each store has its own
        what = f"cannot be {done} ({type(error).__name__}: {error})"
        raise kind(what, where=url, hint=f"check the address and who may {do}") from error
