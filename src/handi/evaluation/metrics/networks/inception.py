"""The Inception v3 of FID: TensorFlow's of 2015-12-05 with the keys of pytorch-fid's file.

It is not torchvision's ImageNet network: its average pools leave the padding out, its last pool takes the
maximum, it has 1008 classes, and its weights are others.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from handi.evaluation.metrics.networks.running import fill

SIDE = 299  # pixels
WIDTH = 2048  # of pool3, the features of FID

Kernel = int | tuple[int, int]
Layer = tuple[str, int, Kernel]  # key, channels out, kernel; "same" padding, or stride 2 without padding
Branches = list[list[Layer | list[Layer]]]  # chains of layers; a list in a chain is a fork


class _Conv(nn.Module):
    """Convolution without bias, BatchNorm, ReLU."""

    def __init__(self, width_in: int, width: int, kernel: Kernel, **convolution: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width_in, width, kernel, bias=False, **convolution)
        self.bn = nn.BatchNorm2d(width, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


class _Mixed(nn.Module):
    """Branches side by side, their outputs stacked, the pooled one last.

    `branches`: the ends of a fork are stacked.
    `pool`: "average", "max", or "halve": the block halves the picture, and the pooled branch has no layer.
    """

    def __init__(self, width_in: int, branches: Branches, pool: str, pooled: int = 0) -> None:
        super().__init__()
        self.branches, self.pool = branches, pool
        for branch in branches:
            width = width_in
            for step in branch:
                for name, out, kernel in step if isinstance(step, list) else [step]:
                    halves = pool == "halve" and step is branch[-1]
                    self.add_module(name, _layer(width, out, kernel, halves))
                    width = width if isinstance(step, list) else out
        if pooled:
            self.branch_pool = _layer(width_in, pooled, 1, False)

    def forward(self, x: Tensor) -> Tensor:
        outputs = []
        for branch in self.branches:
            here = x
            for step in branch:
                if isinstance(step, list):
                    here = torch.cat([self.get_submodule(name)(here) for name, *_ in step], dim=1)
                else:
                    here = self.get_submodule(step[0])(here)
            outputs.append(here)
        if self.pool == "halve":
            outputs.append(F.max_pool2d(x, 3, stride=2))
        elif self.pool == "max":
            outputs.append(self.branch_pool(F.max_pool2d(x, 3, stride=1, padding=1)))
        else:
            average = F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
            outputs.append(self.branch_pool(average))
        return torch.cat(outputs, dim=1)


def _layer(width_in: int, width: int, kernel: Kernel, halves: bool) -> _Conv:
    if halves:
        return _Conv(width_in, width, kernel, stride=2)
    tall, wide = (kernel, kernel) if isinstance(kernel, int) else kernel
    return _Conv(width_in, width, kernel, padding=(tall // 2, wide // 2))


def _block_a(width_in: int, pooled: int) -> _Mixed:
    branches: Branches = [
        [("branch1x1", 64, 1)],
        [("branch5x5_1", 48, 1), ("branch5x5_2", 64, 5)],
        [("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3)],
    ]
    return _Mixed(width_in, branches, "average", pooled)


def _block_b() -> _Mixed:
    branches: Branches = [
        [("branch3x3", 384, 3)],
        [("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3)],
    ]
    return _Mixed(288, branches, "halve")


def _block_c(inner: int) -> _Mixed:
    row, column = (1, 7), (7, 1)
    branches: Branches = [
        [("branch1x1", 192, 1)],
        [("branch7x7_1", inner, 1), ("branch7x7_2", inner, row), ("branch7x7_3", 192, column)],
        [
            ("branch7x7dbl_1", inner, 1),
            ("branch7x7dbl_2", inner, column),
            ("branch7x7dbl_3", inner, row),
            ("branch7x7dbl_4", inner, column),
            ("branch7x7dbl_5", 192, row),
        ],
    ]
    return _Mixed(768, branches, "average", 192)


def _block_d() -> _Mixed:
    branches: Branches = [
        [("branch3x3_1", 192, 1), ("branch3x3_2", 320, 3)],
        [
            ("branch7x7x3_1", 192, 1),
            ("branch7x7x3_2", 192, (1, 7)),
            ("branch7x7x3_3", 192, (7, 1)),
            ("branch7x7x3_4", 192, 3),
        ],
    ]
    return _Mixed(768, branches, "halve")


def _block_e(width_in: int, pool: str) -> _Mixed:
    branches: Branches = [
        [("branch1x1", 320, 1)],
        [("branch3x3_1", 384, 1), [("branch3x3_2a", 384, (1, 3)), ("branch3x3_2b", 384, (3, 1))]],
        [
            ("branch3x3dbl_1", 448, 1),
            ("branch3x3dbl_2", 384, 3),
            [("branch3x3dbl_3a", 384, (1, 3)), ("branch3x3dbl_3b", 384, (3, 1))],
        ],
    ]
    return _Mixed(width_in, branches, pool, 192)


class Inception(nn.Module):
    """B×3×H×W in [0, 1] → B×2048, the features of FID."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Conv(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = _Conv(32, 32, 3)
        self.Conv2d_2b_3x3 = _Conv(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = _Conv(64, 80, 1)
        self.Conv2d_4a_3x3 = _Conv(80, 192, 3)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = _block_a(192, 32), _block_a(256, 64), _block_a(288, 64)
        self.Mixed_6a = _block_b()
        self.Mixed_6b, self.Mixed_6c = _block_c(128), _block_c(160)
        self.Mixed_6d, self.Mixed_6e = _block_c(160), _block_c(192)
        self.Mixed_7a = _block_d()
        self.Mixed_7b, self.Mixed_7c = _block_e(1280, "average"), _block_e(2048, "max")
        self.fc = nn.Linear(WIDTH, 1008)  # in the file; FID stops before it

    def forward(self, pictures: Tensor) -> Tensor:
        """As pytorch-fid: stretched to 299² bilinearly without antialiasing, to [-1, 1], pool3."""
        x = F.interpolate(pictures, size=(SIDE, SIDE), mode="bilinear", align_corners=False) * 2 - 1
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, stride=2)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(F.max_pool2d(x, 3, stride=2))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        return x.mean(dim=(2, 3))


def build_inception(tensors: Mapping[str, Tensor], where: str | Path) -> Inception:
    """The network with the weights of pytorch-fid's file. Raises: ModelError."""
    with torch.device("meta"):
        network = Inception()
    return fill(network, tensors, where, "FID's Inception (pytorch-fid)")
