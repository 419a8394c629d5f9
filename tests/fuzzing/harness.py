"""One case: a command in this process, in a folder of its own, and what must hold afterwards."""

from __future__ import annotations

import contextlib
import io
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fuzzing.mutations import TEXTS

SECONDS = 60  # that a case may take before it counts as hanging; whole ones take a tenth of a second
MEMORY = 3 << 29  # bytes of address space beyond what the process has when a case begins
LINE = 2000  # characters of an error line: longer ones quote what they should name
WRITES = {
    "os.mkdir",
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.symlink",
    "os.link",
    "os.truncate",
    "os.chmod",
}
FAILED = ("error: ", "not scored: ", "not shown: ")  # how lines about a failure or a failed item begin
# In the line of an exception that is not a HandiError, of the command or of one of its items (`errors.reason`), or
# of one HandiError in another's brackets, which is then blamed on two files.
UNEXPECTED = re.compile(
    r"\(unexpected: |there is not enough memory|^[^(]*: ([A-Z]\w*(Error|Exception|Warning)|StopIteration): |\((Input|Model|Output)Error: "
)


@dataclass
class Case:
    """A command line, and what is particular about it."""

    argv: list[Any]
    inputs: int = 1  # damaged items that it reads: a batch of four counts as four
    names: tuple[str, ...] = ()  # words that an error line may name the culprit by, beside paths and options
    check: Callable[[Path], list[str]] = lambda out: []  # what is wrong with the output folder
    grows: tuple[str, ...] = ()  # names of entries that the command may make among its inputs


@dataclass
class Box:
    """The folder of a case: `files` is what the command reads, `out` where it writes."""

    folder: Path
    rng: random.Random
    files: Path = field(init=False)
    out: Path = field(init=False)

    def __post_init__(self) -> None:
        self.files, self.out = self.folder / "files", self.folder / "out"
        self.files.mkdir(parents=True)


Surface = Callable[[Box], Case]


@dataclass
class Outcome:
    """What came of a case."""

    problems: list[str]
    code: int
    inputs: int
    seconds: float  # of the processor
    said: str

    @property
    def done(self) -> bool:
        return self.code == 0


class Hang(BaseException):
    """The case took too long; no `except Exception` may swallow it."""


def run_case(surface: Surface, name: str, number: int, home: Path) -> Outcome:
    """Build, run and check case `number` of a surface in a folder below `home`, which is removed."""
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-{number}-", dir=home)).resolve()
    begin = time.process_time()
    try:
        box = Box(folder, random.Random(f"{name} {number}"))
        case = surface(box)
        before = _listing(box.files)
        code, said, strays = _run(case, box)
        problems = _spoken(case, box, code, said)
        problems += [f"wrote outside the output folder: {path}" for path in sorted(strays)]
        after = {path: what for path, what in _listing(box.files).items() if path.parts[0] not in case.grows}
        changed = {
            p for p in {*before, *after} if before.get(p) != after.get(p) and p.parts[0] not in case.grows
        }
        problems += [f"its inputs were changed: {path}" for path in sorted(changed)]
        if others := {path.name for path in folder.iterdir()} - {"files", "out", "tmp", "out.html"}:
            problems.append(f"wrote beside the output folder: {sorted(others)}")
        problems += [f"left unfinished work: {path}" for path in _leftovers(box.out)]
        problems += case.check(box.out)
        return Outcome(problems, code, case.inputs, time.process_time() - begin, said)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# ------------------------------------------------------------------------------------------ running


def _run(case: Case, box: Box) -> tuple[int, str, set[str]]:
    """(exit code, what was said on stderr, paths that were written where nothing may be)."""
    from handi.commands import app as cli

    stderr, temporary, there = io.StringIO(), box.folder / "tmp", os.getcwd()
    temporary.mkdir()
    sys.argv = ["handi", *map(str, case.argv)]
    try:
        with (
            contextlib.redirect_stderr(stderr),
            contextlib.redirect_stdout(io.StringIO()),
            _limits(),
            _watched(box, case) as strays,
            _temporary_files_in(temporary),
        ):
            os.chdir(box.files)
            try:
                cli.main()
                code = -1  # main always exits
            except SystemExit as stop:
                code = int(stop.code or 0)
            except Hang:
                code = -2
            except BaseException as error:
                code = -3
                stderr.write(f"{type(error).__name__} came out of main: {error}")
    finally:
        os.chdir(there)
        shutil.rmtree(temporary, ignore_errors=True)
    return code, stderr.getvalue(), strays


