"""Stopping from outside: the first signal asks, the second aborts.

A scheduler's SIGTERM and a Ctrl-C become a flag that the loop reads between two steps; it saves and ends.
Then the exit code is the usual 128 + signal (143, 130), not 0: the work is not done, and to Slurm's
`afterok`, a Kubernetes Job or `until handi train …; do :; done` a 0 would say that it is. A stop that the
user planned (`--minutes`) ends with 0.
"""

from __future__ import annotations

import os
import signal
import time
from types import FrameType, TracebackType
from typing import Any

import torch
from accelerate import PartialState

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
