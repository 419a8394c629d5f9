"""Work for executors that needs no torch, so that its processes start at once."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Callable
from pathlib import Path

from handi.core.errors import OutputError


class Sent:
    """Two workers in this process that are given everything as other processes are: pickled."""

    workers = 2

    def run(self, build, pieces, lost=None):
        works = [pickle.loads(pickle.dumps(build))(number) for number in range(self.workers)]
        for number, piece in enumerate(pieces):
            result = works[number % 2](pickle.loads(pickle.dumps(piece)))
            yield pickle.loads(pickle.dumps(result))


def doubles(number: int) -> Callable[[int], tuple[int, int]]:
    """Twice the piece, and the process that did it. 13 fails, as a full disk does."""

    def work(piece: int) -> tuple[int, int]:
        if piece == 13:
            raise OutputError("cannot be written", where=Path("shard.tar"), hint="free some space")
        return 2 * piece, os.getpid()

    return work


def dies(number: int) -> Callable[[tuple[Path, int]], int]:
    """A worker that is killed by the first two pieces it is given that are 7; a file counts them."""

    def work(piece: tuple[Path, int]) -> int:
        path, value = piece
        if value == 7 and (not path.exists() or path.stat().st_size < 2):
            with path.open("a") as file:
                file.write("x")
            os.kill(os.getpid(), signal.SIGKILL)
        return value

    return work


def deadly(number: int) -> Callable[[int], int]:
    """Work on which every worker dies that is given a 3."""

    def work(piece: int) -> int:
        if piece == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return piece

    return work


def stillborn(number: int) -> Callable[[int], int]:
    """Models on which every worker dies while it loads them."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def unloadable(number: int) -> Callable[[int], int]:
    """Models that cannot be loaded."""
    raise OutputError("cannot be loaded", where=Path("model"))


def unpicklable(number: int) -> Callable[[int], int]:
    """Work whose error cannot be made anew in another process."""

    class OddError(Exception):
        def __init__(self, one: int, two: int) -> None:
            super().__init__("odd")

    def work(piece: int) -> int:
        raise OddError(1, 2)

    return work
