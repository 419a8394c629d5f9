"""Many requests into a folder each, by any number of workers: it can be stopped, and resumes.

OUT/ID/             a clip's files, as `generation.run` writes them
OUT/ledger.jsonl    a line for each request: its id, "made" or "failed" and why, and the seconds it took
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from handi.core.device import worker_device
from handi.core.errors import HandiError, InputError, reason
from handi.core.executors import HERE, Executor, Serial
from handi.core.files import sweep
from handi.core.ledger import LEDGER, Ledger, Line
from handi.core.names import place_in
from handi.core.progress import Progress
from handi.data.enrich import Description
from handi.generation.mini_check import warn
from handi.generation.record import is_finished
from handi.generation.requests import ClipRequest, GenerationSettings
from handi.generation.run import Runner, describe, of_request, require

MADE, FAILED = "made", "failed"
DIES = "the workers that make it die; use fewer --workers if memory is short"


@dataclass(frozen=True)
class Group:
    """Requests that are generated together, and the enriched prompts of those that have one, by id."""

    requests: list[ClipRequest]
    descriptions: dict[str, Description]


@dataclass(frozen=True)
class ClipMaker:
    """What a worker is made of: a model, loaded once. Picklable."""

    settings: GenerationSettings
    out: Path
    threads: int | None = None  # of a worker among several; None: as many as there are
    bars: bool = True  # of each stage

    def __call__(self, number: int) -> Callable[[Group], list[Line]]:
        if self.threads is not None:
            import torch

            torch.set_num_threads(self.threads)
        runner = Runner(self.settings, worker_device(self.settings.device, number))
        watch = None if self.bars else lambda stage, done, total: None

        def attempt(group: Group) -> list[Line]:
            begin = time.perf_counter()
            folders = [self.out / request.id for request in group.requests]
            try:
                runner.run(group.requests, folders, group.descriptions, watch=watch)
                why = None
            except Exception as error:
                of_request(error, group.requests[0])  # raises where no other request can do better
                why = reason(error)
            seconds = round((time.perf_counter() - begin) / len(folders), 3)
            return [_line(request, why, seconds) for request in group.requests]

        def work(group: Group) -> list[Line]:
            lines = attempt(group)
            if lines[0]["status"] == FAILED and len(lines) > 1:
                # Two shapes of picture, a mask here and none there: one by one.
                return [line for r in group.requests for line in attempt(Group([r], group.descriptions))]
            return lines

        return work


def _line(request: ClipRequest, why: str | None, seconds: float | None = None) -> Line:
    status = MADE if why is None else FAILED
    return {"id": request.id, "status": status, "reason": why, "seconds": seconds}


def _lost(group: Group) -> list[Line]:
    return [_line(request, DIES) for request in group.requests]


def run_batch(
    requests: list[ClipRequest],
    settings: GenerationSettings,
    out: str | Path,
    *,
    batch_size: int,
    say: Callable[[str], None],
    executor: Executor = HERE,
) -> list[HandiError]:
    """Generate each request into out/<id>, `batch_size` at a time; finished ones are skipped.

    A request that fails is reported and the others continue. Gives the failures. Raises: ModelError,
    OutputError and whatever else concerns all of them.
    """
    settings.check()
    out = Path(out)
    sweep(out, depth=1)
    ledger = Ledger(out / LEDGER)
    lines = {line["id"]: line for line in ledger.found()}
    todo: list[ClipRequest] = []
    errors: dict[str, HandiError] = {}
    for request in requests:
        try:
            if is_finished(request, settings, place_in(out, request.id)):
                if lines.get(request.id, {}).get("status") != MADE:
                    lines[request.id] = _line(request, None)
                continue
            request.check()
            todo.append(request)
        except Exception as error:
            errors[request.id] = of_request(error, request)
    if todo:
        warn(todo, settings, say)
        require(settings)  # before a model that enriches is loaded, and asked for an hour
    if finished := len(requests) - len(todo) - len(errors):
        say(f"{finished} of {len(requests)} are finished already")
    descriptions, unsaid = describe(todo, settings)
    errors |= unsaid
    todo = [request for request in todo if request.id not in errors]
    for done in _made(todo, settings, out, batch_size, descriptions, executor):
        for line in done:
            ledger.add(line)
            lines[line["id"]] = line
            if line["status"] == FAILED:
                errors[line["id"]] = InputError(line["reason"], where=f"request {line['id']!r}")
    for request in requests:
        if request.id in errors:
            lines[request.id] = _line(request, errors[request.id].what)
    if requests:
        ledger.settle(lines[request.id] for request in requests)
    return [errors[request.id] for request in requests if request.id in errors]


def _made(
    todo: list[ClipRequest], settings: GenerationSettings, out: Path, batch_size: int,
    descriptions: dict[str, Description], executor: Executor,
) -> Iterator[list[Line]]:  # fmt: skip
    """The lines of the requests, group by group, as they are done."""
    if not todo:
        return
    groups = []
    for first in range(0, len(todo), batch_size):
        some = todo[first : first + batch_size]
        groups.append(Group(some, {r.id: descriptions[r.id] for r in some if r.id in descriptions}))
    maker = ClipMaker(settings, out)
    with ExitStack() as stack:
        bar = None
        if not isinstance(executor, Serial):
            import torch

            maker = ClipMaker(settings, out, max(1, torch.get_num_threads() // executor.workers), bars=False)
            bar = stack.enter_context(Progress("generate", len(todo), "clips"))
        for done in executor.run(maker, groups, _lost):
            if bar is not None:
                bar.advance(len(done))
            yield done
