"""From a stage of bodies, a light and a camera to linear pictures, id maps and depth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from handi.world.geometry import Array, Mesh, unit
from handi.world.materials import Material
from handi.world.raster import extent, rasterise, rasterise_height, to_samples, vertex_normals
from handi.world.shade import (
    ANEW,
    AO_DISC,
    AO_RADIUS,
    SHADOW_DISC,
    TERMS,
    illuminate,
    outdate,
    resolve,
    surface,
)

SHADOW_TEXELS = 640
SHADOW_SIDE = 1.1  # metres that the shadow map covers
SHADOW_CENTRE = np.array([0.0, 0.12, 0.05])


@dataclass(frozen=True)
class Part:
    """A body on the stage: what the id map calls it, and whether it throws a shadow."""

    mesh: Mesh
    material: Material
    identity: int
    casts: bool = True


@dataclass(frozen=True)
class Light:
    """One key light (direction towards it, colour, blur of its shadow in metres) and a sky."""

    direction: Array
    colour: Array
    softness: float
    above: Array
    below: Array


@dataclass(frozen=True)
class Camera:
    """A pinhole camera that looks square pictures. `rotation` rows: right, down, viewing direction."""

    eye: Array
    rotation: Array
    fov: float  # of the picture's side, radians

    def focal(self, size: int) -> float:
        """Focal length in pixels of a size×size picture."""
        return 0.5 * size / float(np.tan(self.fov / 2))

    def project(self, points: Array, size: int) -> tuple[Array, Array]:
        """World points ...×3 -> pixels ...×2 (x right, y down, 0 at the edge) and depths ... in metres."""
        local = (points - self.eye) @ self.rotation.T
        depth = local[..., 2]
        return self.focal(size) * local[..., :2] / depth[..., None] + size / 2, depth


@dataclass(frozen=True)
class Skin:
    """Where creases and nails lie in the hand's rest pose; see the shader."""

    creases: Array
    nails: Array


@dataclass(frozen=True)
class View:
    """One rendered frame: linear colour H×W×3, object ids H×W, depth H×W in metres (inf where empty)."""

    picture: Array
    identity: npt.NDArray[np.int32]
    depth: Array


@dataclass
class _Packed:
    """Bodies as one set of arrays."""

    vertices: Array
    faces: npt.NDArray[np.int32]
    normals: Array
    texture: Array
    material: npt.NDArray[np.int32]
    rows: Array
    casting: npt.NDArray[np.int32]

    @property
    def arrays(self) -> list[npt.NDArray[Any]]:
        """What the shader reads of the bodies, beside their places on the screen."""
        return [self.vertices, self.normals, self.texture, self.faces, self.material, self.rows]

    @classmethod
    def of(cls, parts: Sequence[Part], first_vertex: int = 0, first_row: int = 0) -> _Packed:
        """Pack; vertex and material numbers start where another set ends."""
        sizes = [len(part.mesh.vertices) for part in parts]
        starts = np.cumsum([0, *sizes])
        vertices = np.concatenate([part.mesh.vertices for part in parts])
        local = [part.mesh.faces + start for part, start in zip(parts, starts, strict=False)]
        faces = np.concatenate(local).astype(np.int32)
        normals = np.empty_like(vertices)
        vertex_normals(vertices, faces, normals)
        casting = [f for part, f in zip(parts, local, strict=True) if part.casts]
        return cls(
            vertices,
            faces + np.int32(first_vertex),
            normals,
            np.concatenate([part.mesh.texture for part in parts]),
            np.repeat(np.arange(len(parts)) + first_row, [len(p.mesh.faces) for p in parts]).astype(np.int32),
            np.stack([part.material.row(part.identity) for part in parts]),
            (np.concatenate(casting) if casting else np.empty((0, 3))).astype(np.int32),
        )


# Nearness, face, and two barycentric coordinates of every sample.
_Buffers = tuple[Array, npt.NDArray[np.int32], Array, Array]
_Window = tuple[int, int, int, int]  # top, bottom, left, right of a part of a picture or a shadow map
_Spots = tuple[npt.NDArray[np.uint8], int, int]  # a window's map, 1 at spots, and its top and left


