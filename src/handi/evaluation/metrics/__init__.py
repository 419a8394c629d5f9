"""Metrics of generated videos. `METRICS` is the table that `handi evaluate --metrics` names them by."""

from __future__ import annotations

from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from handi.core.errors import InputError

# Name → "module:class", in the order in which they run and are printed. A module is imported only when its
# metric is asked for: most need torch.
METRICS: dict[str, str] = {
    "hand": "handi.evaluation.metrics.hand:HandError",
    "pixels": "handi.evaluation.metrics.pixels:Pixels",
    "motion": "handi.evaluation.metrics.motion:Motion",
    "world": "handi.evaluation.world:WorldMetric",
    "fid": "handi.evaluation.metrics.distances:Fid",
    "kid": "handi.evaluation.metrics.distances:Kid",
    "fvd": "handi.evaluation.metrics.distances:Fvd",
    "kvd": "handi.evaluation.metrics.distances:Kvd",
    "clip": "handi.evaluation.metrics.embedding_similarity:ClipImages",
    "clip_text": "handi.evaluation.metrics.embedding_similarity:ClipText",
    "egovlp": "handi.evaluation.metrics.embedding_similarity:EgoVlp",
    "egovlp_ego4d": "handi.evaluation.metrics.embedding_similarity:EgoVlpEgo4d",
    "egovlp_stills": "handi.evaluation.metrics.embedding_similarity:EgoVlpStills",
    "blip_base": "handi.evaluation.metrics.embedding_similarity:BlipBase",
    "blip_large": "handi.evaluation.metrics.embedding_similarity:BlipLarge",
    "blip_base_ego4d": "handi.evaluation.metrics.embedding_similarity:BlipBaseEgo4d",
    "blip_large_ego4d": "handi.evaluation.metrics.embedding_similarity:BlipLargeEgo4d",
}


def check_metric(name: str) -> None:
    """Raises: InputError for an unknown name, or a file that is not there."""
    file, colon, _ = name.rpartition(":")
    if name not in METRICS and not (colon and Path(file).is_file()):
        raise InputError(
            f"unknown metric {name!r}",
            where="--metrics",
            hint=f"choose from {', '.join(METRICS)}, or name your own as FILE.py:CLASS",
        )


def metric_class(name: str) -> type[Any]:
    """A metric's class (see `protocol.Metric`), not yet built: by its name, or as "FILE.py:CLASS".

    Raises: InputError for an unknown name.
    """
    check_metric(name)
    place, _, kind = METRICS.get(name, name).rpartition(":")
    if name in METRICS:
        return getattr(import_module(place), kind)
    spec = spec_from_file_location(Path(place).stem, place)
    if spec is None or spec.loader is None:
        raise InputError("is no Python file", where=place)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, kind):
        raise InputError(f"has no class {kind!r}", where=place)
    return getattr(module, kind)
