"""Writing files so that a reader sees a whole one or none."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from handi.errors import OutputError

_MENDS = {
    errno.ENOSPC: "free some space, or choose a folder on another disk",
    errno.EDQUOT: "free some space, or choose a folder on another disk",
    errno.EFBIG: "free some space, or choose a folder on another disk",
    errno.EACCES: "choose a folder that you may write to",
    errno.EPERM: "choose a folder that you may write to",
    errno.EROFS: "choose a folder that you may write to",
    errno.EEXIST: "a file is in the way: choose another folder",
    errno.ENOTDIR: "a file is in the way: choose another folder",
}


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turn the operating system's failures while writing `path` into an OutputError with the mend."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise OutputError(
            f"cannot be written ({reason})",
            where=path,
            mend=_MENDS.get(error.errno or 0, "choose another folder"),
        ) from error


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place when the block ends well, else vanishes.

    Raises: OutputError for whatever keeps the file from being written.
    """
    path = Path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            os.chmod(temporary, 0o666 & ~_umask())  # mkstemp's 0600 is not what a result should have
            os.replace(temporary, path)
        finally:
            with suppress(FileNotFoundError):
                temporary.unlink()


@contextmanager
def staged(folder: str | Path, *, last: str) -> Iterator[Path]:
    """A scratch folder whose entries move into `folder` when the block ends well, else vanish.

    The entry called `last` moves last: where it lies, all the others do. What the folder held under the
    same names is replaced; what else it holds stays. Raises: OutputError.
    """
    folder = Path(folder)
    made = _missing_parents(folder)
    done = False
    with writing(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=folder) as name:
                scratch = Path(name)
                yield scratch
                for entry in sorted(scratch.iterdir(), key=lambda entry: (entry.name == last, entry.name)):
                    target = folder / entry.name
                    if target.is_dir():
                        shutil.rmtree(target)
                    os.replace(entry, target)
            done = True
        finally:
            if not done:
                for parent in made:  # innermost first; only those that are empty go
                    with suppress(OSError):
                        parent.rmdir()


def _missing_parents(folder: Path) -> list[Path]:
    return [parent for parent in (folder, *folder.parents) if not parent.exists()]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
