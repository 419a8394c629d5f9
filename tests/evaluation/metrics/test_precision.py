"""Scores are made in full float32, whatever a training in the same process has set."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from metrics.seeded import thin_egovlp, tiny_clip

from handi.evaluation.metrics.distances import I3DFeatures, InceptionFeatures
from handi.evaluation.metrics.embedding_similarity import BlipBase, ClipFrames, EgoFrames
from handi.evaluation.metrics.hand import FindHands
from handi.evaluation.metrics.networks.clip import load_clip

FRAMES = np.zeros((9, 32, 32, 3), np.uint8)


@pytest.fixture
def after_training():
    """As `handi train` leaves a process on a GPU."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    yield
    torch.set_float32_matmul_precision(before)


class Watched(torch.nn.Module):
    """A network that notes the precision that it is run with."""

    slots = 16

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[tuple[str, bool]] = []

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        self.seen.append((torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32))
        return torch.zeros(len(frames), 4)

    embed_video = forward

    def detect(self, frames: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(joints=self(frames))


def test_no_network_is_run_in_tf32(after_training):
    watched = Watched()
    for kind in (InceptionFeatures, I3DFeatures, EgoFrames, FindHands):
        extractor = object.__new__(kind)
        extractor.network, extractor.device, extractor.still = watched, "cpu", False
        extractor.detector = watched
        extractor(FRAMES)
    assert watched.seen == [("highest", False)] * 4
    assert torch.get_float32_matmul_precision() == "high"  # as it was


def test_clip_is_not_run_in_tf32(after_training, tmp_path):
    extractor, seen = object.__new__(ClipFrames), []
    extractor.clip = load_clip(tiny_clip(tmp_path))
    for tower in (extractor.clip.model.vision_model, extractor.clip.model.text_model):
        tower.register_forward_pre_hook(lambda *given: seen.append(torch.get_float32_matmul_precision()))
    extractor(FRAMES)
    extractor.clip.embed_text("cut")
    assert seen == ["highest", "highest"]
    assert torch.get_float32_matmul_precision() == "high"


def test_the_text_tower_is_not_run_in_tf32(after_training):
    metric, seen = object.__new__(BlipBase), []
    metric.tower = thin_egovlp(4)
    metric.words = lambda *given, **named: SimpleNamespace(input_ids=torch.tensor([[1, 2, 3]]))
    metric.tower.text_model.register_forward_pre_hook(
        lambda *given: seen.append(torch.get_float32_matmul_precision())
    )
    metric._embed("cut")
    assert seen == ["highest"]
    assert torch.get_float32_matmul_precision() == "high"
