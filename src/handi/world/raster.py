"""The z-buffer: projected triangles in, nearest triangle of every sample out. numba, one thread."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

F8 = npt.NDArray[np.float64]
I4 = npt.NDArray[np.int32]

BEHIND = -1e8  # inverse depth of a vertex behind the camera: its triangles are dropped


@njit(cache=True, nogil=True)
def to_samples(local: F8, focal: float, middle: float) -> None:
    """Turn V×3 (right, down, forward from the camera, metres) into sample positions and 1/depth, in place.

    focal: in samples. middle: half the picture's side, in samples.
    """
    for v in range(local.shape[0]):
        front = local[v, 2] > 0.02
        depth = local[v, 2] if front else 1.0
        local[v, 0] = focal * local[v, 0] / depth + middle
        local[v, 1] = focal * local[v, 1] / depth + middle
        local[v, 2] = 1 / depth if front else 2 * BEHIND


@njit(cache=True, nogil=True)
def extent(screen: F8) -> tuple[float, float, float, float]:
    """Least x and y, greatest x and y of V×3 points that are not behind the camera; inf … -inf for none."""
    left, top, right, bottom = math.inf, math.inf, -math.inf, -math.inf
    for v in range(screen.shape[0]):
        if screen[v, 2] > BEHIND:
            left, right = min(left, screen[v, 0]), max(right, screen[v, 0])
            top, bottom = min(top, screen[v, 1]), max(bottom, screen[v, 1])
    return left, top, right, bottom


@njit(fastmath=True, cache=True, nogil=True)
def rasterise(screen: F8, faces: I4, offset: int, nearness: F8, face: I4, bary_a: F8, bary_b: F8) -> None:
    """Draw triangles into the sample buffers, both sides.

    screen V×3 (x, y in samples; 1/depth), faces T×3; nearness (1/depth), face (index + offset, -1 where
    empty) and the two barycentric coordinates are H×W and updated where a triangle is nearer.
    """
    height, width = nearness.shape
    for f in range(faces.shape[0]):
        i, j, k = np.uintp(faces[f, 0]), np.uintp(faces[f, 1]), np.uintp(faces[f, 2])
        wi, wj, wk = screen[i, 2], screen[j, 2], screen[k, 2]
        if wi <= -1e8 or wj <= -1e8 or wk <= -1e8:
            continue
        xi, yi, xj, yj = screen[i, 0], screen[i, 1], screen[j, 0], screen[j, 1]
        xk, yk = screen[k, 0], screen[k, 1]
        x0 = max(0, math.ceil(min(xi, xj, xk) - 0.5))
        x1 = min(width - 1, math.floor(max(xi, xj, xk) - 0.5))
        y0 = max(0, math.ceil(min(yi, yj, yk) - 0.5))
        y1 = min(height - 1, math.floor(max(yi, yj, yk) - 0.5))
        if x0 > x1 or y0 > y1:
            continue
        area = (xj - xi) * (yk - yi) - (xk - xi) * (yj - yi)
        if area == 0.0:
            continue
        inverse = 1.0 / area
        step_a, step_b = (yj - yk) * inverse, (yk - yi) * inverse
        for y in range(y0, y1 + 1):
            py, px = y + 0.5, x0 + 0.5
            a = ((xj - px) * (yk - py) - (xk - px) * (yj - py)) * inverse
            b = ((xk - px) * (yi - py) - (xi - px) * (yk - py)) * inverse
            for x in range(x0, x1 + 1):
                if a >= 0.0 and b >= 0.0 and a + b <= 1.0:
                    w = a * wi + b * wj + (1.0 - a - b) * wk
                    if w > nearness[y, x]:
                        nearness[y, x] = w
                        face[y, x] = f + offset
                        bary_a[y, x] = a
                        bary_b[y, x] = b
                a += step_a
                b += step_b


@njit(fastmath=True, cache=True, nogil=True)
def rasterise_height(screen: F8, faces: I4, height_map: F8) -> None:
    """Keep the largest third coordinate at every sample: the shadow map, seen from the light."""
    height, width = height_map.shape
    for f in range(faces.shape[0]):
        i, j, k = np.uintp(faces[f, 0]), np.uintp(faces[f, 1]), np.uintp(faces[f, 2])
        xi, yi, xj, yj = screen[i, 0], screen[i, 1], screen[j, 0], screen[j, 1]
        xk, yk = screen[k, 0], screen[k, 1]
        x0 = max(0, math.ceil(min(xi, xj, xk) - 0.5))
        x1 = min(width - 1, math.floor(max(xi, xj, xk) - 0.5))
        if x0 > x1:
            continue
        y0 = max(0, math.ceil(min(yi, yj, yk) - 0.5))
        y1 = min(height - 1, math.floor(max(yi, yj, yk) - 0.5))
        if y0 > y1:
            continue
        area = (xj - xi) * (yk - yi) - (xk - xi) * (yj - yi)
        if area == 0.0:
            continue
        inverse = 1.0 / area
        step_a, step_b = (yj - yk) * inverse, (yk - yi) * inverse
        zi, zj, zk = screen[i, 2], screen[j, 2], screen[k, 2]
        for y in range(y0, y1 + 1):
            py, px = y + 0.5, x0 + 0.5
            a = ((xj - px) * (yk - py) - (xk - px) * (yj - py)) * inverse
            b = ((xk - px) * (yi - py) - (xi - px) * (yk - py)) * inverse
            for x in range(x0, x1 + 1):
                # Without branches: most triangles are about as large as a texel, and none could be foreseen.
                z, kept = a * zi + b * zj + (1.0 - a - b) * zk, height_map[y, x]
                inside = (a >= 0.0) & (b >= 0.0) & (a + b <= 1.0)
                height_map[y, x] = z if inside & (z > kept) else kept
                a += step_a
                b += step_b


@njit(fastmath=True, cache=True, nogil=True)
def vertex_normals(vertices: F8, faces: I4, normals: F8) -> None:
    """Unit normals of the vertices, the faces around weighted by area. V×3, T×3, V×3 (written)."""
    normals[:] = 0.0
    for f in range(faces.shape[0]):
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        ax, ay, az = (
            vertices[j, 0] - vertices[i, 0],
            vertices[j, 1] - vertices[i, 1],
            vertices[j, 2] - vertices[i, 2],
        )
        bx, by, bz = (
            vertices[k, 0] - vertices[i, 0],
            vertices[k, 1] - vertices[i, 1],
            vertices[k, 2] - vertices[i, 2],
        )
        nx, ny, nz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
        for v in (i, j, k):
            normals[v, 0] += nx
            normals[v, 1] += ny
            normals[v, 2] += nz
    for v in range(normals.shape[0]):
        length = math.sqrt(normals[v, 0] ** 2 + normals[v, 1] ** 2 + normals[v, 2] ** 2) + 1e-20
        normals[v, 0] /= length
        normals[v, 1] /= length
        normals[v, 2] /= length
