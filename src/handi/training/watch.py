"""What the loop keeps an eye on: means of what is logged, and losses that say that something is broken."""

from __future__ import annotations

import json
import math
import statistics
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from handi.core.errors import HandiError
from handi.core.files import replacing
from handi.data.clips import Batch

WINDOW, ENOUGH = 200, 20  # steps that the median is taken over, and that it needs


class Means:
    """Means of named scalars over several steps; what is not a number in a step is left out of its mean."""

    def __init__(self) -> None:
        self._values: dict[str, list[Tensor]] = {}

    def add(self, terms: Mapping[str, Tensor | float]) -> None:
        """One forward pass's values; they are not read yet, so that a GPU need not be waited for."""
        for name, value in terms.items():
            tensor = value.detach().float() if isinstance(value, Tensor) else torch.tensor(float(value))
            self._values.setdefault(name, []).append(tensor)

    def take(self) -> dict[str, float]:
        """The means (NaN where a term was never a number), and begin anew."""
        means = {name: float(torch.stack(values).nanmean()) for name, values in self._values.items()}
        self._values = {}
        return means


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
        with replacing(self.path) as temporary:
            temporary.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
        listed = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        return BadBatch(
            f"step {step}: {why}; clips: {listed}",
            where=self.path,
            mend="look at these clips, or lower optim.lr; the last checkpoint is from before",
        )
