"""Deferred shading: what the nearest surface of every sample looks like. numba, one thread.

Lighting: one key light with a soft shadow map, a sky that fades from above to below, and ambient
occlusion from the depth buffer. Skin has wrapped diffuse light (red spreads furthest, as light does in
tissue), creases over the joints, nails, and a paler palm.
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
    GLOSS,
    GLOW,
    GREEN,
    GREEN2,
    IDENTITY,
    KIND,
    LIQUID,
    METAL,
    RED,
    RED2,
    SCALE,
    SEED,
    SKIN,
    SPECKLE,
    SPECULAR,
    STRIPE,
    TILE,
    WOOD,
)

F8 = npt.NDArray[np.float64]
I4 = npt.NDArray[np.int32]

SHADOW_TAPS, AO_TAPS, TURNS = 5, 6, 32
AO_RADIUS = 0.025  # metres within which neighbours darken a sample
LIFT = 0.003  # metres by which a point leaves its surface before the light is asked for


def _taps() -> tuple[F8, F8]:
    """Sampling discs, TURNS×taps×2, each turn rotated: the shadow's and the occlusion's."""
    rng = np.random.default_rng(5)
    turns = np.arange(TURNS)[:, None] / TURNS * 2 * np.pi
    n = np.arange(SHADOW_TAPS)[None]
    radius, angle = np.sqrt((n + 0.5) / SHADOW_TAPS), turns + n * 2.4  # a sunflower
    shadow = np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1)
    n = np.arange(AO_TAPS)[None]
    radius = 0.15 + 0.85 * ((n * 0.618 + rng.random((TURNS, AO_TAPS))) % 1.0)
    angle = turns + n * 2 * np.pi / AO_TAPS
    return shadow, np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1)


SHADOW_DISC, AO_DISC = _taps()


@njit(fastmath=True, cache=True, inline="always")
def _hash(x: int, y: int, z: int) -> float:
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
    a = _hash(i, j, k) * (1 - u) + _hash(i + 1, j, k) * u
    b = _hash(i, j + 1, k) * (1 - u) + _hash(i + 1, j + 1, k) * u
    c = _hash(i, j, k + 1) * (1 - u) + _hash(i + 1, j, k + 1) * u
    d = _hash(i, j + 1, k + 1) * (1 - u) + _hash(i + 1, j + 1, k + 1) * u
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
def _pattern(m: F8, u: float, v: float, s: float) -> tuple[float, float, float]:
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
            share += 0.35 * (_hash(int(plank), 3, int(seed)) - 0.5)
            if v * m[EXTRA] - plank < 0.025:
                tone = 0.45
    elif kind == SPECKLE:
        coarse = value_noise(u * scale + seed, v * scale, s * scale)
        fine = value_noise(u * scale * 2.3, v * scale * 2.3 + seed, s * scale * 2.3)
        share = max(0.0, min(1.0, (0.6 * coarse + 0.6 * fine - 0.42) * 2.6))
    elif kind == TILE:
        column, row = math.floor(u * scale), math.floor(v * scale)
        tone = 0.85 + 0.3 * _hash(int(column), int(row), int(seed))
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
def _skin(m: F8, u: float, v: float, s: float, creases: F8, nails: F8) -> tuple[float, float, float, float]:
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


@njit(fastmath=True, cache=True, nogil=True)
def _lit(x: float, y: float, depth: float, turn: int, spread: float, shadow: F8, disc: F8) -> float:
    """Share of the key light that reaches a point, given in the shadow map's texels and depth."""
    lit = 0.0
    for q in range(disc.shape[1]):
        sx, sy = int(x + spread * disc[turn, q, 0]), int(y + spread * disc[turn, q, 1])
        if (
            sx < 0
            or sy < 0
            or sx >= shadow.shape[1]
            or sy >= shadow.shape[0]
            or shadow[sy, sx] <= depth + 0.002
        ):
            lit += 1.0
    return lit / disc.shape[1]


