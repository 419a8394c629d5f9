"""What surfaces are coloured like: noise, the patterns of things, and skin. numba, one thread.

Skin has blotches, creases over the joints, nails, and a paler palm.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

from handi.world.materials import (
    BLUE,
    BLUE2,
    CHECK,
    EXTRA,
    EXTRA2,
    FABRIC,
    FLESH,
    GREEN,
    GREEN2,
    KIND,
    LIQUID,
    RED,
    RED2,
    SCALE,
    SEED,
    SPECKLE,
    STRIPE,
    TILE,
    WOOD,
)

F8 = npt.NDArray[np.float64]


@njit(fastmath=True, cache=True, inline="always")
def hashed(x: int, y: int, z: int) -> float:
    """A number in [0, 1] that looks random, of three whole numbers."""
    n = ((x * 73856093) ^ (y * 19349663) ^ (z * 83492791)) & 0x7FFFFFFF
    n = ((n ^ (n >> 13)) * 1274126177) & 0x7FFFFFFF
    return ((n ^ (n >> 16)) & 0xFFFF) / 65535.0


@njit(fastmath=True, cache=True, nogil=True)
def value_noise(x: float, y: float, z: float) -> float:
    """Smooth noise in [0, 1] with one bump a unit."""
    fx, fy, fz = math.floor(x), math.floor(y), math.floor(z)
    i, j, k = int(fx), int(fy), int(fz)
    u, v, w = x - fx, y - fy, z - fz
    u, v, w = u * u * (3 - 2 * u), v * v * (3 - 2 * v), w * w * (3 - 2 * w)
    a = hashed(i, j, k) * (1 - u) + hashed(i + 1, j, k) * u
    b = hashed(i, j + 1, k) * (1 - u) + hashed(i + 1, j + 1, k) * u
    c = hashed(i, j, k + 1) * (1 - u) + hashed(i + 1, j, k + 1) * u
    d = hashed(i, j + 1, k + 1) * (1 - u) + hashed(i + 1, j + 1, k + 1) * u
    return (a * (1 - v) + b * v) * (1 - w) + (c * (1 - v) + d * v) * w


@njit(fastmath=True, cache=True, nogil=True)
def fractal_noise(x: float, y: float, z: float, octaves: int) -> float:
    """Value noise summed over octaves, in [0, 1]."""
    total, amplitude, norm = 0.0, 0.5, 0.0
    for _ in range(octaves):
        total += amplitude * value_noise(x, y, z)
        norm += amplitude
        amplitude *= 0.5
        x, y, z = x * 2.03, y * 2.03, z * 2.03
    return total / norm


@njit(fastmath=True, cache=True, nogil=True)
def pattern(m: F8, u: float, v: float, s: float) -> tuple[float, float, float]:
    """Colour of a surface that is not skin at the texture point (u, v, s), metres."""
    kind, scale, seed = int(m[KIND]), m[SCALE], m[SEED]
    r, g, b = m[RED], m[GREEN], m[BLUE]
    share = 0.0  # of the second colour
    tone = 1.0
    if kind == WOOD:
        grain = fractal_noise(u * scale * 0.6 + seed, v * scale * 9, s * scale * 0.6, 3)
        ring = math.sin((v * scale * 6 + 2.5 * grain) * 6.0) * 0.5 + 0.5
        share = 0.35 * ring + 0.5 * grain + 0.25 * value_noise(u * scale * 4, v * scale * 160, s * scale * 4)
        if m[EXTRA] > 0.0:
            plank = math.floor(v * m[EXTRA])
            share += 0.35 * (hashed(int(plank), 3, int(seed)) - 0.5)
            if v * m[EXTRA] - plank < 0.025:
                tone = 0.45
    elif kind == SPECKLE:
        coarse = value_noise(u * scale + seed, v * scale, s * scale)
        fine = value_noise(u * scale * 2.3, v * scale * 2.3 + seed, s * scale * 2.3)
        share = max(0.0, min(1.0, (0.6 * coarse + 0.6 * fine - 0.42) * 2.6))
    elif kind == TILE:
        column, row = math.floor(u * scale), math.floor(v * scale)
        tone = 0.85 + 0.3 * hashed(int(column), int(row), int(seed))
        if u * scale - column < 0.04 or v * scale - row < 0.04:
            share, tone = 1.0, 1.0
    elif kind == STRIPE:
        share = 1.0 if u * scale - math.floor(u * scale) < 0.45 else 0.0
    elif kind == CHECK:
        across = 0.5 if u * scale - math.floor(u * scale) < 0.42 else 0.0
        along = 0.5 if v * scale - math.floor(v * scale) < 0.42 else 0.0
        share = across + along
        tone = 0.86 + 0.28 * value_noise(u * 1100, v * 1100, s * 1100)
    elif kind == FABRIC:
        weave = value_noise(u * 1400, v * 1400, s * 1400)
        tone = 0.78 + 0.3 * weave + 0.25 * (fractal_noise(u * 40 + seed, v * 40, s * 40, 2) - 0.5)
        share = max(0.0, m[EXTRA]) * (
            1.0 if value_noise(u * scale, v * scale + seed, s * scale) > 0.62 else 0.0
        )
    elif kind == LIQUID:  # a swirl of the second colour that stirring winds up and blends away
        radius = math.sqrt(u * u + v * v)
        angle = math.atan2(v, u) + m[EXTRA2] * (1.2 - radius * 9.0)
        x, y = radius * math.cos(angle), radius * math.sin(angle)
        blob = (
            value_noise(x * 42 + seed, y * 42, seed)
            + 0.35 * value_noise(x * 110, y * 110 + seed, seed)
            - 0.64
        )
        blob = max(0.0, min(1.0, blob * 9.0))
        share = blob * (1.0 - m[EXTRA]) + 0.42 * m[EXTRA]
    elif kind == FLESH:  # root and sausage skins: rings across the length
        band = max(0.0, value_noise(u * 30, v * 30, s * 260 + seed) - 0.55) * 1.6
        tone = 1.0 - 0.4 * band
    else:
        tone = 0.95 + 0.1 * value_noise(u * 30 + seed, v * 30, s * 30)
    share = max(0.0, min(1.0, share))
    return (
        tone * (r + (m[RED2] - r) * share),
        tone * (g + (m[GREEN2] - g) * share),
        tone * (b + (m[BLUE2] - b) * share),
    )


@njit(fastmath=True, cache=True, nogil=True)
def skin(m: F8, u: float, v: float, s: float, creases: F8, nails: F8) -> tuple[float, float, float, float]:
    """Skin colour at the rest-pose point (u, v, s) in the hand's frame, and how much of a nail it is.

    creases n×6: point and direction along the bone. nails 5×14: centre, three axes, half width, half length.
    """
    seed = m[SEED]
    blotch = fractal_noise(u * 90 + seed, v * 90, s * 90, 3) - 0.5
    pore = value_noise(u * 700, v * 700 + seed, s * 700) - 0.5
    palm = 1.0 / (1.0 + math.exp((v + 0.012 + 0.1 * max(0.0, -s - 0.1)) * 300.0))
    if s > 0.0:
        palm *= max(0.0, 1 - s * 20)
    crease, flush = 0.0, 0.0
    for q in range(creases.shape[0]):
        dx, dy, dz = u - creases[q, 0], v - creases[q, 1], s - creases[q, 2]
        squared = dx * dx + dy * dy + dz * dz
        if squared < 0.0005:
            along = dx * creases[q, 3] + dy * creases[q, 4] + dz * creases[q, 5]
            along += 0.0012 * (value_noise(u * 400, v * 400, s * 400) - 0.5)
            fade = math.exp(-squared / 0.00012)
            crease += fade * math.exp(-((along / 0.0011) ** 2))
            crease += fade * 0.55 * math.exp(-(((along - 0.0032) / 0.0010) ** 2))
            crease += fade * 0.45 * math.exp(-(((along + 0.0034) / 0.0010) ** 2))
            flush += 0.55 * math.exp(-squared / 0.00006) * (1 - palm)  # knuckles are redder
    nail = 0.0
    for q in range(nails.shape[0]):
        dx, dy, dz = u - nails[q, 0], v - nails[q, 1], s - nails[q, 2]
        if dx * dx + dy * dy + dz * dz < 0.0003:
            across = (dx * nails[q, 3] + dy * nails[q, 4] + dz * nails[q, 5]) / nails[q, 12]
            above = dx * nails[q, 6] + dy * nails[q, 7] + dz * nails[q, 8]
            along = (dx * nails[q, 9] + dy * nails[q, 10] + dz * nails[q, 11]) / nails[q, 13]
            if above > -0.001:
                rim = math.sqrt(math.sqrt(across**4 + along**4))
                nail = max(nail, min(1.0, max(0.0, (1.08 - rim) / 0.16)))
                if abs(rim - 1.08) < 0.2:
                    crease += 0.5 * (1 - abs(rim - 1.08) / 0.2)
    tone = 1.0 + 0.22 * blotch + 0.12 * pore
    flush = min(1.0, flush)
    r = m[RED] * tone * (1 - 0.02 * flush)
    g = m[GREEN] * tone * (1 - 0.10 * blotch) * (1 - 0.16 * flush)
    b = m[BLUE] * tone * (1 - 0.14 * blotch) * (1 - 0.16 * flush)
    pale = palm * m[EXTRA2]
    r += (min(1.0, r * 1.25 + 0.06) - r) * pale
    g += (g * 1.12 + 0.03 - g) * pale
    b += (b * 1.12 + 0.03 - b) * pale
    dark = min(1.0, crease) * m[EXTRA]
    r, g, b = r * (1 - 0.30 * dark), g * (1 - 0.42 * dark), b * (1 - 0.45 * dark)
    r += (min(0.95, r * 1.12 + 0.07) - r) * nail
    g += (min(0.90, g * 1.05 + 0.06) - g) * nail
    b += (min(0.90, b * 1.10 + 0.07) - b) * nail
    return r, g, b, nail
