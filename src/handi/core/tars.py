"""Files inside a tar, read where they lie: the path of one is the tar's and its name in it."""

from __future__ import annotations

import io
import tarfile
from functools import lru_cache
from pathlib import Path

from handi.core.errors import InputError


class Window(io.RawIOBase):
    """Some bytes of a file, as a file that can be read and searched; closing it closes the whole."""

    def __init__(self, path: Path, start: int, size: int) -> None:
        self._file, self._start, self._size, self._at = path.open("rb"), start, size, 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place in the window; gives it."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill a buffer as far as the window goes; gives the number of bytes."""
        self._file.seek(self._start + self._at)
        data = self._file.read(max(0, min(len(buffer), self._size - self._at)))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


def tar_of(path: Path) -> Path | None:
    """The tar that a path leads into; None for a path outside of tars."""
    return next((parent for parent in path.parents if parent.suffix == ".tar" and parent.is_file()), None)


def open_member(path: Path) -> io.BufferedReader:
    """The file that lies in a tar under the rest of the path. Raises: InputError."""
    tar = tar_of(path)
    if tar is None:
        raise InputError("no such file", where=path)
    stat = tar.stat()
    places = _places(tar, stat.st_size, stat.st_mtime_ns)
    name = path.relative_to(tar).as_posix()
    if name not in places:
        raise InputError(f"holds no {name}", where=tar)
    return io.BufferedReader(Window(tar, *places[name]))


@lru_cache(maxsize=64)
def _places(tar: Path, size: int, changed: int) -> dict[str, tuple[int, int]]:
    """Where the files of a tar begin, and their bytes, by name."""
    try:
        with tarfile.open(tar, "r:") as archive:
            return {
                Path(member.name).as_posix(): (member.offset_data, member.size)
                for member in archive
                if member.isfile()
            }
    except tarfile.TarError as error:
        raise InputError(f"is damaged, compressed or not a tar ({error})", where=tar) from error
