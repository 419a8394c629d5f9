"""The truth, a still video, a shuffled one and noise, under networks with seeded weights.

Even features that were never trained know what is equal, what stands still and what is far off. Scores
against a text need features that know what a text means: theirs are made by hand. How well the published
networks tell good from better, only the published weights can show.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from metrics.seeded import WORDS, seeded, thin_egovlp, tiny_blip, tiny_clip
from safetensors.torch import save_file

from handi.core.images import resize
from handi.evaluation.metrics import embedding_similarity as similarity
from handi.evaluation.metrics import metric_class
from handi.evaluation.metrics.networks import clip
from handi.evaluation.metrics.networks.blip import Captioner
from handi.evaluation.metrics.networks.folders import load_words
from handi.evaluation.metrics.networks.i3d import I3D
from handi.evaluation.metrics.networks.inception import Inception
from handi.evaluation.metrics.protocol import Pair
from handi.evaluation.metrics.weights import CATALOGUE, FoundWeights
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
    monkeypatch.setattr(similarity, "find", lambda name: FoundWeights(CATALOGUE[name], folder, "0"))
    metric = similarity.ClipImages()
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


@pytest.mark.parametrize("kind", [similarity.EgoVlp, similarity.EgoVlpEgo4d, similarity.EgoVlpStills])
def test_egovlp(kind, videos, monkeypatch):
    monkeypatch.setattr(similarity, "find", lambda name: FoundWeights(CATALOGUE[name], None, "0"))
    monkeypatch.setattr(FoundWeights, "record", {})
    monkeypatch.setattr(similarity, "read_tensors", lambda found: {})
    monkeypatch.setattr(similarity, "build_egovlp", lambda tensors, where, slots: thin_egovlp(slots))
    metric = kind()
    truth, still, shuffled, noise = (
        metric.scores(
            Pair("v", videos[kind], reference=videos["truth"]), lambda extract, shown: extract(shown)
        )[metric.name]
        for kind in KINDS
    )
    assert truth == pytest.approx(1, abs=1e-6)
    assert noise < min(still, shuffled)
    assert still < truth - 1e-9
    assert shuffled < truth - 1e-9  # the same frames: only their order tells


class Seen:
    """CLIP by hand: how a frame differs from the context image, on a grid; and the text, which is the end of
    the true clip in the same terms. A last axis keeps what does not differ at length 1."""

    def __init__(self, truth: np.ndarray) -> None:
        self.start, self.end, self.clip = truth[0], truth[-1], self

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        change = (resize(frames, 8, 8).astype(np.float64) - resize(self.start[None], 8, 8)) / 255
        rows = np.concatenate([change.reshape(len(frames), -1), np.full((len(frames), 1), 0.1)], axis=1)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def embed_text(self, text: str) -> np.ndarray:
        wanted = self(self.end[None])[0].copy()
        wanted[-1] = 0
        return wanted / np.linalg.norm(wanted)


def test_clip_text(videos):
    """On features by hand; a CLIP that was never trained ties no sentence to any picture."""
    metric = object.__new__(similarity.ClipText)
    metric.frames = Seen(videos["truth"])
    scores = {
        kind: metric.scores(Pair("v", video, text="do it"), lambda extract, shown: extract(shown))["clip_tx"]
        for kind, video in videos.items()
    }
    truth, still, shuffled, noise = (scores[kind] for kind in KINDS)
    assert still == pytest.approx(0, abs=1e-9)
    assert max(still, noise) < truth - 10
    assert shuffled == pytest.approx(truth, abs=1e-9)  # a mean over frames one by one knows no order
    assert truth < 100


def test_clip_text_of_a_seeded_model(videos, monkeypatch, tmp_path):
    """All that random weights can show: one frame held is its own score, and the order of frames is none."""
    folder = tiny_clip(tmp_path)
    monkeypatch.setitem(clip.SHAPES, "ViT-B/32", (16, 2, 8))
    monkeypatch.setattr(similarity, "find", lambda name: FoundWeights(CATALOGUE[name], folder, "0"))
    metric = similarity.ClipText()

    def score(video: np.ndarray) -> float:
        pair = Pair("v", video, text="cut the carrot")
        return metric.scores(pair, lambda extract, shown: extract(shown))["clip_tx"]

    singly = [score(frame[None]) for frame in videos["truth"]]
    assert len(set(singly)) > 1
    assert score(videos["truth"]) == pytest.approx(np.mean(singly), abs=1e-4)
    assert score(videos["shuffled"]) == pytest.approx(score(videos["truth"]), abs=1e-4)
    assert score(videos["still"]) == pytest.approx(singly[0], abs=1e-4)


DONE, WAITING = "cut the carrot", "a hand"


def blip_metric(folder: Path) -> similarity.BlipBase:
    """BLIP's score by a thin text tower with seeded weights; the captioner is left to the test."""
    (folder / "words.txt").write_text("\n".join(WORDS) + "\n")
    metric = object.__new__(similarity.BlipBase)
    metric.words, metric.tower = load_words(folder / "words.txt"), thin_egovlp(16).eval()
    return metric


def blip_scores(metric: similarity.BlipBase, videos: dict[str, np.ndarray], description: str) -> list[float]:
    return [
        metric.scores(
            Pair("v", videos[kind], text="cut", description=description),
            lambda extract, shown: extract(shown),
        )["blip_base"]
        for kind in KINDS
    ]


def test_blip(videos, tmp_path):
    """A captioner by hand, that says the action where a frame is nearer to the true end than to the start,
    and a text tower by hand, that counts words: those that were never trained order nothing here."""
    metric, (start, end) = blip_metric(tmp_path), videos["truth"][[0, -1]].astype(float)

    def caption(frame: np.ndarray) -> str:
        to_start, to_end = (np.abs(frame - other).mean() for other in (start, end))
        if min(to_start, to_end) > 40:
            return "picture"
        return DONE if to_end < to_start else WAITING

    metric.captions = lambda frames: np.array([caption(frame) for frame in frames])
    metric._embed = lambda text: np.array([text.split().count(word) for word in WORDS], float)
    assert set(metric.captions(videos["truth"])) == {DONE, WAITING}
    assert set(metric.captions(videos["noise"])) == {"picture"}
    truth, still, shuffled, noise = blip_scores(metric, videos, DONE)
    assert still == noise == 0 < truth < 1
    assert shuffled == pytest.approx(truth)  # frames one by one know no order
    (done,) = set(blip_scores(metric, dict.fromkeys(KINDS, videos["truth"][-3:]), DONE))
    assert done == pytest.approx(1)


def test_blip_of_a_seeded_captioner(videos, tmp_path):
    """A frame scores best against its own caption: 1 for a video that holds it, no more for any other. There
    is no other order to ask of random weights."""
    metric = blip_metric(tmp_path)
    metric.captions = object.__new__(similarity.Captions)
    metric.captions.captioner = Captioner(tiny_blip(), metric.words)
    few = {kind: video[:3] for kind, video in videos.items()}
    own = str(metric.captions(few["still"][:1])[0])
    assert own not in metric.captions(few["noise"])
    truth, still, _, noise = blip_scores(metric, few, own)
    assert still == pytest.approx(1, abs=1e-6)
    assert noise < still - 1e-6
    assert truth <= still + 1e-9


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
