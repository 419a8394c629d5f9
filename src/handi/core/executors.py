"""Who works on many pieces: this process, several, or a Ray cluster; the results are the same.

An executor is given `build(number)`, which makes what a worker works with (its models, once), and the pieces
of work. Both must be picklable. Results come as they are done, in any order. A worker that dies is replaced
and its piece begun anew; `lost(piece)` is the result of one on which three have died. Without `lost` the work
itself must see that such a piece comes to an end.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import signal
import sys
import tempfile
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from handi.core.errors import HandiError, InputError
from handi.core.files import lives
from handi.core.reading import read_lines

Piece = TypeVar("Piece")
Result = TypeVar("Result")
Build = Callable[[int], Callable[[Piece], Result]]
Lost = Callable[[Piece], Result]
Kind = Literal["serial", "processes", "ray"]
STORE_BYTES = 256 << 20  # of a local Ray's objects
STARTS = 4  # of a local Ray, before a run gives up
DEATHS = 3  # of workers, before a run gives up at its start, or on one piece later on
FEWER = "use fewer --workers if memory is short"


class Executor(Protocol):
    """How pieces of work are shared out among workers."""

    workers: int

    def run(
        self, build: Build[Piece, Result], pieces: Sequence[Piece], lost: Lost[Piece, Result] | None = None
    ) -> Iterator[Result]:
        """Every piece's result, as it is done. Raises: what a worker raises; HandiError."""
        ...


class Serial:
    """One after the other, in this process."""

    workers = 1

    def run(
        self, build: Build[Piece, Result], pieces: Sequence[Piece], lost: Lost[Piece, Result] | None = None
    ) -> Iterator[Result]:
        """See `Executor.run`."""
        work = build(0)
        for piece in pieces:
            yield work(piece)


HERE = Serial()


# --------------------------------------------------------------------------------------- processes


@dataclass
class _Worker:
    """A process, and what it is at work on."""

    process: Any
    pipe: Connection
    piece: tuple[int, Any] | None = None  # its number and itself
    ready: bool = False  # its models are loaded


class Processes:
    """Several processes of this machine."""

    def __init__(self, workers: int) -> None:
        if workers < 1:
            raise InputError(f"{workers} workers", where="--workers", hint="use 1 or more")
        self.workers = workers

    def run(
        self, build: Build[Piece, Result], pieces: Sequence[Piece], lost: Lost[Piece, Result] | None = None
    ) -> Iterator[Result]:
        """See `Executor.run`."""
        waiting = deque(enumerate(pieces))
        fatal = Counter[int]()  # piece → workers that died on it
        # Fresh processes: a fork of one that has started torch's threads may hang.
        context = multiprocessing.get_context("spawn")
        crew = [_start(context, build, number) for number in range(min(self.workers, len(waiting)))]
        deaths = 0  # one after the other, before a worker was ready
        try:
            while waiting or any(worker.piece is not None for worker in crew):
                for pipe in wait([worker.pipe for worker in crew]):
                    number = next(n for n, worker in enumerate(crew) if worker.pipe is pipe)
                    worker = crew[number]
                    try:
                        kind, value = worker.pipe.recv()
                    except (EOFError, OSError):
                        worker.process.join()
                        if not worker.ready:
                            deaths += 1
                        if deaths >= DEATHS:
                            raise HandiError(
                                f"workers die before their first piece ({_cause(worker.process.exitcode)})",
                                hint=FEWER,
                            ) from None
                        worker.pipe.close()
                        crew[number] = _start(context, build, number)
                        if worker.piece is not None:
                            fatal[worker.piece[0]] += 1
                            if lost is None or fatal[worker.piece[0]] < DEATHS:
                                waiting.appendleft(worker.piece)
                            else:
                                yield lost(worker.piece[1])
                        continue
                    if kind == "error":
                        raise value
                    worker.ready, deaths, worker.piece = True, 0, None
                    if waiting:
                        worker.piece = waiting.popleft()
                        _send(worker, worker.piece[1])
                    if kind == "done":
                        yield value
        finally:
            for worker in crew:
                worker.process.terminate()
            for worker in crew:
                worker.process.join()
                worker.pipe.close()


def _start(context: Any, build: Build[Any, Any], number: int) -> _Worker:
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, build, number), daemon=True)
    process.start()
    theirs.close()  # so that its death closes the pipe
    return _Worker(process, ours)


def _send(worker: _Worker, piece: Any) -> None:
    with suppress(OSError):  # it has died: the next look at its pipe says so
        worker.pipe.send(piece)


def _serve(pipe: Connection, build: Build[Any, Any], number: int) -> None:
    """A worker's life: load the models, then work until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process: it is the parent's
    threading.Thread(target=_follow_parent, daemon=True).start()
    try:
        work = build(number)
        pipe.send(("ready", None))
        while True:
            pipe.send(("done", work(pipe.recv())))
    except EOFError:
        return
    except Exception as error:
        pipe.send(("error", _portable(error)))


def _follow_parent() -> None:
    """End when the parent does: after a kill no worker may continue beside the next run's."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _portable(error: Exception) -> Exception:
    """An error that can be sent to another process: itself, where it can be pickled and made anew."""
    try:
        return pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")


def _cause(code: int | None) -> str:
    if code is not None and code < 0:
        return f"signal {-code}, {signal.Signals(-code).name}"
    return f"exit code {code}"


# --------------------------------------------------------------------------------------------- ray


