"""I3D, the network of FVD: RGB, Kinetics-400, with the keys of VideoGPT's i3d_pretrained_400.pt."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from handi.core.errors import InputError
from handi.evaluation.metrics.networks.running import fill

SIDE = 224  # pixels
LEAST_FRAMES = 9  # the last pool spans two of the frames that are left, an eighth of them
Triple = tuple[int, int, int]

# Channels of the Inception modules: 1×1; 1×1 then 3×3; 1×1 then 3×3; pool then 1×1.
MIXED = {
    "Mixed_3b": (192, (64, 96, 128, 16, 32, 32)),
    "Mixed_3c": (256, (128, 128, 192, 32, 96, 64)),
    "Mixed_4b": (480, (192, 96, 208, 16, 48, 64)),
    "Mixed_4c": (512, (160, 112, 224, 24, 64, 64)),
    "Mixed_4d": (512, (128, 128, 256, 24, 64, 64)),
    "Mixed_4e": (512, (112, 144, 288, 32, 64, 64)),
    "Mixed_4f": (528, (256, 160, 320, 32, 128, 128)),
    "Mixed_5b": (832, (256, 160, 320, 32, 128, 128)),
    "Mixed_5c": (832, (384, 192, 384, 48, 128, 128)),
}
# Pools stand before these, kernel and stride over T, H, W.
POOLS: dict[str, tuple[Triple, Triple]] = {
    "Conv3d_2b_1x1": ((1, 3, 3), (1, 2, 2)),
    "Mixed_3b": ((1, 3, 3), (1, 2, 2)),
    "Mixed_4b": ((3, 3, 3), (2, 2, 2)),
    "Mixed_5b": ((2, 2, 2), (2, 2, 2)),
}


def _pad(x: Tensor, kernel: Triple, stride: Triple) -> Tensor:
    """TensorFlow's "same" padding with zeros: the odd one at the end."""
    sides: list[int] = []
    for length, k, s in reversed(list(zip(x.shape[2:], kernel, stride, strict=True))):
        total = max(k - (length % s or s), 0)
        sides += [total // 2, total - total // 2]
    return F.pad(x, sides)


def _pool(x: Tensor, kernel: Triple, stride: Triple) -> Tensor:
    return F.max_pool3d(_pad(x, kernel, stride), kernel, stride)


class _Unit(nn.Module):
    """Convolution, BatchNorm, ReLU; the last one of the network is a convolution with a bias alone."""

    def __init__(
        self, width_in: int, width: int, side: int = 1, stride: Triple = (1, 1, 1), last: bool = False
    ) -> None:
        super().__init__()
        self.kernel, self.stride = (side, side, side), stride
        self.conv3d = nn.Conv3d(width_in, width, side, stride, bias=last)
        self.bn = None if last else nn.BatchNorm3d(width, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv3d(_pad(x, self.kernel, self.stride))
        return x if self.bn is None else F.relu(self.bn(x), inplace=True)


class _Mixed(nn.Module):
    """Four branches, stacked."""

    def __init__(self, width_in: int, widths: tuple[int, int, int, int, int, int]) -> None:
        super().__init__()
        self.b0 = _Unit(width_in, widths[0])
        self.b1a, self.b1b = _Unit(width_in, widths[1]), _Unit(widths[1], widths[2], 3)
        self.b2a, self.b2b = _Unit(width_in, widths[3]), _Unit(widths[3], widths[4], 3)
        self.b3b = _Unit(width_in, widths[5])

    def forward(self, x: Tensor) -> Tensor:
        pooled = _pool(x, (3, 3, 3), (1, 1, 1))
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(pooled)], dim=1)


class I3D(nn.Module):
    """B×3×T×H×W in [0, 1] → B×400 logits, the features of FVD. T ≥ 9.

    Source: Carreira & Zisserman 2017; Unterthiner et al. 2018 take the logits.
    """

    def __init__(self) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = _Unit(3, 64, 7, (2, 2, 2))
        self.Conv3d_2b_1x1 = _Unit(64, 64)
        self.Conv3d_2c_3x3 = _Unit(64, 192, 3)
        for name, (width_in, widths) in MIXED.items():
            self.add_module(name, _Mixed(width_in, widths))
        self.logits = _Unit(1024, 400, last=True)

    def forward(self, video: Tensor) -> Tensor:
        """The frames are stretched to 224² bilinearly and put to [-1, 1].

        Raises: InputError for fewer than 9 frames.
        """
        if video.shape[2] < LEAST_FRAMES:
            raise InputError(f"I3D reads {LEAST_FRAMES} frames or more, not {video.shape[2]}")
        x = self.Conv3d_1a_7x7(stretched(video) * 2 - 1)
        for name, module in self.named_children():
            if name in POOLS:
                x = _pool(x, *POOLS[name])
            if name not in ("Conv3d_1a_7x7", "logits"):
                x = module(x)
        x = F.avg_pool3d(x, (2, 7, 7), stride=1)
        return self.logits(x).mean(dim=(2, 3, 4))


def stretched(video: Tensor) -> Tensor:
    """B×3×T×H×W at 224², aspect not kept: a centre crop would lose 43 % of a 448×256 frame."""
    frames = video.transpose(1, 2).flatten(0, 1)
    frames = F.interpolate(frames, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
    return frames.unflatten(0, (len(video), -1)).transpose(1, 2)


class ScriptedI3D(nn.Module):
    """StyleGAN-V's i3d_torchscript.pt, called as it is there, on the same frames as `I3D`."""

    def __init__(self, script: torch.jit.ScriptModule) -> None:
        super().__init__()
        self.script = script

    def forward(self, video: Tensor) -> Tensor:
        if video.shape[2] < LEAST_FRAMES:
            raise InputError(f"I3D reads {LEAST_FRAMES} frames or more, not {video.shape[2]}")
        frames = stretched(video) * 2 - 1
        return self.script(frames, rescale=False, resize=False, return_features=True)


def build_i3d(tensors: Mapping[str, Tensor], where: str | Path) -> I3D:
    """The network with the weights of i3d_pretrained_400.pt. Raises: ModelError."""
    with torch.device("meta"):
        network = I3D()
    return fill(network, tensors, where, "I3D for FVD (VideoGPT's i3d_pretrained_400.pt)")
