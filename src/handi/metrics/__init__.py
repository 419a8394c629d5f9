"""Metrics of generated videos. `METRICS` is the table that `handi evaluate --metrics` names them by."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from handi.errors import InputError

# Name → "module:class". In this order they run and are printed. A module is imported only when its metric is
# asked for: most need torch.
METRICS: dict[str, str] = {
    "hand": "handi.metrics.hand:HandError",
    "pixels": "handi.metrics.pixels:Pixels",
    "motion": "handi.metrics.motion:Motion",
    "world": "handi.metrics.judged:World",
    "fid": "handi.metrics.distances:Fid",
    "kid": "handi.metrics.distances:Kid",
    "fvd": "handi.metrics.distances:Fvd",
    "kvd": "handi.metrics.distances:Kvd",
    "clip": "handi.metrics.likeness:ClipImages",
    "clip_text": "handi.metrics.likeness:ClipText",
    "egovlp": "handi.metrics.likeness:EgoVlp",
    "egovlp_ego4d": "handi.metrics.likeness:EgoVlpEgo4d",
    "egovlp_stills": "handi.metrics.likeness:EgoVlpStills",
    "blip_base": "handi.metrics.likeness:BlipBase",
    "blip_large": "handi.metrics.likeness:BlipLarge",
    "blip_base_ego4d": "handi.metrics.likeness:BlipBaseEgo4d",
    "blip_large_ego4d": "handi.metrics.likeness:BlipLargeEgo4d",
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
