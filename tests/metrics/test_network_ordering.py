"""The truth, a still video, a shuffled one and noise, under networks with seeded weights.

Even features that were never trained know what is equal, what stands still and what is far off; how well the
published ones tell good from better, only the published weights can show.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from metrics.seeded import seeded, thin_egovlp, tiny_clip
from safetensors.torch import save_file

from handi.metrics import likeness, metric_class
from handi.metrics.networks import clip
from handi.metrics.networks.i3d import I3D
from handi.metrics.networks.inception import Inception
from handi.metrics.protocol import Pair
from handi.metrics.weights import CATALOGUE, Found
from handi.world import render_clip

KINDS = ("truth", "still", "shuffled", "noise")


def variants(seed: int) -> dict[str, np.ndarray]:
    """Kind of video → 15 frames of a world clip of 64 pixels, the context left out."""
    truth = render_clip(seed, size=64).frames[1:]
    chance = np.random.default_rng(seed)
    return {
        "truth": truth,
        "still": np.repeat(truth[:1], len(truth), axis=0),
        "shuffled": truth[chance.permutation(len(truth))],
        "noise": chance.integers(0, 256, truth.shape, dtype=np.uint8),
    }


@pytest.fixture(scope="module")
def videos() -> dict[str, np.ndarray]:
    return variants(900_000)


def test_clip(videos, monkeypatch, tmp_path):
    folder = tiny_clip(tmp_path)
    monkeypatch.setitem(clip.SHAPES, "ViT-L/14", (16, 2, 8))
    monkeypatch.setattr(likeness, "find", lambda name: Found(CATALOGUE[name], folder, "0"))
    metric = likeness.ClipImages()
    scores = {
        kind: metric.scores(
            Pair("v", video, reference=videos["truth"]), lambda extract, shown: extract(shown)
        )
        for kind, video in videos.items()
    }
    truth, still, shuffled, noise = (scores[kind]["clip_gt"] for kind in KINDS)
    assert truth == pytest.approx(1, abs=1e-6)
    assert noise < min(still, shuffled) <= max(still, shuffled) < truth - 1e-7
    truth, still, shuffled, noise = (scores[kind]["clip_cs"] for kind in KINDS)
    assert still == pytest.approx(1, abs=1e-6)  # which is why it is never read alone
    assert noise < shuffled < truth < still


def test_egovlp(videos, monkeypatch):
    monkeypatch.setattr(likeness, "find", lambda name: Found(CATALOGUE[name], None, "0"))
    monkeypatch.setattr(Found, "record", {})
    monkeypatch.setattr(likeness, "read_tensors", lambda found: {})
    monkeypatch.setattr(likeness, "build_egovlp", lambda tensors, where, slots: thin_egovlp(slots))
    metric = likeness.EgoVlp()
    truth, still, shuffled, noise = (
        metric.scores(
            Pair("v", videos[kind], reference=videos["truth"]), lambda extract, shown: extract(shown)
        )["egovlp"]
        for kind in KINDS
    )
    assert truth == pytest.approx(1, abs=1e-6)
    assert noise < min(still, shuffled)
    assert shuffled < truth - 1e-9  # the same frames: only their order tells


@pytest.mark.slow
@pytest.mark.parametrize(("names", "network"), [(("fvd", "kvd"), I3D), (("fid", "kid"), Inception)])
def test_sets(names, network, monkeypatch, tmp_path):
    """From a weight file on disk to the distance, at full size."""
    with torch.device("meta"):
        empty = network()
    for name in ("inception", "i3d"):
        monkeypatch.setenv(CATALOGUE[name].variable, str(tmp_path / "weights.safetensors"))
    save_file(seeded(empty), tmp_path / "weights.safetensors")
    metrics = [metric_class(name)() for name in names]
    sets = [variants(seed) for seed in range(900_000, 900_003)]
    frames = slice(None) if network is I3D else slice(0, 2)
    piles = {
        kind: np.concatenate([metrics[0].extractor(videos[kind][frames]) for videos in sets])
        for kind in KINDS
    }
    for metric in metrics:
        truth, still, shuffled, noise = (metric.distance(piles[kind], piles["truth"]) for kind in KINDS)
        assert max(still, shuffled) < noise
        if metric.name == "fvd":
            assert truth == pytest.approx(0, abs=1e-6 * noise)
            assert min(still, shuffled) > 1e-6 * noise
        else:
            assert truth < noise
