"""What ends a run before its last step: a signal from outside, or a loss that says that something is broken.

The first signal asks, the second aborts. A scheduler's SIGTERM and a Ctrl-C become a flag that the loop reads
between two steps; it saves and ends.
Then the exit code is the usual 128 + signal (143, 130), not 0: the work is not done, and to Slurm's
`afterok`, a Kubernetes Job or `until handi train …; do :; done` a 0 would say that it is. A stop that the
user planned (`--minutes`) ends with 0.
"""

from __future__ import annotations

import math
import os
import signal
import statistics
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import torch
from accelerate import PartialState

from handi.core.errors import HandiError
from handi.core.files import write_json
from handi.training.batch import Batch

WINDOW, ENOUGH = 200, 20  # steps that the median is taken over, and that it needs
# Launchers and `timeout` send the same wish twice (to the process and to its group) within a moment.
TOGETHER_SECONDS = 1.0
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignal:
    """`with StopSignal() as stop:` … `if stop.asked(): save and leave` … `sys.exit(stop.exit_code)`.

    The second signal, a second or more later, has its usual effect: the process ends at once.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None  # the first that came, here or at another process
        self._came = 0.0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignal:
        for number in SIGNALS:
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def asked(self) -> bool:
        """Whether any process of the run was told to stop; all get the same answer at the same step."""
        number = int(most(self.signal or 0))
        if number and self.signal is None:
            self.signal = signal.Signals(number)
        return number > 0

    @property
    def exit_code(self) -> int:
        """0 where nothing was asked, else 128 + the signal's number."""
        return 0 if self.signal is None else 128 + self.signal

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal is None:
            self.signal, self._came = signal.Signals(number), time.monotonic()
            os.write(2, f"{self.signal.name}: saving, then stopping; once more to abort\n".encode())
        elif time.monotonic() - self._came > TOGETHER_SECONDS:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


def most(value: float) -> float:
    """The largest of a number over all processes of the run; itself where there is one."""
    state = PartialState()
    if state.num_processes == 1:
        return value
    shared = torch.tensor(float(value), dtype=torch.float64, device=state.device)
    torch.distributed.all_reduce(shared, op=torch.distributed.ReduceOp.MAX)
    return float(shared)


class BadBatch(HandiError):
    """A loss or gradient that is not finite, or a loss that explodes."""


class Guard:
    """Stops a run before a bad step reaches the weights, and says which clips were in its batch.

    limit: how many times the median of the last steps a loss may be; 0: any finite loss passes.
    """

    def __init__(self, folder: Path, rank: int, limit: float) -> None:
        self.path = folder / ("bad_batch.json" if rank == 0 else f"bad_batch.{rank}.json")
        self.limit = limit
        self._late: deque[float] = deque(maxlen=WINDOW)

    def verdict(self, loss: float, gradient: float | None) -> str | None:
        """What is wrong with a step in words; None: nothing. `gradient` None: it is not to be judged."""
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        if gradient is not None and not math.isfinite(gradient):
            return f"the gradient's norm is {gradient}"
        if self.limit and len(self._late) >= ENOUGH:
            median = statistics.median(self._late)
            if loss > self.limit * median > 0:
                return f"the loss is {loss:.4g}, the median of the last {len(self._late)} steps {median:.4g}"
        self._late.append(loss)
        return None

    def stop(
        self, why: str | None, step: int, batches: Sequence[Batch], terms: Sequence[Mapping[str, Any]]
    ) -> BadBatch:
        """Write the report of this process's batches; gives the error to raise. why None: another's batch."""
        names = [name for batch in batches for name in batch.names]
        if why is None:
            return BadBatch(f"step {step}: another process stopped at its batch", where=self.path.parent)
        passes = [
            {
                "clips": [
                    {"name": name, "text": text, "frames": frames}
                    for name, text, frames in zip(
                        batch.names, batch.texts, batch.frame_index.tolist(), strict=True
                    )
                ],
                "terms": {name: str(float(value)) for name, value in each.items()},
            }
            for batch, each in zip(batches, terms, strict=True)
        ]
        report = {"step": step, "what": why, "median_of": list(self._late), "passes": passes}
        write_json(self.path, report, indent=1, ensure_ascii=False)
        listed = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        return BadBatch(
            f"step {step}: {why}; clips: {listed}",
            where=self.path,
            hint="look at these clips, or lower optim.lr; the last checkpoint is from before it",
        )
