"""FID and KID on Inception's features of frames, FVD and KVD on I3D's of clips."""

from __future__ import annotations

import os
from functools import lru_cache

import numpy as np
import torch

from handi.core.errors import ModelError
from handi.core.types import Frames
from handi.evaluation.metrics.frechet import frechet_distance, kernel_distance
from handi.evaluation.metrics.networks.i3d import LEAST_FRAMES, ScriptedI3D, build_i3d
from handi.evaluation.metrics.networks.inception import build_inception
from handi.evaluation.metrics.networks.running import as_tensor, device_of, measuring, ready
from handi.evaluation.metrics.protocol import Figure, Unscored
from handi.evaluation.metrics.weights import CATALOGUE, FoundWeights, find, read_tensors

ENOUGH = 2048  # samples under which a Fréchet distance is mostly bias


class InceptionFeatures:
    """Frames → L×2048, pool3. A video at a time, so that no batch size moves a number."""

    preprocessing = "lego-fid-stretch-299"  # bilinear without antialiasing, [-1, 1]

    def __init__(self, device: str = "cpu") -> None:
        found = find("inception")
        self.weights = found.record
        self.key = f"{self.preprocessing}/{found.sha256}"
        self.network = ready(load_inception(found), device)

    def __call__(self, frames: Frames) -> np.ndarray:
        with measuring():
            return self.network(as_tensor(frames).to(device_of(self.network))).cpu().numpy()


class I3DFeatures:
    """Frames → 1×400 logits of the clip."""

    preprocessing = "i3d-stretch-224"  # aspect not kept, bilinear without antialiasing, [-1, 1]

    def __init__(self, device: str = "cpu") -> None:
        found = _find_i3d()
        self.weights = found.record
        self.key = f"{self.preprocessing}/{found.sha256}"
        self.device = device
        self.network = ready(load_i3d(found), device)

    def __call__(self, frames: Frames) -> np.ndarray:
        if len(frames) < LEAST_FRAMES:
            raise Unscored(f"I3D reads {LEAST_FRAMES} frames or more, not {len(frames)}")
        with measuring():
            clip = as_tensor(frames).transpose(0, 1)[None].to(self.device)
            return self.network(clip).cpu().numpy()


@lru_cache(maxsize=1)  # two metrics share the network
def load_inception(found: FoundWeights) -> torch.nn.Module:
    """FID's network. Raises: ModelError."""
    return build_inception(read_tensors(found), found.path)


@lru_cache(maxsize=1)
def load_i3d(found: FoundWeights) -> torch.nn.Module:
    """VideoGPT's network, or StyleGAN-V's script, which is called alike. Raises: ModelError."""
    if found.weights.name == "i3d":
        return build_i3d(read_tensors(found), found.path)
    if found.path.name != found.weights.file:  # only the published one has a hash that is compared
        raise ModelError("a program is run only under its published name", where=found.path, hint="rename it")
    return ScriptedI3D(torch.jit.load(found.path, map_location="cpu"))


def _find_i3d() -> FoundWeights:
    """VideoGPT's weights, else StyleGAN-V's script; a variable that is set goes first."""
    names = sorted(("i3d", "i3d-script"), key=lambda name: not os.environ.get(CATALOGUE[name].variable))
    try:
        return find(names[0])
    except ModelError as error:
        if error.where is not None:  # a file that is there and wrong
            raise
        try:
            return find(names[1])
        except ModelError as other:
            raise (other if other.where is not None else error) from None


class _Distance:
    """What the four have in common: the true videos, any scope, an extractor with weights."""

    wants = ("reference",)
    scoped = True
    enough = ENOUGH
    features: type[InceptionFeatures | I3DFeatures]
    distance = staticmethod(frechet_distance)

    def __init__(self, device: str = "cpu") -> None:
        self.extractor = self.features(device)
        self.weights = self.extractor.weights


class Fid(_Distance):
    """Fréchet Inception Distance: all frames of all videos in one set."""

    name = "fid"
    figures: tuple[Figure, ...] = (
        Figure("fid", "FID", "lower", of="Fréchet distance of Inception's pool3 features of all frames"),
    )
    needs = ("inception",)
    features = InceptionFeatures
    preprocessing = InceptionFeatures.preprocessing


class Kid(Fid):
    """Kernel Inception Distance: as FID, without its bias in n."""

    name = "kid"
    figures = (
        Figure("kid", "KID", "lower", of="unbiased MMD², cubic kernel, 100 subsets of at most 1000 frames"),
    )
    enough = 0
    distance = staticmethod(kernel_distance)


class Fvd(_Distance):
    """Fréchet Video Distance: I3D's logits, one row per clip."""

    name = "fvd"
    figures: tuple[Figure, ...] = (
        Figure("fvd", "FVD", "lower", of="Fréchet distance of I3D's logits of whole clips"),
    )
    needs = ("i3d",)
    features = I3DFeatures
    preprocessing = I3DFeatures.preprocessing


class Kvd(Fvd):
    """Kernel Video Distance: as FVD, without its bias in n."""

    name = "kvd"
    figures = (
        Figure("kvd", "KVD", "lower", of="unbiased MMD², cubic kernel, 100 subsets of at most 1000 clips"),
    )
    enough = 0
    distance = staticmethod(kernel_distance)
