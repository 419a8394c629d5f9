"""Triangle meshes of simple bodies, rotations, and signed distances. Metres and radians; z is up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Distance = Callable[[Array], Array]  # P×3 points -> P signed distances, negative inside
KEPT_BODIES = 512  # of each kind: props are made of the same few in every frame

EYE = np.eye(3)


@dataclass(frozen=True)
class Mesh:
    """Vertices V×3, faces T×3 (outside is where they turn anticlockwise), texture points V×3."""

    vertices: Array
    faces: npt.NDArray[np.int32]
    texture: Array

    def moved(self, rotation: Array, position: Sequence[float] | Array) -> Mesh:
        """The body turned, then shifted; its texture goes along."""
        return Mesh(self.vertices @ np.asarray(rotation).T + np.asarray(position), self.faces, self.texture)


def mesh(vertices: Array, faces: npt.NDArray[np.integer], texture: Array | None = None) -> Mesh:
    """A mesh whose texture points are its own vertices unless given."""
    vertices = np.asarray(vertices, float)
    return Mesh(vertices, np.asarray(faces, np.int32), vertices if texture is None else texture)


def joined(bodies: Sequence[Mesh]) -> Mesh:
    """Several bodies as one."""
    offsets = np.cumsum([0] + [len(body.vertices) for body in bodies[:-1]])
    return Mesh(
        np.concatenate([body.vertices for body in bodies]),
        np.concatenate([body.faces + offset for body, offset in zip(bodies, offsets, strict=True)]).astype(
            np.int32
        ),
        np.concatenate([body.texture for body in bodies]),
    )


def _shared(body: Mesh) -> Mesh:
    """The mesh, protected from being written to: many things are made of it."""
    for array in (body.vertices, body.faces, body.texture):
        array.flags.writeable = False
    return body


# ----------------------------------------------------------------------------------------- bodies


def grid(width: float, depth: float, cells: int = 12) -> Mesh:
    """A rectangle in the plane z = 0, centred, facing up, of cells×cells squares."""
    u, v = np.meshgrid(np.linspace(-0.5, 0.5, cells + 1), np.linspace(-0.5, 0.5, cells + 1), indexing="ij")
    return sheet(np.stack([u * width, v * depth, np.zeros_like(u)], -1))


def sheet(points: Array, texture: Array | None = None) -> Mesh:
    """A surface through a lattice of points m×n×3."""
    m, n = points.shape[:2]
    a = (np.arange(m - 1)[:, None] * n + np.arange(n - 1)[None]).ravel()
    faces = np.concatenate([np.stack([a, a + n, a + 1], 1), np.stack([a + 1, a + n, a + n + 1], 1)])
    return mesh(points.reshape(-1, 3), faces, None if texture is None else texture.reshape(-1, 3))


@lru_cache(KEPT_BODIES)
def box(width: float, depth: float, height: float, bevel: float = 0.0015) -> Mesh:
    """A box with rounded edges, centred; `bevel` is the width of the rounding.

    Every corner has a vertex for each of its three faces. The vertex normals are weighted by area, so
    the large faces stay flat and the small ones between them read as a rounded edge.
    """
    half = np.array([width, depth, height]) / 2
    bevel = min(bevel, *(half * 0.4))
    vertices: list[Array] = []
    index = {}
    for signs in np.ndindex(2, 2, 2):
        sign = np.array(signs) * 2 - 1
        for axis in range(3):
            inset = np.full(3, bevel)
            inset[axis] = 0.0
            index[signs, axis] = len(vertices)
            vertices.append(sign * (half - inset))
    quads, triangles = [], []
    for axis in range(3):
        p, q = (axis + 1) % 3, (axis + 2) % 3
        for side in (0, 1):  # the six faces
            ring = []
            for sp, sq in ((0, 0), (1, 0), (1, 1), (0, 1)):
                corner = [0, 0, 0]
                corner[axis], corner[p], corner[q] = side, sp, sq
                ring.append(index[tuple(corner), axis])
            quads.append(ring)
        for sp, sq in np.ndindex(2, 2):  # the four edges along this axis
            ends = []
            for end in (0, 1):
                corner = [0, 0, 0]
                corner[axis], corner[p], corner[q] = end, sp, sq
                ends.append(tuple(corner))
            quads.append([index[ends[0], p], index[ends[1], p], index[ends[1], q], index[ends[0], q]])
    for signs in np.ndindex(2, 2, 2):
        triangles.append([index[signs, 0], index[signs, 1], index[signs, 2]])
    faces = np.array([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))] + triangles)
    points = np.array(vertices)
    normal = np.cross(points[faces[:, 1]] - points[faces[:, 0]], points[faces[:, 2]] - points[faces[:, 0]])
    inward = np.einsum("ij,ij->i", normal, points[faces].mean(1)) < 0  # convex: outside is away from 0
    faces[inward] = faces[inward][:, ::-1]
    return _shared(mesh(points, faces))


def lathe(*profiles: Sequence[tuple[float, float]], segments: int = 28) -> Mesh:
    """A body of revolution about z. Each profile is a run of (radius, z), outside on its right-hand side
    when walked from the bottom up; a new profile starts a sharp edge."""
    return _lathe(tuple(tuple(profile) for profile in profiles), segments)


@lru_cache(KEPT_BODIES)
def _lathe(profiles: tuple[tuple[tuple[float, float], ...], ...], segments: int) -> Mesh:
    angle = np.linspace(0, 2 * np.pi, segments, endpoint=False)
    bodies = []
    for profile in profiles:
        r, z = np.array(profile, float).T
        rings = np.stack(
            [np.outer(r, np.cos(angle)), np.outer(r, np.sin(angle)), np.outer(z, 1 + 0 * angle)], -1
        )
        row, column = np.arange(len(r) - 1)[:, None] * segments, np.arange(segments)[None]
        following = (column + 1) % segments
        a, b = (row + column).ravel(), (row + following).ravel()
        faces = np.concatenate(
            [np.stack([a, b, a + segments], 1), np.stack([b, b + segments, a + segments], 1)]
        )
        bodies.append(mesh(rings.reshape(-1, 3), faces))
    return _shared(joined(bodies))


def cylinder(radius: float, height: float, segments: int = 24) -> Mesh:
    """A closed cylinder that stands on z = 0."""
    return lathe(
        [(0, 0), (radius, 0)],
        [(radius, 0), (radius, height)],
        [(radius, height), (0, height)],
        segments=segments,
    )


def rod(
    start: Sequence[float] | Array, end: Sequence[float] | Array, radius: float, segments: int = 14
) -> Mesh:
    """A closed cylinder from one point to another."""
    a, b = np.asarray(start, float), np.asarray(end, float)
    body = cylinder(radius, float(np.linalg.norm(b - a)), segments)
    return body.moved(upright(b - a), a)


def disc(radius: float, segments: int = 28) -> Mesh:
    """A disc in the plane z = 0, facing up."""
    return lathe([(radius, 0), (0, 0)], segments=segments)


# -------------------------------------------------------------------------------------- rotations


def unit(vector: Sequence[float] | Array) -> Array:
    """The vector at length 1."""
    vector = np.asarray(vector, float)
    return vector / np.linalg.norm(vector)


def turn(axis: str | Sequence[float] | Array, angle: float) -> Array:
    """Rotation matrix about an axis ("x", "y", "z" or a vector), right-handed."""
    x, y, z = EYE["xyz".index(axis)] if isinstance(axis, str) else unit(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return EYE + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def rotation_vector(rotation: Array) -> Array:
    """Axis times angle of a rotation matrix."""
    w = np.sqrt(max(0.0, 1 + np.trace(rotation))) / 2
    skew = np.array(
        [
            rotation[2, 1] - rotation[1, 2],
            rotation[0, 2] - rotation[2, 0],
            rotation[1, 0] - rotation[0, 1],
        ]
    )
    if w < 1e-4:  # half a turn: the axis is the largest column of R + 1
        column = (rotation + EYE)[:, int(np.argmax(np.diag(rotation)))]
        return np.pi * unit(column)
    sine = np.linalg.norm(skew) / (4 * w)
    angle = 2 * np.arctan2(sine, w)
    return skew / 2 if angle < 1e-6 else unit(skew) * angle


def between(a: Array, b: Array, share: float) -> Array:
    """The rotation a share of the way from one rotation to another, by the shortest arc."""
    vector = rotation_vector(b @ a.T)
    angle = float(np.linalg.norm(vector))
    return a if angle < 1e-9 else turn(vector, share * angle) @ a


def upright(direction: Sequence[float] | Array) -> Array:
    """A rotation that takes +z to `direction`."""
    z = unit(direction)
    x = unit(np.cross([0.0, 1.0, 0.0] if abs(z[1]) < 0.9 else [1.0, 0.0, 0.0], z))
    return np.stack([x, np.cross(z, x), z], 1)


def smallest_turn(a: Array, b: Array) -> Array:
    """The rotation with the smallest angle that takes direction a to direction b."""
    a, b = unit(a), unit(b)
    axis = np.cross(a, b)
    if np.linalg.norm(axis) < 1e-9:
        return EYE if a @ b > 0 else turn(np.cross(a, upright(a)[:, 0]), np.pi)
    return turn(axis, float(np.arctan2(np.linalg.norm(axis), a @ b)))


def look_at(eye: Array, target: Array, roll: float = 0.0) -> Array:
    """World-to-camera rotation; rows are the picture's right, down, and the viewing direction."""
    forward = unit(np.asarray(target) - eye)
    right = unit(np.cross(forward, [0.0, 0.0, 1.0]))
    up = np.cross(right, forward)
    c, s = np.cos(roll), np.sin(roll)
    return np.stack([c * right + s * up, s * right - c * up, forward])


# ------------------------------------------------------------------------------- signed distances


def to_cylinder(
    centre: Sequence[float] | Array, axis: Sequence[float] | Array, radius: float, half: float
) -> Distance:
    """Distance to a cylinder of half-length `half` about `centre`."""
    centre, axis = np.asarray(centre, float), unit(axis)

    def distance(points: Array) -> Array:
        offset = points - centre
        along = offset @ axis
        side = np.linalg.norm(offset - along[:, None] * axis, axis=1) - radius
        end = np.abs(along) - half
        return np.minimum(np.maximum(side, end), 0) + np.hypot(np.maximum(side, 0), np.maximum(end, 0))

    return distance


def to_box(centre: Sequence[float] | Array, half: Sequence[float] | Array, rotation: Array = EYE) -> Distance:
    """Distance to a box with half-sides `half`, turned by `rotation`."""
    centre, half = np.asarray(centre, float), np.asarray(half, float)

    def distance(points: Array) -> Array:
        q = np.abs((points - centre) @ rotation) - half
        return np.linalg.norm(np.maximum(q, 0), axis=1) + np.minimum(q.max(1), 0)

    return distance
