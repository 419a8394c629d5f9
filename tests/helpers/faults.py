"""A process that is killed, played in this one: from some change of the file system on, nothing happens."""

from __future__ import annotations

import builtins
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from handi.core import files

NO_PROCESS = 2**22 + 1  # above the highest number that Linux gives


class Killed(BaseException):
    """As final as SIGKILL: nothing catches it, and what is done on the way out comes to nothing."""


class Faults:
    """Counts the changes of the file system below a folder, and ends the process before number `at`."""

    def __init__(self, root: Path, at: int | None = None) -> None:
        self.root, self.at, self.count = str(root), at, 0

    def change(self, path: object, *, by_handle: bool) -> None:
        if not by_handle and not (isinstance(path, (str, os.PathLike)) and str(path).startswith(self.root)):
            return
        if self.at is not None and self.count >= self.at:
            raise Killed
        self.count += 1

    @contextmanager
    def active(self) -> Iterator[Faults]:
        with mock.patch.multiple(os, **{name: self._changing(name) for name in CHANGES}):
            opened = mock.patch.multiple(builtins, open=self._opening(builtins.open))
            also = mock.patch.multiple(io, open=self._opening(io.open))
            with opened, also, mock.patch.object(os, "open", self._os_open(os.open)):
                yield self

    def _changing(self, name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def change(path: Any, *arguments: Any, **options: Any) -> Any:
            self.change(path, by_handle=options.get("dir_fd") is not None)
            return real(path, *arguments, **options)

        return change

    def _opening(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def opening(path: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            if set(mode) & set("wax+"):
                self.change(path, by_handle=False)
            return real(path, mode, *arguments, **options)

        return opening

    def _os_open(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def opening(path: Any, flags: int, *arguments: Any, **options: Any) -> Any:
            if flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR):
                self.change(path, by_handle=False)
            return real(path, flags, *arguments, **options)

        return opening


CHANGES = ("rename", "replace", "unlink", "remove", "rmdir", "mkdir")


def changes(root: Path, work: Callable[[], object]) -> int:
    """How many changes below a folder some work makes."""
    with Faults(root).active() as faults:
        work()
    return faults.count


def killed(root: Path, work: Callable[[], object], at: int) -> bool:
    """Do some work that is killed before its change number `at`, if it makes so many; whether it was.

    What it leaves is a dead process's, as the next one must see it.
    """
    with mock.patch.object(os, "getpid", return_value=NO_PROCESS), Faults(root, at).active():
        try:
            work()
        except Killed:
            return True
    return False


def left_behind(folder: Path) -> Path:
    """A name in a folder that a process which has died gave to what it was writing."""
    return folder / f"{files.UNFINISHED}{files.HOST}-{NO_PROCESS}-abcdefgh"


def tree(folder: Path) -> dict[str, bytes | None]:
    """Every name below a folder, hidden ones too, with the bytes of files."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }
