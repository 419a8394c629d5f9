"""From a stage of bodies, a light and a camera to linear pictures, id maps and depth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from handi.core.types import Picture
from handi.world.geometry import Array, Mesh, unit
from handi.world.materials import Material
from handi.world.raster import BEHIND, rasterise, rasterise_height, vertex_normals
from handi.world.shade import AO_DISC, AO_RADIUS, SHADOW_DISC, shade

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


@dataclass
class _Shaded:
    """The last frame's samples: what of them nothing has touched since looks the same in the next."""

    camera: Camera
    nearness: Array
    shadow: Array
    texel: npt.NDArray[np.int32]  # H×W×2: where in the shadow map a sample looks
    picture: Array  # H×W×3
    identity: npt.NDArray[np.int32]


@dataclass
class Renderer:
    """Draws the frames of a clip: what stands still is packed once, what moves comes with each frame.

    Samples that nothing has touched since the last frame are not shaded again; that changes no pixel.
    """

    still: Sequence[Part]
    light: Light
    skin: Skin
    size: int
    supersample: int = 2
    _packed: _Packed = field(init=False, repr=False)
    _base: tuple[Camera, Array, _Buffers] | None = field(default=None, init=False, repr=False)
    _last: _Shaded | None = field(default=None, init=False, repr=False)

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
        front = local[:, 2] > 0.02
        depth = np.where(front, local[:, 2], 1.0)
        side = self.size * self.supersample
        where = camera.focal(side) * local[:, :2] / depth[:, None] + side / 2
        return np.concatenate([where, np.where(front, 1 / depth, 2 * BEHIND)[:, None]], 1)

    def _still_buffers(self, camera: Camera) -> tuple[Array, _Buffers]:
        """Screen positions and sample buffers of all that stands still, kept while the camera is the same."""
        if self._base is None or self._base[0] is not camera:
            side = self.size * self.supersample
            screen = self._to_screen(camera, self._packed.vertices)
            empty, nothing = np.zeros((side, side)), np.full((side, side), -1, np.int32)
            buffers = (empty, nothing, empty.copy(), empty.copy())
            rasterise(screen, self._packed.faces, 0, *buffers)
            self._base = (camera, screen, buffers)
        return self._base[1:]

    def frame(self, camera: Camera, moving: Sequence[Part]) -> View:
        """Draw the stage with the bodies that move, as seen by `camera`."""
        still = self._packed
        move = _Packed.of(moving, len(still.vertices), len(still.rows))
        screen, base = self._still_buffers(camera)
        nearness, face, bary_a, bary_b = base[0].copy(), base[1].copy(), base[2].copy(), base[3].copy()
        move_screen = self._to_screen(camera, move.vertices)
        screen = np.concatenate([screen, move_screen])
        rasterise(screen, move.faces, len(still.faces), nearness, face, bary_a, bary_b)
        shadow = self._shadow.copy()
        rasterise_height(self._from_light(move.vertices), move.casting, shadow)
        side = self.size * self.supersample
        if (last := self._last) is not None and last.camera is camera:
            redo = self._touched(last, camera, nearness, shadow) | (face >= len(still.faces))
            samples, identity, texel = last.picture, last.identity, last.texel
        else:
            redo = np.ones((side, side), bool)
            samples, identity = np.empty((side, side, 3)), np.empty((side, side), np.int32)
            texel = np.empty((side, side, 2), np.int32)
        shade(
            redo, nearness, face, bary_a, bary_b,
            np.concatenate([still.faces, move.faces]), screen,
            np.concatenate([still.vertices, move.vertices]),
            np.concatenate([still.normals, move.normals]),
            np.concatenate([still.texture, move.texture]),
            np.concatenate([still.material, move.material]), np.concatenate([still.rows, move.rows]),
            camera.eye, self._light_row, self._sky_row, shadow, self._to_shadow, camera.focal(side),
            self.skin.creases, self.skin.nails, SHADOW_DISC, AO_DISC, samples, identity, texel,
        )  # fmt: skip
        self._last = _Shaded(camera, nearness, shadow, texel, samples, identity)
        n = self.supersample
        picture = samples.reshape(self.size, n, self.size, n, 3).mean((1, 3))
        middle = (slice(n // 2, None, n), slice(n // 2, None, n))
        with np.errstate(divide="ignore"):
            depth = 1 / nearness[middle]
        return View(picture, identity[middle].copy(), depth)

    def _touched(
        self, last: _Shaded, camera: Camera, nearness: Array, shadow: Array
    ) -> npt.NDArray[np.bool_]:
        """Samples H×W of still bodies whose neighbourhood or shadow is not the last frame's: see `shade`."""
        side = len(nearness)
        reach = AO_RADIUS * camera.focal(side) * float(self._still_buffers(camera)[1][0].max())
        touched = _grown(nearness != last.nearness, reach)
        darkened = _grown(shadow != last.shadow, self._light_row[4])
        x, y = last.texel[..., 0], last.texel[..., 1]
        return touched | darkened[y.clip(0, SHADOW_TEXELS - 1), x.clip(0, SHADOW_TEXELS - 1)]


def _grown(spots: npt.NDArray[np.bool_], reach: float) -> npt.NDArray[np.bool_]:
    """Spots H×W grown by `reach` samples, and one more for rounding, all round."""
    size = 2 * (math.ceil(reach) + 1) + 1
    return cv2.dilate(spots.view(np.uint8), np.ones((size, size), np.uint8)).view(bool)


# ------------------------------------------------------------------------------------ development


def tone_map(picture: Array) -> Array:
    """Linear light -> display value in [0, 1]: a soft shoulder, then gamma 2.2."""
    shoulder = picture / (1 + 0.18 * picture * picture)
    return np.clip(shoulder, 0, 1) ** (1 / 2.2)


def exposure_for(picture: Array, mean: float) -> float:
    """Gain that brings a linear picture's developed mean to `mean`, within a factor of four."""
    low, high = 0.25, 4.0
    for _ in range(12):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if tone_map(picture * middle).mean() < mean else (low, middle)
    return (low * high) ** 0.5


def develop(picture: Array, gain: float) -> Array:
    """Linear H×W×3 -> display values in [0, 1] behind the lens: its blur, then the tone curve."""
    sigma = 0.45 if picture.shape[0] < 200 else 0.6
    return tone_map(np.maximum(cv2.GaussianBlur(picture * gain, (0, 0), sigma), 0))


def digitise(developed: Array, rng: np.random.Generator | None = None, noise: float = 0.008) -> Picture:
    """Display values H×W×3 -> uint8, with a sensor's noise where there is an rng."""
    if rng is not None:
        developed = developed + rng.normal(0, noise, developed.shape)
    return (np.clip(developed, 0, 1) * 255 + 0.5).astype(np.uint8)