@contextlib.contextmanager
def _limits() -> Iterator[None]:
    """Time and memory that a case may take."""

    def hang(*_: object) -> None:
        raise Hang

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = signal.signal(signal.SIGALRM, hang)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    """The system's folder for temporary files lies in the case's own."""
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


_watch: tuple[tuple[str, ...], set[str]] | None = (
    None  # (paths at and below which may be written, others that were)
)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _watch is None:
        return
    if event == "open":
        path, mode, flags = arguments
        if not isinstance(path, (str, bytes, os.PathLike)):
            return
        writes = bool(set(mode) & set("wax+")) if isinstance(mode, str) else flags & (os.O_WRONLY | os.O_RDWR)
        paths: tuple[Any, ...] = (path,) if writes else ()
    elif event in WRITES:
        if event in ("os.remove", "os.rmdir") and arguments[1] != -1:
            return  # below a folder that is being removed
        paths = arguments[:2] if event in ("os.rename", "os.link") else arguments[:1]
    else:
        return
    allowed, strays = _watch
    for path in paths:
        if isinstance(path, (str, bytes, os.PathLike)):
            full = os.path.realpath(os.fsdecode(path))
            if full not in allowed and not full.startswith(tuple(f"{path}/" for path in allowed)):
                strays.add(full)


sys.addaudithook(_audit)


@contextlib.contextmanager
def _watched(box: Box, case: Case) -> Iterator[set[str]]:
    """Every path that Python opens for writing, makes, renames or removes outside the case's output."""
    global _watch
    grown = tuple(str(box.files / name) for name in case.grows)
    strays: set[str] = set()
    _watch = ((str(box.out), str(box.folder / "tmp"), "/dev/null", "/proc", *grown, *CACHES), strays)
    try:
        yield strays
    finally:
        _watch = None


CACHES = tuple(  # of libraries, on their first use
    str(path) for path in (Path.home() / ".cache", Path(sys.prefix).resolve(), Path("/dev/shm"))
)


# ----------------------------------------------------------------------------------------- checking


def _listing(folder: Path) -> dict[Path, tuple[int, int]]:
    """Size and time of every file below a folder."""
    found = {}
    for path in folder.rglob("*"):
        stat = path.lstat()
        found[path.relative_to(folder)] = (stat.st_size, stat.st_mtime_ns) if path.is_file() else (0, 0)
    return found


def _leftovers(out: Path) -> list[Path]:
    """Hidden files of unfinished work."""
    return [path for path in out.rglob(".*") if path.name not in KEPT] if out.is_dir() else []


KEPT = {".unfinished.npz", ".packed"}


def _spoken(case: Case, box: Box, code: int, said: str) -> list[str]:
    """What is wrong with the exit code and the lines on stderr."""
    if code == -2:
        return [f"no end after {SECONDS} s"]
    if code not in (0, 1, 2):
        return [f"exit code {code}: {said[-300:]}"]
    problems = [f"not a HandiError: {line}" for line in _lines(said) if UNEXPECTED.search(line)]
    if "Traceback (most recent call last)" in said:
        problems.append(f"a traceback was printed: {said[-300:]}")
    errors = [line for line in _lines(said) if line.startswith(FAILED)]
    if code == 1 and not errors:
        problems.append(f"failed without an error line: {said[-300:]}")
    for line in errors:
        if len(line) > LINE:
            problems.append(f"an error line of {len(line)} characters: {line[:200]}")
        if not _names(line, case, box) and not UNEXPECTED.search(line):
            problems.append(f"names no file and no argument: {line[:300]}")
    return problems


def _lines(said: str) -> list[str]:
    return said.split("\n")


def _names(line: str, case: Case, box: Box) -> bool:
    """Whether an error line names a file or an argument."""
    words = {str(box.folder), *case.names, *(path.name for path in box.files.rglob("*"))}
    begins = tuple(f"{start}{text[:20]}" for start in FAILED for text in (*TEXTS, "{'a'", "[[") if text)
    return any(word in line for word in words if word) or line.startswith(begins) or "--" in line
