"""Metrics of generated videos. `METRICS` is the table that `handi evaluate --metrics` names them by."""

from __future__ import annotations

from importlib import import_module

from handi.errors import InputError
from handi.metrics.protocol import Metric

# Name → "module:class". In this order they run and are printed. A class is built without arguments, and its
# module is imported only when the metric is asked for: most need torch.
METRICS: dict[str, str] = {
    "hand": "handi.metrics.hand:HandError",
    "pixels": "handi.metrics.pixels:Pixels",
    "motion": "handi.metrics.motion:Motion",
    "world": "handi.metrics.judged:World",
}


def metric_class(name: str) -> type[Metric]:
    """The class of a metric, not yet built. Raises: InputError for an unknown name."""
    if name not in METRICS:
        raise InputError(
            f"unknown metric {name!r}", where="--metrics", mend=f"choose from {', '.join(METRICS)}"
        )
    module, _, kind = METRICS[name].partition(":")
    found: type[Metric] = getattr(import_module(module), kind)
    return found