@dataclass
class _Kept:
    """What one camera's last frame leaves for its next."""

    camera: Camera
    base: _Buffers  # of all that stands still
    reach: float  # samples within which neighbours darken one of these
    drawn: _Buffers  # of the last frame
    shadow: Array  # of the last frame
    stage: list[npt.NDArray[Any]]  # the bodies' arrays, those that stand still first
    terms: Array  # side×side×TERMS
    samples: Array  # side×side×3, linear light
    identity: npt.NDArray[np.int32]
    texel: npt.NDArray[np.int32]  # side×side×2: where in the shadow map a sample looks
    picture: Array  # H×W×3
    work: npt.NDArray[np.uint8]  # side×side: what was done about a sample
    window: _Window | None = None  # of the samples that moving things have drawn; None before the first frame
    shade: _Window = (0, 0, 0, 0)  # of the texels, likewise


@dataclass
class Renderer:
    """Draws the frames of a clip: what stands still is drawn once, what moves comes with each frame.

    Of what stands still only that is lit again near which something has changed, and only that is given its
    colours again which something has uncovered; that changes no pixel.
    """

    still: Sequence[Part]
    light: Light
    skin: Skin
    size: int
    supersample: int = 2
    _packed: _Packed = field(init=False, repr=False)
    _kept: _Kept | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self._packed = _Packed.of(self.still)
        towards = unit(self.light.direction)
        side = unit(np.cross([0.0, 1.0, 0.0] if abs(towards[2]) > 0.9 else [0.0, 0.0, 1.0], towards))
        scale = SHADOW_TEXELS / SHADOW_SIDE
        axes = np.stack([side * scale, np.cross(towards, side) * scale, towards])
        offset = np.array([SHADOW_TEXELS / 2, SHADOW_TEXELS / 2, 0.0]) - axes @ SHADOW_CENTRE
        self._to_shadow = np.concatenate([axes, offset[:, None]], 1)
        self._shadow = np.full((SHADOW_TEXELS, SHADOW_TEXELS), -1e3)
        rasterise_height(self._from_light(self._packed.vertices), self._packed.casting, self._shadow)
        self._light_row = np.array([*towards, 1.0, self.light.softness * scale, *self.light.colour])
        self._sky_row = np.concatenate([self.light.above, self.light.below])

    def _from_light(self, points: Array) -> Array:
        return points @ self._to_shadow[:, :3].T + self._to_shadow[:, 3]

    def _to_screen(self, camera: Camera, points: Array) -> Array:
        """Points V×3 -> sample position and inverse depth V×3."""
        local = (points - camera.eye) @ camera.rotation.T
        side = self.size * self.supersample
        to_samples(local, camera.focal(side), side / 2)
        return local

    def _begun(self, camera: Camera) -> _Kept:
        """All that stands still, as a camera sees it."""
        still, side = self._packed, self.size * self.supersample
        screen = self._to_screen(camera, still.vertices)
        empty, nothing = np.zeros((side, side)), np.full((side, side), -1, np.int32)
        base = (empty, nothing, empty.copy(), empty.copy())
        rasterise(screen, still.faces, 0, *base)
        return _Kept(
            camera, base, AO_RADIUS * camera.focal(side) * float(base[0].max()),
            (base[0].copy(), base[1].copy(), base[2].copy(), base[3].copy()), self._shadow.copy(),
            [screen, *still.arrays], np.empty((side, side, TERMS)), np.empty((side, side, 3)),
            np.empty((side, side), np.int32), np.empty((side, side, 2), np.int32),
            np.empty((self.size, self.size, 3)), np.full((side, side), ANEW, np.uint8),
        )  # fmt: skip

    def frame(self, camera: Camera, moving: Sequence[Part]) -> View:
        """Draw the stage with the bodies that move, as seen by `camera`."""
        still, side = self._packed, self.size * self.supersample
        if self._kept is None or self._kept.camera is not camera:
            self._kept = self._begun(camera)
        kept = self._kept
        move = _Packed.of(moving, len(still.vertices), len(still.rows))
        own = [self._to_screen(camera, move.vertices), *move.arrays]
        base = [kept.stage[0][: len(still.vertices)], *still.arrays]
        kept.stage = [_followed(*arrays) for arrays in zip(kept.stage, base, own, strict=True)]
        screen, vertices, normals, texture, faces, material, rows = kept.stage

        drawn = _window(own[0], side)
        near, before = self._draw(kept, drawn, screen, move.faces)
        shade = _window(lit := self._from_light(move.vertices), SHADOW_TEXELS)
        dark = self._cast(kept, shade, lit, move.casting)
        if kept.window is not None:
            outdate(
                kept.work, kept.drawn[1], before, len(still.faces), *near, *dark, kept.texel, SHADOW_TEXELS
            )
        kept.window, kept.shade = drawn, shade

        nearness, face, bary_a, bary_b = kept.drawn
        surface(
            kept.work, nearness, face, bary_a, bary_b,
            faces, screen, vertices, normals, texture, material, rows,
            camera.eye, self._light_row, self._sky_row, self._to_shadow, self.skin.creases, self.skin.nails,
            kept.terms, kept.identity, kept.texel,
        )  # fmt: skip
        illuminate(
            kept.work, nearness, kept.terms, kept.shadow, self._light_row[4], camera.focal(side),
            SHADOW_DISC, AO_DISC, kept.samples,
        )  # fmt: skip
        resolve(kept.work, kept.samples, kept.picture)
        n = self.supersample
        middle = (slice(n // 2, None, n), slice(n // 2, None, n))
        with np.errstate(divide="ignore"):
            depth = 1 / nearness[middle]
        return View(kept.picture.copy(), kept.identity[middle].copy(), depth)

    def _draw(
        self, kept: _Kept, window: _Window, screen: Array, faces: npt.NDArray[np.int32]
    ) -> tuple[_Spots, npt.NDArray[np.int32]]:
        """Draw what moves over what stands still: where samples see other neighbours than in the last frame,
        and the last frame's faces."""
        both = _cut(_union(kept.window, window))
        before, nearness = kept.drawn[1].copy(), kept.drawn[0][both].copy()
        buffers: tuple[npt.NDArray[Any], ...] = kept.drawn
        bases: tuple[npt.NDArray[Any], ...] = kept.base
        for buffer, base in zip(buffers, bases, strict=True):
            buffer[both] = base[both]
        rasterise(screen, faces, len(self._packed.faces), *kept.drawn)
        spots = kept.drawn[0][both] != nearness
        return _grown(spots, both, kept.reach, len(kept.work)), before

    def _cast(self, kept: _Kept, window: _Window, points: Array, faces: npt.NDArray[np.int32]) -> _Spots:
        """Cast the shadows of what moves: texels around which the shadow is not the last frame's."""
        both = _cut(_union(kept.shade, window))
        before = kept.shadow[both].copy()
        kept.shadow[both] = self._shadow[both]
        rasterise_height(points, faces, kept.shadow)
        return _grown(kept.shadow[both] != before, both, self._light_row[4], SHADOW_TEXELS)


def _followed(kept: npt.NDArray[Any], still: npt.NDArray[Any], own: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """One array after the other, in `kept` where that has room for both and so begins with `still`."""
    if len(kept) != len(still) + len(own):
        return np.concatenate([still, own])
    kept[len(still) :] = own
    return kept


def _window(points: Array, side: int) -> _Window:
    """The part of a side×side map that the bodies of points P×3 (x, y, and how near) may cover."""
    left, top, right, bottom = extent(points)
    if left > right:
        return 0, 0, 0, 0
    first = [min(max(math.floor(q), 0), side) for q in (top, left)]
    last = [min(max(math.ceil(q), 0), side) for q in (bottom, right)]
    return first[0], last[0], first[1], last[1]


def _union(a: _Window | None, b: _Window) -> _Window:
    """The smallest window around two, of which one may be empty."""
    if a is None or a[0] >= a[1] or a[2] >= a[3]:
        return b
    if b[0] >= b[1] or b[2] >= b[3]:
        return a
    return min(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), max(a[3], b[3])


def _cut(window: _Window) -> tuple[slice, slice]:
    return slice(window[0], window[1]), slice(window[2], window[3])


def _grown(spots: npt.NDArray[np.bool_], window: tuple[slice, slice], reach: float, side: int) -> _Spots:
    """Spots of a window, grown by `reach` samples all round, and by one more for rounding."""
    margin = math.ceil(reach) + 1
    top, left = (max(0, edge.start - margin) for edge in window)
    bottom, right = (min(side, edge.stop + margin) for edge in window)
    field = np.zeros((bottom - top, right - left), np.uint8)
    if spots.size:
        y, x = window[0].start - top, window[1].start - left
        field[y : y + len(spots), x : x + spots.shape[1]] = spots
        field = cv2.dilate(field, np.ones((2 * margin + 1, 2 * margin + 1), np.uint8))
    return field, top, left
