"""Bones and the flesh on them: frames along chains of joints, vertices that follow. numba, one thread."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

F8 = npt.NDArray[np.float64]


I8 = npt.NDArray[np.int64]


@njit(cache=True, nogil=True)
def posed(local: F8, parent: I8, stretch: F8, angles: F8) -> F8:
    """Joint frames J×4×4 in the root's frame, of a skeleton that bends.

    local J×4×4: every joint's frame at rest, in its parent's. parent J: -1 for the root, whose frame is taken
    for the identity; parents come before their children. stretch J×3: of the bones along their axes. angles
    2×J: flexion about -x, then abduction about y, radians.
    """
    frames = local.copy()
    own, bend = np.zeros((3, 4)), np.empty((3, 3))
    for k in range(frames.shape[0]):
        cf, sf = math.cos(angles[0, k]), math.sin(angles[0, k])
        ca, sa = math.cos(angles[1, k]), math.sin(angles[1, k])
        bend[0, 0], bend[0, 1], bend[0, 2] = ca, -sa * sf, sa * cf
        bend[1, 0], bend[1, 1], bend[1, 2] = 0.0, cf, sf
        bend[2, 0], bend[2, 1], bend[2, 2] = -sa, -ca * sf, ca * cf
        p = parent[k]
        for i in range(3):
            for j in range(3):
                own[i, j] = (
                    local[k, i, 0] * bend[0, j] + local[k, i, 1] * bend[1, j] + local[k, i, 2] * bend[2, j]
                )
            own[i, 3] = local[k, i, 3] * stretch[p, 2] if p >= 0 else local[k, i, 3]
        for i in range(3):
            for j in range(4):
                if p <= 0:
                    frames[k, i, j] = own[i, j]
                    continue
                total = frames[p, i, 3] if j == 3 else 0.0
                for q in range(3):
                    total += frames[p, i, q] * own[q, j]
                frames[k, i, j] = total
    return frames


@njit(cache=True, nogil=True)
def placed(
    starts: I8, bones: I8, shares: F8,  # V+1, W, W: vertex v follows bones[starts[v]:starts[v + 1]] by shares
    matrices: F8,  # B×4×4, of the bones
    rest: F8,  # V×3: the vertices' places at rest
    mirror: F8, rotation: F8, position: F8,  # 3, 3×3, 3: from the right hand's frame into the world
    vertices: F8,  # V×3: written
) -> None:  # fmt: skip
    """Move the vertices of a hand with its bones, then into the world."""
    rows = matrices.reshape(-1, 16)
    own = np.empty(12)
    for v in range(rest.shape[0]):
        own[:] = 0.0
        for q in range(starts[v], starts[v + 1]):
            bone, share = bones[q], shares[q]
            for c in range(12):
                own[c] += share * rows[bone, c]
        x, y, z = rest[v, 0], rest[v, 1], rest[v, 2]
        a = (own[0] * x + own[1] * y + own[2] * z + own[3]) * mirror[0]
        b = (own[4] * x + own[5] * y + own[6] * z + own[7]) * mirror[1]
        d = (own[8] * x + own[9] * y + own[10] * z + own[11]) * mirror[2]
        for i in range(3):
            vertices[v, i] = a * rotation[i, 0] + b * rotation[i, 1] + d * rotation[i, 2] + position[i]
