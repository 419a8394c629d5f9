"""Deferred shading: what the nearest surface of every sample looks like. numba, one thread.

Lighting: one key light with a soft shadow map, a sky that fades from above to below, and ambient
occlusion from the depth buffer. Skin has wrapped diffuse light (red spreads furthest, as light does in
tissue).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

from handi.world.materials import GLOSS, GLOW, IDENTITY, KIND, METAL, SEED, SKIN, SPECULAR
from handi.world.textures import hashed, pattern, skin, value_noise

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


# What of a sample is independent of its neighbours and of the shadow map: how the key light, the sky's
# share and what glows add up to its colour, and where in the shadow map it looks.
KEY_R, KEY_G, KEY_B, SKY_R, SKY_G, SKY_B, OWN_R, OWN_G, OWN_B, SOFT_R = range(10)
SHADOW_X, SHADOW_Y, SHADOW_Z = range(10, 13)
LIT, OPEN = 13, 14  # and what does depend on them: the shares of the key light and of the sky that reach it
TERMS = 15
# What is to be done about a sample: nothing, look for neighbours again, for its shadow, both, or all.
KEEP, NEIGHBOURS, SHADOW, BOTH, ANEW = range(5)


@njit(fastmath=True, cache=True, nogil=True)
def surface(
    work: npt.NDArray[np.uint8],  # H×W: only samples that are ANEW are looked at
    nearness: F8, face: I4, bary_a: F8, bary_b: F8,  # H×W sample buffers
    faces: I4, screen: F8, points: F8, normals: F8, texture: F8,  # T×3, V×3 each
    face_material: I4, materials: F8,  # T, M×15
    eye: F8, light: F8, sky: F8,  # 3; direction 3, highlight, softness in texels, colour 3; above 3, below 3
    to_shadow: F8, creases: F8, nails: F8,
    terms: F8, identity: I4, texel: I4,  # H×W×TERMS, H×W, H×W×2: written
) -> None:  # fmt: skip
    """The terms of the samples' colours, their object ids, and the texels of the shadow map they look at."""
    height, width = nearness.shape
    lx, ly, lz = light[0], light[1], light[2]
    for y in range(height):
        for x in range(width):
            if work[y, x] != ANEW:
                continue
            out = terms[y, x]
            t = face[y, x]
            if t < 0:
                texel[y, x, 0], texel[y, x, 1] = 0, 0
                out[:] = 0.0
                out[OWN_R], out[OWN_G], out[OWN_B] = 0.02, 0.02, 0.022
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
                red, green, blue, nail = skin(m, u, v, s, creases, nails)
                gloss += (60.0 - gloss) * nail
                specular += (0.35 - specular) * nail
                grain, e = value_noise(u * 900, v * 900, s * 900), 0.0006
                nx += 0.5 * (value_noise((u + e) * 900, v * 900, s * 900) - grain)
                ny += 0.5 * (value_noise(u * 900, (v + e) * 900, s * 900) - grain)
                nz += 0.5 * (value_noise(u * 900, v * 900, (s + e) * 900) - grain)
            else:
                red, green, blue = pattern(m, u, v, s)
            length = 1.0 / (math.sqrt(nx * nx + ny * ny + nz * nz) + 1e-9)
            nx, ny, nz = nx * length, ny * length, nz * length
            vx, vy, vz = eye[0] - px, eye[1] - py, eye[2] - pz
            length = 1.0 / math.sqrt(vx * vx + vy * vy + vz * vz)
            vx, vy, vz = vx * length, vy * length, vz * length
            facing = nx * vx + ny * vy + nz * vz
            if facing < 0.0 and kind != SKIN:
                nx, ny, nz, facing = -nx, -ny, -nz, -facing
            facing = max(0.0, facing)
            qx, qy, qz = px + nx * LIFT, py + ny * LIFT, pz + nz * LIFT
            sx = to_shadow[0, 0] * qx + to_shadow[0, 1] * qy + to_shadow[0, 2] * qz + to_shadow[0, 3]
            sy = to_shadow[1, 0] * qx + to_shadow[1, 1] * qy + to_shadow[1, 2] * qz + to_shadow[1, 3]
            depth = to_shadow[2, 0] * qx + to_shadow[2, 1] * qy + to_shadow[2, 2] * qz + to_shadow[2, 3]
            texel[y, x, 0], texel[y, x, 1] = int(sx), int(sy)
            toward = nx * lx + ny * ly + nz * lz
            hx, hy, hz = lx + vx, ly + vy, lz + vz
            half = max(0.0, nx * hx + ny * hy + nz * hz) / math.sqrt(hx * hx + hy * hy + hz * hz + 1e-9)
            above = 0.5 + 0.5 * nz
            shine = 0.5 * specular * half**gloss * light[3]
            sheen = 0.5 * (1.0 - facing) ** 4 * above * (0.06 if kind == SKIN else 0.5 * specular)
            if kind == METAL:
                rx, rz = 2 * facing * nx - vx, 2 * facing * nz - vz
                mirror = 0.25 + 0.75 * value_noise(rx * 3 + m[SEED], rz * 3, 0.5)
                red, green, blue = red * mirror, green * mirror, blue * mirror
            sky_r = red * (sky[0] * above + sky[3] * (1 - above))
            sky_g = green * (sky[1] * above + sky[4] * (1 - above))
            sky_b = blue * (sky[2] * above + sky[5] * (1 - above))
            glow = m[GLOW]
            out[OWN_R], out[OWN_G], out[OWN_B] = red * glow, green * glow, blue * glow
            if kind == SKIN:
                key_r = red * max(0.0, (toward + 0.35) / 1.35)
                out[OWN_R] += 0.12 * key_r * light[5]
                key_r *= 0.88
                key_g = green * max(0.0, (toward + 0.16) / 1.16)
                key_b = blue * max(0.0, (toward + 0.10) / 1.10)
                out[SOFT_R], sky_r = sky_r, 0.0
            else:
                toward = max(0.0, toward)
                key_r, key_g, key_b = red * toward, green * toward, blue * toward
                out[SOFT_R] = 0.0
            out[KEY_R], out[SKY_R] = (key_r + shine) * light[5], sky_r + sheen * light[5]
            out[KEY_G], out[SKY_G] = (key_g + shine) * light[6], sky_g + sheen * light[6]
            out[KEY_B], out[SKY_B] = (key_b + shine) * light[7], sky_b + sheen * light[7]
            out[SHADOW_X], out[SHADOW_Y], out[SHADOW_Z] = sx, sy, depth


