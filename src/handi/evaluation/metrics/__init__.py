"""Metrics of generated videos. `METRICS` is the table that `handi evaluate --metrics` names them by."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from handi.core.errors import InputError

# Name → "module:class". In this order they run and are printed. A module is imported only when its metric is
# asked for: most need torch.
METRICS: dict[str, str] = {
    "hand": "handi.evaluation.metrics.hand:HandError",
    "pixels": "handi.evaluation.metrics.pixels:Pixels",
    "motion": "handi.evaluation.metrics.motion:Motion",
    "world": "handi.evaluation.metrics.judged:World",
    "fid": "handi.evaluation.metrics.distances:Fid",
    "kid": "handi.evaluation.metrics.distances:Kid",
    "fvd": "handi.evaluation.metrics.distances:Fvd",
    "kvd": "handi.evaluation.metrics.distances:Kvd",
    "clip": "handi.evaluation.metrics.likeness:ClipImages",
    "clip_text": "handi.evaluation.metrics.likeness:ClipText",
    "egovlp": "handi.evaluation.metrics.likeness:EgoVlp",
    "egovlp_ego4d": "handi.evaluation.metrics.likeness:EgoVlpEgo4d",
    "egovlp_stills": "handi.evaluation.metrics.likeness:EgoVlpStills",
    "blip_base": "handi.evaluation.metrics.likeness:BlipBase",
    "blip_large": "handi.evaluation.metrics.likeness:BlipLarge",
    "blip_base_ego4d": "handi.evaluation.metrics.likeness:BlipBaseEgo4d",
    "blip_large_ego4d": "handi.evaluation.metrics.likeness:BlipLargeEgo4d",
}


def check_metric(name: str) -> None:
    """Raises: InputError for an unknown name."""
    if name not in METRICS:
        raise InputError(
            f"unknown metric {name!r}", where="--metrics", mend=f"choose from {', '.join(METRICS)}"
        )


def metric_class(name: str) -> type[Any]:
    """A metric's class (see `protocol.Metric`), not yet built. Raises: InputError for an unknown name."""
    check_metric(name)
    module, _, kind = METRICS[name].partition(":")
    found: type[Any] = getattr(import_module(module), kind)
    return found
