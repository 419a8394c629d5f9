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
def placed(blended: F8, rest: F8, mirror: F8, rotation: F8, position: F8, vertices: F8) -> None:
    """Move vertices V×3 from their rest place into the world (written to `vertices`).

    blended V×12: the upper three rows of every vertex's own matrix. mirror 3, rotation 3×3 and position 3
    take a point of the right hand's frame into the world.
    """
    for v in range(rest.shape[0]):
        x, y, z = rest[v, 0], rest[v, 1], rest[v, 2]
        a = blended[v, 0] * x + blended[v, 1] * y + blended[v, 2] * z + blended[v, 3]
        b = blended[v, 4] * x + blended[v, 5] * y + blended[v, 6] * z + blended[v, 7]
        c = blended[v, 8] * x + blended[v, 9] * y + blended[v, 10] * z + blended[v, 11]
        a, b, c = a * mirror[0], b * mirror[1], c * mirror[2]
        for i in range(3):
            vertices[v, i] = a * rotation[i, 0] + b * rotation[i, 1] + c * rotation[i, 2] + position[i]