@njit(fastmath=True, cache=True, nogil=True)
def illuminate(
    work: npt.NDArray[np.uint8],  # H×W: samples to KEEP stay as they are
    nearness: F8, terms: F8,  # H×W, H×W×TERMS: LIT and OPEN are written
    shadow: F8, softness: float, focal: float, shadow_disc: F8, ao_disc: F8,
    samples: F8,  # H×W×3: written
) -> None:  # fmt: skip
    """Linear colour of the samples, from their terms.

    It depends on the neighbours' nearness within AO_RADIUS, and on the shadow map around the sample's texel
    within the light's softness (in texels): where neither changes, it need not be done again.
    """
    height, width = nearness.shape
    for y in range(height):
        for x in range(width):
            if work[y, x] == KEEP:
                continue
            out, own = samples[y, x], terms[y, x]
            if nearness[y, x] <= 0.0:
                out[0], out[1], out[2] = own[OWN_R], own[OWN_G], own[OWN_B]
                continue
            turn = int(hashed(x, y, 7) * (shadow_disc.shape[0] - 0.01))
            if work[y, x] != NEIGHBOURS:
                tx, ty, tz = own[SHADOW_X], own[SHADOW_Y], own[SHADOW_Z]
                own[LIT] = _lit(tx, ty, tz, turn, softness, shadow, shadow_disc)
            if work[y, x] != SHADOW:
                own[OPEN] = _openness(nearness, x, y, turn, AO_RADIUS, focal, ao_disc)
            lit, ao = own[LIT], own[OPEN]
            soft = own[SOFT_R] * ao**0.8 if own[SOFT_R] != 0.0 else 0.0
            out[0] = own[OWN_R] + own[KEY_R] * lit + own[SKY_R] * ao + soft
            out[1] = own[OWN_G] + own[KEY_G] * lit + own[SKY_G] * ao
            out[2] = own[OWN_B] + own[KEY_B] * lit + own[SKY_B] * ao


@njit(cache=True, nogil=True)
def outdate(
    work: npt.NDArray[np.uint8],  # H×W: written
    face: I4, before: I4, still: int,  # H×W, now and in the last frame; faces of still bodies come first
    near: npt.NDArray[np.uint8], near_top: int, near_left: int,  # window of samples: neighbours have changed
    dark: npt.NDArray[np.uint8], dark_top: int, dark_left: int,  # window of texels: the shadow has changed
    texel: I4, texels: int,  # H×W×2; side of the shadow map
) -> None:  # fmt: skip
    """Say what is to be done about every sample since the last frame."""
    for y in range(face.shape[0]):
        for x in range(face.shape[1]):
            f = face[y, x]
            if f >= still or f != before[y, x]:
                work[y, x] = ANEW
                continue
            work[y, x] = KEEP
            row, column = y - near_top, x - near_left
            if 0 <= row < near.shape[0] and 0 <= column < near.shape[1] and near[row, column]:
                work[y, x] += NEIGHBOURS
            row = min(max(texel[y, x, 1], 0), texels - 1) - dark_top
            column = min(max(texel[y, x, 0], 0), texels - 1) - dark_left
            if 0 <= row < dark.shape[0] and 0 <= column < dark.shape[1] and dark[row, column]:
                work[y, x] += SHADOW


@njit(cache=True, nogil=True)
def resolve(work: npt.NDArray[np.uint8], samples: F8, picture: F8) -> None:
    """Average the n×n samples of every pixel of which one has been worked on: (n·H)×(n·W)×3 to H×W×3."""
    n = samples.shape[0] // picture.shape[0]
    for y in range(picture.shape[0]):
        for x in range(picture.shape[1]):
            touched = False
            for j in range(n):
                for i in range(n):
                    touched = touched or work[y * n + j, x * n + i] != KEEP
            if not touched:
                continue
            for c in range(3):
                total = 0.0
                for j in range(n):
                    for i in range(n):
                        total += samples[y * n + j, x * n + i, c]
                picture[y, x, c] = total / (n * n)
