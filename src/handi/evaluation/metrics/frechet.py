"""Distances between two sets of feature vectors: Fréchet (FID, FVD) and the unbiased kernel one (KID, KVD).

Sets are n×D arrays, memory maps included: they are read in blocks and counted in float64, so that memory
grows with D and not with n, and the order of the rows changes nothing beyond rounding. What takes long is
torch's, whose threads a caller can set, so that a distance is the same to the bit wherever it is measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from handi.core.errors import InputError

BLOCK = 2048  # rows that are read at once
SUBSETS, SUBSET_SIZE, SEED = 100, 1000, 2020  # the published protocol of KID, as torch-fidelity seeds it


@dataclass(frozen=True)
class Moments:
    """Mean (D) and covariance of rows, as a root R (k×D, k ≤ D or n) of their scatter: RᵀR = Σ (x-μ)(x-μ)ᵀ.

    Those of parts, made anywhere, merge into those of the whole: nothing is lost but rounding.
    """

    count: int
    mean: np.ndarray
    root: np.ndarray

    def merged(self, other: Moments) -> Moments:
        """The moments of the rows of both. Source: Chan, Golub and LeVeque 1979, through QR."""
        count = self.count + other.count
        apart = other.mean - self.mean
        between = np.sqrt(self.count * other.count / count) * apart[None]
        root = np.concatenate([self.root, other.root, between])
        if len(root) > root.shape[1]:
            root = torch.linalg.qr(torch.from_numpy(root), mode="r").R.numpy()
        return Moments(count, self.mean + apart * other.count / count, root)


def moments(rows: np.ndarray) -> Moments:
    """The moments of n×D rows, block by block. Raises: InputError for no rows."""
    whole: Moments | None = None
    for start in range(0, len(rows), BLOCK):
        block = np.asarray(rows[start : start + BLOCK], dtype=np.float64)
        mean = block.mean(axis=0)
        part = Moments(len(block), mean, block - mean)
        whole = part if whole is None else whole.merged(part)
    if whole is None:
        raise InputError("there are no rows")
    return whole


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Fréchet distance of the Gaussians fitted to a (n×D) and b (m×D), covariances with 1/(n-1).

    Raises: InputError for fewer than two rows, other widths, or values that are not finite.
    Source: Heusel et al. 2017, Eq. 6; Unterthiner et al. 2018.
    """
    _check(a, b)
    return distance_of_moments(moments(a), moments(b))


def distance_of_moments(a: Moments, b: Moments) -> float:
    """The Fréchet distance of two Gaussians: |μa - μb|² + Tr(Σa + Σb - 2 (Σa Σb)^½).

    Tr (Σa Σb)^½ = ‖Ra Rbᵀ‖, the sum of singular values, where RᵀR = Σ: no root of a matrix is taken, so that
    nothing is imaginary where n < D.
    """
    root_a, root_b = (one.root / np.sqrt(one.count - 1) for one in (a, b))
    apart = np.square(a.mean - b.mean).sum()
    spread = np.square(root_a).sum() + np.square(root_b).sum()
    common = torch.linalg.svdvals(_product(root_a, root_b)).numpy().sum()
    return float(max(apart + spread - 2 * common, 0.0))  # rounding may go below


def kernel_distance(
    a: np.ndarray,
    b: np.ndarray,
    *,
    subsets: int = SUBSETS,
    subset_size: int = SUBSET_SIZE,
    seed: int = SEED,
) -> float:
    """Unbiased squared MMD of a (n×D) and b (m×D) with the kernel (x·y/D + 1)³, mean over random subsets.

    If a set has no more than `subset_size` rows, subsets are as large as the smaller set; if both have that
    size there is one subset, all of it. May be negative: its mean is right at every n.
    Raises: InputError as `frechet_distance`.
    Source: Bińkowski et al. 2018, sec. 4; Unterthiner et al. 2018 (KVD).
    """
    _check(a, b)
    size = min(len(a), len(b), subset_size)
    if len(a) == len(b) == size:
        return _mmd(np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64))
    chance = np.random.default_rng(seed)
    found = []
    for _ in range(subsets):
        # sorted: a memory map is read from front to back
        of_a, of_b = (np.sort(chance.choice(len(rows), size, replace=False)) for rows in (a, b))
        found.append(_mmd(a[of_a].astype(np.float64), b[of_b].astype(np.float64)))
    return float(np.mean(found))


def _product(a: np.ndarray, b: np.ndarray) -> torch.Tensor:
    """a bᵀ."""
    return torch.from_numpy(a) @ torch.from_numpy(b).T


def _mmd(a: np.ndarray, b: np.ndarray) -> float:
    """Unbiased estimate of the squared MMD: the pairs of a row with itself are left out."""

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (_product(x, y).numpy() / x.shape[1] + 1) ** 3

    def within(x: np.ndarray) -> float:
        values = kernel(x, x)
        return (values.sum() - np.trace(values)) / (len(x) * (len(x) - 1))

    return float(within(a) + within(b) - 2 * kernel(a, b).mean())


def _check(a: np.ndarray, b: np.ndarray) -> None:
    for rows in (a, b):
        if rows.ndim != 2 or len(rows) < 2:
            raise InputError(
                f"a distance of two sets needs at least two rows of features each, not {rows.shape}",
                hint="give more videos",
            )
        if not all(np.isfinite(rows[i : i + BLOCK]).all() for i in range(0, len(rows), BLOCK)):
            raise InputError("features that are not finite", hint="look for broken frames or weights")
    if a.shape[1] != b.shape[1]:
        raise InputError(f"features of {a.shape[1]} and of {b.shape[1]} values cannot be compared")
