"""Writing files so that a reader sees a whole one or none, whatever kills the writer.

What is being written has another name until it is whole: `.unfinished-HOST-PID-…`, beside its place. The name
says which process is at work on it, so that `sweep` can remove what dead ones have left.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from handi.core.errors import OutputError

UNFINISHED = ".unfinished-"
PREVIOUS = ".previous-"  # a folder that `replace_folder` is about to replace
_OWNER = re.compile(re.escape(UNFINISHED) + r"([0-9a-f]{8})-(\d+)-")
HOST = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]

_HINTS = {
    errno.ENOSPC: "free some space, or choose a folder on another disk",
    errno.EDQUOT: "free some space, or choose a folder on another disk",
    errno.EFBIG: "free some space, or choose a folder on another disk",
    errno.EACCES: "choose a folder that you may write to",
    errno.EPERM: "choose a folder that you may write to",
    errno.EROFS: "choose a folder that you may write to",
    errno.EEXIST: "a file is in the way: choose another folder",
    errno.ENOTDIR: "a file is in the way: choose another folder",
    errno.ENAMETOOLONG: "choose a shorter name",
}


def cache_folder(name: str) -> Path:
    """Where things are kept between runs: `HANDI_CACHE`, else `XDG_CACHE_HOME`/handi, else ~/.cache/handi."""
    if named := os.environ.get("HANDI_CACHE"):
        return Path(named).expanduser() / name
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "handi" / name


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turn the operating system's failures while writing `path` into an OutputError with a hint."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        failure = OutputError(
            f"cannot be written ({reason})",
            where=path,
            hint=_HINTS.get(error.errno or 0, "choose another folder"),
        )
        failure.everywhere = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
        raise failure from error


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place when the block ends well, else vanishes.

    Raises: OutputError for whatever keeps the file from being written.
    """
    path = Path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        name = f"-{path.stem[:40]}{path.suffix}"
        handle, name = tempfile.mkstemp(prefix=_prefix(), suffix=name, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            os.chmod(temporary, 0o666 & ~umask())  # mkstemp's 0600 is not what a result should have
            os.replace(temporary, path)
        finally:
            with suppress(FileNotFoundError):
                temporary.unlink()


def write_text(path: str | Path, text: str, *, errors: str = "strict") -> None:
    """Write a UTF-8 text, whole or not at all; `errors` as of `str.encode`. Raises: OutputError."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors=errors)


def write_json(path: str | Path, content: Any, **how: Any) -> None:
    """Write JSON, whole or not at all; `how` goes to `json.dumps`. Raises: OutputError."""
    write_text(path, json.dumps(content, **how) + "\n")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file. Raises: OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def scratch_folder(parent: str | Path) -> Iterator[Path]:
    """A new folder in `parent` that is gone afterwards; what dead processes left there goes first.

    Raises: OutputError.
    """
    parent = Path(parent)
    with writing(parent):
        parent.mkdir(parents=True, exist_ok=True)
        sweep(parent)
        scratch = Path(tempfile.mkdtemp(prefix=_prefix(), dir=parent))
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def staged(folder: str | Path, *, last: str, owned: Sequence[str] = ()) -> Iterator[Path]:
    """A scratch folder whose entries move into `folder` when the block ends well, else vanish.

    The entry called `last` goes first and comes last: where it lies, all the others do, and are of its kind.
    What the folder held under the same names is replaced, and what it held of `owned`, the names of an
    earlier result of another shape, is removed; what else it holds stays. Raises: OutputError.
    """
    folder = Path(folder)
    made = _missing_parents(folder)
    done = False
    try:
        with scratch_folder(folder) as scratch, writing(folder):
            yield scratch
            entries = sorted(scratch.iterdir(), key=lambda entry: (entry.name == last, entry.name))
            for name in (last, *owned, *(entry.name for entry in entries)):
                remove(folder / name)
            for entry in entries:
                os.replace(entry, folder / entry.name)
        done = True
    finally:
        if not done:
            for parent in made:  # innermost first; only those that are empty go
                with suppress(OSError):
                    parent.rmdir()


def replace_folder(new: Path, folder: Path) -> None:
    """Put a whole folder in the place of another one. Killed at any moment it leaves the one or the other, as
    `present` finds them. Raises: OSError."""
    aside = folder.with_name(f"{PREVIOUS}{folder.name}")
    for last_try in (False, True):
        if folder.exists():
            _discard(aside)  # of a process that was killed before it could remove it
            os.rename(folder, aside)
        try:
            os.rename(new, folder)
            break
        except OSError:  # a reader has just put the old one back
            if last_try:
                raise
    _discard(aside)


def _discard(folder: Path) -> None:
    """Delete a folder; killed midway, never half of it stays under its name."""
    if folder.exists():
        scratch = unfinished_folder(folder.parent)
        os.rename(folder, scratch / folder.name)
        remove(scratch)


def present(folder: Path) -> Path:
    """The folder, put back in its place if a process was killed while it replaced it."""
    aside = folder.with_name(f"{PREVIOUS}{folder.name}")
    if folder.name and not folder.exists() and aside.is_dir():
        try:
            os.rename(aside, folder)
        except OSError:  # not ours to write to
            return aside
    return folder


def sweep(folder: str | Path, *, depth: int = 0) -> None:
    """Remove what processes that no longer live left unfinished in `folder`, and `depth` levels below it."""
    with suppress(OSError):
        for entry in list(os.scandir(folder)):
            if entry.name.startswith(UNFINISHED):
                if _is_left(entry.name):
                    with suppress(OSError):
                        remove(Path(entry.path))
            elif depth and not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
                sweep(entry.path, depth=depth - 1)


def remove(path: Path) -> None:
    """Delete a file, a link or a whole folder, if it is there. Raises: OSError."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def lives(pid: int) -> bool:
    """Whether a process of this machine is there."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        return True
    return True


def unfinished_folder(parent: Path) -> Path:
    """A new folder in `parent` that `sweep` knows, for what will be renamed. Raises: OSError."""
    return Path(tempfile.mkdtemp(prefix=_prefix(), dir=parent))


def umask() -> int:
    """The permissions that new files do not get."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _prefix() -> str:
    return f"{UNFINISHED}{HOST}-{os.getpid()}-"


def _is_left(name: str) -> bool:
    """Whether a name is that of a dead process of this machine; of other machines nothing is known."""
    owner = _OWNER.match(name)
    return owner is not None and owner[1] == HOST and not lives(int(owner[2]))


def _missing_parents(folder: Path) -> list[Path]:
    return [parent for parent in (folder, *folder.parents) if not parent.exists()]
