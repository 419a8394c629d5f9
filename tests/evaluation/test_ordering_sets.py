"""Fréchet and kernel distances order the truth, a still video, a shuffled one and noise as they should.

On features that anyone can check: the mean colours of a frame on a coarse grid (as FID sees frames, one by
one), and how much they change from frame to frame (as FVD sees a clip).
"""

from __future__ import annotations

import numpy as np
import pytest

from handi.core.images import resize
from handi.evaluation.metrics.distances import Fid, Fvd, Kid, Kvd
from handi.evaluation.run import EvaluationConfig, evaluate
from handi.evaluation.scoring import LoadedMetrics

GRID = 4


class Grid:
    """Frames → L×48: colours of a 4×4 grid."""

    key = "grid"

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        return resize(frames, GRID, GRID).reshape(len(frames), -1).astype(np.float32) / 255


class Change:
    """Frames → 1×48: how much the pixels of each cell change, mean over pairs of neighbours."""

    key = "change"

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        change = np.abs(np.diff(frames.astype(np.float32), axis=0)).mean(0) / 255
        return resize(change, GRID, GRID).reshape(1, -1)


def seen(kind: type, extractor: object) -> object:
    """A set metric with other eyes, and no weights to read."""
    metric = object.__new__(kind)
    metric.extractor, metric.weights = extractor, {}
    return metric


@pytest.fixture(scope="module")
def scores(world, predictions, tmp_path_factory) -> dict[str, tuple[float, ...]]:
    sets = [seen(Fid, Grid()), seen(Kid, Grid()), seen(Fvd, Change()), seen(Kvd, Change())]
    loaded = LoadedMetrics(dict(zip(("fid", "kid", "fvd", "kvd"), sets, strict=True)))
    found = {}
    for kind, folder in predictions.items():
        out = tmp_path_factory.mktemp(kind)
        metrics = evaluate(folder, world, out, EvaluationConfig(resamples=40), loaded=loaded)["metrics"]
        found[kind] = {name: entry["value"] for name, entry in metrics.items()}
    return {
        name: tuple(found[kind][name] for kind in ("truth", "static", "shuffled", "noise"))
        for name in loaded.by_name
    }


def test_distances_of_frames(scores):
    for name in ("fid", "kid"):
        truth, static, shuffled, noise = scores[name]
        assert truth < static < noise
        assert truth == pytest.approx(shuffled, abs=1e-9)  # frames one by one know no order
    assert scores["fid"][0] == pytest.approx(0, abs=1e-9)


def test_distances_of_clips(scores):
    for name in ("fvd", "kvd"):
        truth, static, shuffled, noise = scores[name]
        assert truth < min(static, shuffled)
        assert max(static, shuffled) < noise
    assert scores["fvd"][0] == pytest.approx(0, abs=1e-9)