@njit(fastmath=True, cache=True, nogil=True)
def _openness(nearness: F8, x: int, y: int, turn: int, radius: float, focal: float, disc: F8) -> float:
    """1 where a sample is in the open, less in corners: neighbours that stand in front within `radius` m."""
    height, width = nearness.shape
    depth = 1.0 / nearness[y, x]
    reach = radius * focal / depth
    hidden = 0.0
    for q in range(disc.shape[1]):
        sx, sy = int(x + reach * disc[turn, q, 0]), int(y + reach * disc[turn, q, 1])
        if 0 <= sx < width and 0 <= sy < height and nearness[sy, sx] > 0.0:
            front = depth - 1.0 / nearness[sy, sx]
            if 0.0025 < front < radius * 2.2:
                hidden += 1.0 - front / (radius * 2.2)
    return 1.0 - 0.75 * hidden / disc.shape[1]


@njit(fastmath=True, cache=True, nogil=True)
def shade(
    redo: npt.NDArray[np.bool_],  # H×W: samples to be shaded, the others stay as they are
    nearness: F8, face: I4, bary_a: F8, bary_b: F8,  # H×W sample buffers
    faces: I4, screen: F8, points: F8, normals: F8, texture: F8,  # T×3, V×3 each
    face_material: I4, materials: F8,  # T, M×15
    eye: F8, light: F8, sky: F8,  # 3; direction 3, highlight, softness in texels, colour 3; above 3, below 3
    shadow: F8, to_shadow: F8, focal: float,
    creases: F8, nails: F8, shadow_disc: F8, ao_disc: F8,
    picture: F8, identity: I4, texel: I4,  # H×W×3, H×W, H×W×2: written
) -> None:  # fmt: skip
    """Linear colour and object id of every sample, and where in the shadow map it looks.

    A sample of a body that stands still depends on its neighbours' nearness within AO_RADIUS, and on the
    shadow map around its texel within the light's softness: where neither changes, it need not be redone.
    """
    height, width = nearness.shape
    lx, ly, lz = light[0], light[1], light[2]
    for y in range(height):
        for x in range(width):
            if not redo[y, x]:
                continue
            t = face[y, x]
            if t < 0:
                texel[y, x, 0], texel[y, x, 1] = 0, 0
                picture[y, x, 0], picture[y, x, 1], picture[y, x, 2] = 0.02, 0.02, 0.022
                identity[y, x] = 0
                continue
            i, j, k = faces[t, 0], faces[t, 1], faces[t, 2]
            w = nearness[y, x]
            a = bary_a[y, x] * screen[i, 2] / w  # perspective-correct
            b = bary_b[y, x] * screen[j, 2] / w
            c = (1.0 - bary_a[y, x] - bary_b[y, x]) * screen[k, 2] / w
            px = a * points[i, 0] + b * points[j, 0] + c * points[k, 0]
            py = a * points[i, 1] + b * points[j, 1] + c * points[k, 1]
            pz = a * points[i, 2] + b * points[j, 2] + c * points[k, 2]
            nx = a * normals[i, 0] + b * normals[j, 0] + c * normals[k, 0]
            ny = a * normals[i, 1] + b * normals[j, 1] + c * normals[k, 1]
            nz = a * normals[i, 2] + b * normals[j, 2] + c * normals[k, 2]
            u = a * texture[i, 0] + b * texture[j, 0] + c * texture[k, 0]
            v = a * texture[i, 1] + b * texture[j, 1] + c * texture[k, 1]
            s = a * texture[i, 2] + b * texture[j, 2] + c * texture[k, 2]
            m = materials[face_material[t]]
            kind = int(m[KIND])
            identity[y, x] = int(m[IDENTITY])
            gloss, specular = m[GLOSS], m[SPECULAR]
            if kind == SKIN:
                red, green, blue, nail = _skin(m, u, v, s, creases, nails)
                gloss += (60.0 - gloss) * nail
                specular += (0.35 - specular) * nail
                grain, e = value_noise(u * 900, v * 900, s * 900), 0.0006
                nx += 0.5 * (value_noise((u + e) * 900, v * 900, s * 900) - grain)
                ny += 0.5 * (value_noise(u * 900, (v + e) * 900, s * 900) - grain)
                nz += 0.5 * (value_noise(u * 900, v * 900, (s + e) * 900) - grain)
            else:
                red, green, blue = _pattern(m, u, v, s)
            length = 1.0 / (math.sqrt(nx * nx + ny * ny + nz * nz) + 1e-9)
            nx, ny, nz = nx * length, ny * length, nz * length
            vx, vy, vz = eye[0] - px, eye[1] - py, eye[2] - pz
            length = 1.0 / math.sqrt(vx * vx + vy * vy + vz * vz)
            vx, vy, vz = vx * length, vy * length, vz * length
            facing = nx * vx + ny * vy + nz * vz
            if facing < 0.0 and kind != SKIN:
                nx, ny, nz, facing = -nx, -ny, -nz, -facing
            facing = max(0.0, facing)
            turn = int(_hash(x, y, 7) * (shadow_disc.shape[0] - 0.01))
            qx, qy, qz = px + nx * LIFT, py + ny * LIFT, pz + nz * LIFT
            sx = to_shadow[0, 0] * qx + to_shadow[0, 1] * qy + to_shadow[0, 2] * qz + to_shadow[0, 3]
            sy = to_shadow[1, 0] * qx + to_shadow[1, 1] * qy + to_shadow[1, 2] * qz + to_shadow[1, 3]
            depth = to_shadow[2, 0] * qx + to_shadow[2, 1] * qy + to_shadow[2, 2] * qz + to_shadow[2, 3]
            texel[y, x, 0], texel[y, x, 1] = int(sx), int(sy)
            lit = _lit(sx, sy, depth, turn, light[4], shadow, shadow_disc)
            ao = _openness(nearness, x, y, turn, AO_RADIUS, focal, ao_disc)
            toward = nx * lx + ny * ly + nz * lz
            hx, hy, hz = lx + vx, ly + vy, lz + vz
            half = max(0.0, nx * hx + ny * hy + nz * hz) / math.sqrt(hx * hx + hy * hy + hz * hz + 1e-9)
            above = 0.5 + 0.5 * nz
            grazing = (1.0 - facing) ** 4
            shine = specular * half**gloss * lit * light[3]
            if kind == SKIN:
                key_r = max(0.0, (toward + 0.35) / 1.35) * (0.12 + 0.88 * lit)
                key_g = max(0.0, (toward + 0.16) / 1.16) * lit
                key_b = max(0.0, (toward + 0.10) / 1.10) * lit
                ao_r = ao**0.8
                shine += 0.06 * grazing * above * ao
            else:
                key_r = key_g = key_b = max(0.0, toward) * lit
                ao_r = ao
                shine += 0.5 * specular * grazing * above * ao
            if kind == METAL:
                rx, rz = 2 * facing * nx - vx, 2 * facing * nz - vz
                mirror = 0.25 + 0.75 * value_noise(rx * 3 + m[SEED], rz * 3, 0.5)
                red, green, blue = red * mirror, green * mirror, blue * mirror
            sky_r = sky[0] * above + sky[3] * (1 - above)
            sky_g = sky[1] * above + sky[4] * (1 - above)
            sky_b = sky[2] * above + sky[5] * (1 - above)
            glow = m[GLOW]
            picture[y, x, 0] = red * (light[5] * key_r + sky_r * ao_r + glow) + shine * light[5] * 0.5
            picture[y, x, 1] = green * (light[6] * key_g + sky_g * ao + glow) + shine * light[6] * 0.5
            picture[y, x, 2] = blue * (light[7] * key_b + sky_b * ao + glow) + shine * light[7] * 0.5