class Ray:
    """Actors of a Ray cluster, through Ray Data; a local one is started where no address is given.

    Every machine must see what is read and the folder of the results under the same paths. gpus: share of a
    GPU that a worker is given, so that 0.25 puts four on each; 0: they compute on the CPU.
    """

    def __init__(self, workers: int, *, address: str | None = None, gpus: float = 0.0) -> None:
        if workers < 1:
            raise InputError(f"{workers} workers", where="--workers", hint="use 1 or more")
        try:
            import ray.data  # noqa: F401
        except ImportError as error:
            raise InputError(
                "Ray is not installed", where="--executor ray", hint="pip install 'handi[ray]'"
            ) from error
        self.workers, self.address, self.gpus = workers, address, gpus

    def run(
        self, build: Build[Piece, Result], pieces: Sequence[Piece], lost: Lost[Piece, Result] | None = None
    ) -> Iterator[Result]:
        """See `Executor.run`."""
        import ray

        logging.getLogger("ray.data").setLevel(logging.ERROR)
        begun = not ray.is_initialized()
        if begun:
            self.start()
        try:
            yield from self._stream(build, pieces, lost)
        finally:
            if begun:
                ray.shutdown()

    def start(self) -> None:
        """Join the cluster, or start one of this machine. Raises: InputError."""
        import ray

        local = {} if self.address else self._local()
        for attempt in range(STARTS):
            try:
                # "local", not None: that would join what RAY_ADDRESS names, or any cluster that runs here.
                address = self.address or "local"
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **local)
                return
            except Exception as error:  # bare Exceptions among them
                ray.shutdown()
                # On a busy machine a local Ray can take longer to start than the half minute it gives itself.
                if self.address or attempt == STARTS - 1:
                    what = f"cannot be reached ({error})" if self.address else f"Ray cannot start ({error})"
                    raise InputError(what, where=self.address, hint="see `ray status`") from error

    def _local(self) -> dict[str, Any]:
        """How Ray is started on this machine: what it passes around is small, and its workers import what
        this process can."""
        return {
            "num_cpus": max(self.workers, os.cpu_count() or 1),
            "object_store_memory": STORE_BYTES,
            "include_dashboard": False,
            "runtime_env": {"env_vars": {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}},
        }

    def _stream(
        self, build: Build[Piece, Result], pieces: Sequence[Piece], lost: Lost[Piece, Result] | None
    ) -> Iterator[Result]:
        import ray

        ray.data.DataContext.get_current().enable_progress_bars = False
        # A block per piece, so that pieces are what is shared out, and begun anew where an actor dies.
        rows = [{"number": n, "piece": pickle.dumps(piece)} for n, piece in enumerate(pieces)]
        actor: Any = _Actor  # Ray takes a class for what its objects do
        run = os.urandom(8).hex()
        done = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            actor,
            fn_constructor_args=(pickle.dumps(build), run, lost is not None),
            compute=ray.data.ActorPoolStrategy(size=min(self.workers, len(rows))),
            num_cpus=1,
            num_gpus=self.gpus or None,
        )
        try:
            for row in done.iter_rows():
                kind, value = pickle.loads(row["result"])
                if kind == "error":
                    raise value
                yield lost(pieces[row["number"]]) if kind == "lost" and lost is not None else value
        finally:
            _log(run).unlink(missing_ok=True)  # of this machine; others clear their temporary files


class _Actor:
    """A worker: its models are loaded once, in its own process."""

    def __init__(self, build: bytes, run: str, gives_up: bool) -> None:
        self.build, self.log, self.gives_up = build, _log(run), gives_up
        self.work: Callable[[Any], Any] | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        try:
            if self.work is None:  # here, where an error can be reported: Ray restarts failed actors for ever
                self.work = load_work(self.build, self.log)
            result = self._result(row)
        except Exception as error:
            result = ("error", _portable(error))
        return {"number": row["number"], "result": pickle.dumps(result)}

    def _result(self, row: dict[str, Any]) -> tuple[str, Any]:
        assert self.work is not None
        if not self.gives_up:
            return "done", self.work(pickle.loads(row["piece"]))
        what = f"piece {row['number']}"
        if deaths(self.log, what) >= DEATHS:
            return "lost", None
        with noted(self.log, what):
            return "done", self.work(pickle.loads(row["piece"]))


def _log(run: str) -> Path:
    """Where the workers of a run on one machine write down what they begin, for those that follow them."""
    return Path(tempfile.gettempdir()) / f"handi-{run}.begun"


@contextmanager
def noted(log: Path, what: str) -> Iterator[None]:
    """Write down that this process begins something, and that it has come to its end."""
    try:
        with log.open("a") as file:
            file.write(f"begin {what} {os.getpid()}\n")
        yield
    finally:
        with log.open("a") as file:
            file.write(f"end {what} {os.getpid()}\n")


def deaths(log: Path, what: str) -> int:
    """How many processes of this machine have begun something and died before its end."""
    lines = read_lines(log) if log.exists() else []
    begun, ended = (
        {line.rpartition(" ")[2] for line in lines if line.startswith(f"{word} {what} ")}
        for word in ("begin", "end")
    )
    return sum(not lives(int(process)) for process in begun - ended)


def load_work(build: bytes, log: Path) -> Callable[[Any], Any]:
    """Models, unless workers have died on loading them. Raises: HandiError then, and what a model raises.

    Ray itself would replace such workers without end.
    """
    if deaths(log, "load") >= DEATHS:
        raise HandiError("workers die before their first piece", hint=FEWER)
    with noted(log, "load"):
        return pickle.loads(build)(0)


def executor(kind: str, workers: int, *, address: str | None = None, gpus: float = 0.0) -> Executor:
    """`serial`, `processes` or `ray`. Raises: InputError."""
    if kind == "serial":
        return Serial()
    if kind == "processes":
        return Processes(workers)
    if kind == "ray":
        return Ray(workers, address=address, gpus=gpus)
    raise InputError(f"there is no executor {kind!r}", hint="use serial, processes or ray")
