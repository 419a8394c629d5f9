"""A folder of prepared clips for one run alone, with settings that all of its clips share."""

from __future__ import annotations

import errno
import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from handi.core.errors import InputError
from handi.core.files import UNFINISHED, lives, remove, sweep, write_json, writing
from handi.core.reading import read_json
from handi.core.stores import store_of
from handi.data import shards

WORK = ".work"  # what a run needs while it runs
LOCK, HOLDER = "lock", "holder"
# What other parts of handi put beside the shards.
DESCRIPTIONS, REPORT, AREAS = "descriptions", "report.html", "areas"
FILES = (shards.SETTINGS, shards.PREPARED, shards.INDEX, shards.LEDGER, shards.PRIOR, shards.STATISTICS)
OURS = {*FILES, shards.SHARDS, DESCRIPTIONS, REPORT, AREAS}
HELD = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES}  # another process has the lock
UNKNOWN = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}  # there are no locks


@contextmanager
def claimed(out: Path, settings: dict[str, Any]) -> Iterator[None]:
    """The folder for this run alone, with these settings; what a killed run left is cleared away.

    Settings may still be changed as long as no clip is kept. Raises: InputError for a folder of other things,
    of clips of other settings, or that another run is at work in; OutputError.
    """
    if out.exists() and not out.is_dir():
        raise InputError("is a file, not a folder", where=out, hint="choose another --out")
    with writing(out):
        if out.exists() and any(e.name not in OURS and not e.name.startswith(".") for e in out.iterdir()):
            raise InputError("holds other files", where=out, hint="choose an empty --out")
    with locked(out, "handi prepare"):
        path = out / shards.SETTINGS
        # Of a store the tars are not here.
        kept = "*.jsonl" if store_of(out) else "*.tar"
        if path.exists() and any((out / shards.SHARDS).glob(kept)):
            _check_settings(path, settings)
        write_json(path, settings, indent=1, sort_keys=True)
        with writing(out):
            (out / shards.SHARDS).mkdir(exist_ok=True)
            for entry in _half_written(out):
                remove(entry)
            sweep(out / DESCRIPTIONS, depth=1)
        yield


def _half_written(out: Path) -> Iterator[Path]:
    """What a run that was killed has left."""
    yield from (out / shards.SHARDS).glob(".*")
    yield from (out / WORK).glob("*.trial")
    yield from out.glob(f"{UNFINISHED}*")


def _check_settings(path: Path, wanted: dict[str, Any]) -> None:
    """Raises: InputError where the clips that are there were prepared otherwise."""
    try:
        found = read_json(path)
        if not isinstance(found, dict):
            raise ValueError("not an object")
    except (OSError, ValueError) as error:
        # A shard knows its settings by its key: those of this run stay, others are made anew.
        hint = "delete it: shards of the same settings are kept, others made anew"
        raise InputError(f"is damaged ({error})", where=path, hint=hint) from error
    wanted = json.loads(json.dumps(wanted))
    other = sorted(key for key in {*found, *wanted} if found.get(key) != wanted.get(key))
    if other:
        usual = "default"  # of a setting that is written down only where it is another
        what = ", ".join(f"{key} {found.get(key, usual)}, not {wanted.get(key, usual)}" for key in other)
        raise InputError(
            f"holds clips of other settings: {what}", where=path.parent, hint="choose another --out"
        )


# -------------------------------------------------------------------------------------------- lock


@contextmanager
def locked(out: Path, command: str) -> Iterator[None]:
    """One run of a command at a time in a folder; one that dies lets go. Raises: InputError, OutputError."""
    with writing(out):
        file = _lock(out, command)
    try:
        yield
    finally:
        # Deleted while it is held: who has opened it by now sees that the name is gone, and begins anew.
        for entry in (*(out / WORK).glob("*.trial"), out / WORK / HOLDER, out / WORK / LOCK):
            with suppress(OSError):
                entry.unlink()
        os.close(file)
        with suppress(OSError):
            (out / WORK).rmdir()


def _lock(out: Path, command: str) -> int:
    """An open file by which the folder is this process's until it ends or closes it. Raises: InputError."""
    path = out / WORK / LOCK
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # of a run that ended, and took the folder away, just now
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                if not _take(file, out, command):
                    _hold(out, command)
                    return file
                if os.path.samestat(os.fstat(file), path.stat()):
                    os.ftruncate(file, 0)
                    os.pwrite(file, _name().encode(), 0)
                    return file
            except BaseException:
                os.close(file)
                raise
            os.close(file)


def _take(file: int, out: Path, command: str) -> bool:
    """Lock the file; whether its file system knows locks. Raises: InputError where another has it."""
    try:
        import fcntl
    except ImportError:  # Windows has no such locks: there it is for the user to see to
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in HELD:
            raise _busy(out, command, os.pread(file, 200, 0).decode(errors="replace")) from None
        if error.errno not in UNKNOWN:
            raise
        return False
    return True


def _hold(out: Path, command: str) -> None:
    """Where the file system knows no locks: a file that only one process can make. Raises: InputError."""
    path = out / WORK / HOLDER
    while True:
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(_name())
            return
        except FileExistsError:
            holder = path.read_bytes().decode(errors="replace")
        if not _is_dead(holder):
            raise _busy(out, command, holder, f", or delete {path} if it has died") from None
        path.unlink(missing_ok=True)


def _name() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _is_dead(holder: str) -> bool:
    """Whether a process of this machine has ended; of other machines nothing is known."""
    match = re.fullmatch(r"process (\d+) on (.+)", holder)
    if match and match[2] == socket.gethostname():
        return not lives(int(match[1]))
    return False


def _busy(out: Path, command: str, holder: str, hint: str = "") -> InputError:
    who = f" ({holder})" if holder else ""
    what = f"another {command} is at work here{who}"
    return InputError(what, where=out, hint=f"wait for it, stop it{hint or ', or choose another --out'}")
