"""The hand as a body: a mesh grown around the rest skeleton, bent and scaled by the bones (skinning).

The rest mesh is the zero level of a signed distance field: round cones along the bones, smoothly joined,
with thenar and hypothenar pads and the whole forearm in one piece, so that no seam shows at the wrist.
It is built once in a process (about two seconds) and shared by all hands.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter
from skimage.measure import marching_cubes

from handi.world.anatomy import (
    FINGERS,
    INDEX,
    LANDMARKS,
    PARENT,
    PULP_MM,
    RADII_MM,
    THUMB,
    TIPS,
    Person,
    rest_joints,
)
from handi.world.geometry import Array, Mesh, smallest_turn, unit
from handi.world.materials import CHECK, FABRIC, SKIN, STRIPE, Material
from handi.world.render import Part, Skin
from handi.world.skinning import placed, posed

STEP = 2.5  # mm between samples of the distance field
FOREARM = 300.0  # mm
WRIST_BONE, ARM_BONE = 25, 26  # half the wrist's bend, and all of it
BEYOND_PALM = np.array([k > 1 and k not in FINGERS for k in range(25)])
NAIL_HALF_MM = ((6.8, 7.5), (5.5, 6.2), (5.8, 6.6), (5.4, 6.2), (4.5, 5.2))  # half width, half length


# ---------------------------------------------------------------------------------- distance field


def _cone(points: Array, a: Array, b: Array, ra: float, rb: float) -> tuple[Array, Array]:
    """Distance to a round cone from a to b, and how far along it the nearest point is, 0..1."""
    axis = b - a
    along = np.clip(((points - a) @ axis) / (axis @ axis), 0, 1)
    return np.linalg.norm(points - a - along[:, None] * axis, axis=1) - (ra + (rb - ra) * along), along


def _blend(a: Array, b: Array, width: float) -> Array:
    """Smooth minimum: the two bodies flow into each other over `width`."""
    share = np.clip(0.5 + 0.5 * (b - a) / width, 0, 1)
    return b + (a - b) * share - width * share * (1 - share)


def _ellipsoid(points: Array, centre: tuple[float, ...], radii: tuple[float, ...]) -> Array:
    scaled = np.linalg.norm((points - np.array(centre)) / np.array(radii), axis=1)
    return (scaled - 1) * min(radii)


def arm_radii(z: Array) -> tuple[Array, Array]:
    """Half width (x) and half thickness (y) of the forearm at z metres from the wrist, in metres."""
    stations = np.array([-0.02, 0.0, 0.02, 0.05, 0.10, 0.17, 0.25, 0.40])
    width = np.interp(z, stations, np.array([27.5, 27.5, 28.0, 28.5, 32.0, 38.0, 43.0, 45.0]) / 1000)
    thickness = np.interp(z, stations, np.array([19.0, 19.0, 19.5, 21.0, 26.0, 33.0, 39.0, 42.0]) / 1000)
    return width, thickness


def _field(points: Array, joints: Array) -> Array:
    """Signed distance of P×3 points (mm) to the rest hand."""
    radius = RADII_MM
    palm = None
    for base in FINGERS:
        start, end = joints[base] + [0, -1, 8], joints[base + 1] + [0, -3, 2]
        distance, _ = _cone(points, start, end, radius[base] - 1, radius[base + 1] + 0.8)
        palm = distance if palm is None else _blend(palm, distance, 9)
    assert palm is not None
    palm = _blend(palm, _ellipsoid(points, (-22, -20, -42), (16, 14, 30)), 10)  # thenar
    palm = _blend(palm, _ellipsoid(points, (27, -16, -42), (12, 13, 30)), 9)  # hypothenar
    width, thickness = arm_radii(points[:, 2] / 1000)
    section = np.hypot(points[:, 0] / (width * 1000), (points[:, 1] + 3) / (thickness * 1000))
    arm = np.maximum((section - 1) * thickness * 1000, -18 - points[:, 2])
    body = _blend(palm, arm, 14)
    fingers = None
    for base in FINGERS:
        finger = None
        for k in range(base + 1, base + 4):
            end = joints[k + 1] if k < base + 3 else _skin_tip(joints, base)
            bone, along = _cone(points, joints[k], end, radius[k], radius[k + 1])
            if k < base + 3:
                bone = bone + 0.7 * np.sin(np.pi * along)  # a slight waist between the knuckles
            finger = bone if finger is None else _blend(finger, bone, 2.5)
        assert finger is not None
        fingers = finger if fingers is None else _blend(fingers, finger, 1.2)
    assert fingers is not None
    thumb, _ = _cone(points, joints[1], joints[2], radius[1], radius[2])
    second, _ = _cone(points, joints[2], joints[3], radius[2] - 0.6, radius[3])
    last, _ = _cone(points, joints[3], _skin_tip(joints, THUMB), radius[3], radius[4])
    thumb = _blend(thumb, _blend(second, last, 3), 3)
    return _blend(_blend(body, fingers, 8), thumb, 11)


def _skin_tip(joints: Array, base: int) -> Array:
    """Centre of the fingertip's cap: the skin ends `PULP_MM` beyond the bone."""
    tip = base + (3 if base == THUMB else 4)
    return joints[tip] + unit(joints[tip] - joints[tip - 1]) * (PULP_MM[base] - RADII_MM[tip])


# -------------------------------------------------------------------------------------- rest hand


@dataclass(frozen=True)
class RestHand:
    """The mesh at rest with the bones' frames: V×3, T×3, weights V×27, bone frames 25×4×4, skin details."""

    vertices: Array
    faces: npt.NDArray[np.int32]
    weights: Array
    frames: Array
    inverse: Array  # of the frames
    local: Array  # each frame in its parent's
    skin: Skin


def _frames(joints: Array) -> Array:
    """Joint frames 25×4×4: -z along the bone, y out of the back, so that flexion turns about -x."""
    frames = np.tile(np.eye(4), (25, 1, 1))
    for k in range(1, 25):
        a, b = (k - 1, k) if k in TIPS else (k, k + 1)
        forward = unit(joints[b] - joints[a])
        back = np.array([-0.75, 0.4, 0.5]) if k < INDEX else np.array([0.06 * (k // 5 - 2), 1.0, 0.0])
        y = unit(back - forward * (back @ forward))
        frames[k, :3, :3] = np.stack([np.cross(y, -forward), y, -forward], 1)
        frames[k, :3, 3] = joints[k]
    return frames


def _weights(vertices: Array, joints: Array) -> Array:
    """Which bones move a vertex (mm): inverse distances, never across fingers, V×27."""
    weights = np.zeros((len(vertices), 27))
    distance = np.full((len(vertices), 25), 1e3)
    distance[:, 0] = np.maximum(
        _cone(vertices, np.array([0, -3, 30.0]), np.array([0, -3, -12.0]), 20, 20)[0], -8
    )
    for k in range(1, 25):
        if k not in TIPS:
            base = max(b for b in (THUMB, *FINGERS) if b <= k)
            end = _skin_tip(joints, base) if k + 1 in TIPS else joints[k + 1]
            distance[:, k] = _cone(vertices, joints[k], end, RADII_MM[k] * 0.55, RADII_MM[k + 1] * 0.55)[0]
    near = 1 / np.maximum(distance, 0.8) ** 5
    near /= near.sum(1, keepdims=True)
    chain = np.array([0] + [1] * 4 + [2] * 5 + [3] * 5 + [4] * 5 + [5] * 5)
    best = np.stack([near[:, chain == c].sum(1) for c in range(1, 6)], 1).argmax(1) + 1
    beyond = vertices[:, 2] < -96  # past the webs a finger listens to its own bones only
    foreign = beyond[:, None] & (chain[None] != best[:, None]) & (chain[None] != 0)
    near[foreign] = 0
    near /= near.sum(1, keepdims=True)
    weights[:, :25] = near
    # The wrist bends over 6 cm: hand -> half the bend -> the whole of it.
    bend = np.clip((vertices[:, 2] + 18) / 58, 0, 1)
    bend = bend * bend * (3 - 2 * bend)
    hand, half, arm = np.clip(1 - 2 * bend, 0, 1), 1 - np.abs(1 - 2 * bend), np.clip(2 * bend - 1, 0, 1)
    weights[:, :25] *= hand[:, None]
    weights[:, WRIST_BONE], weights[:, ARM_BONE] = half, arm
    return weights


def _skin_details(vertices: Array, weights: Array, frames: Array) -> Skin:
    """Creases over the knuckles and the five nails, found on the rest mesh (metres)."""
    nails = []
    for (half_width, half_length), tip in zip(NAIL_HALF_MM, TIPS, strict=True):
        axes, point = frames[tip, :3, :3], frames[tip, :3, 3]
        local = (vertices - point) @ axes
        own = weights[:, [tip - 1, tip]].sum(1) > 0.3
        near = own & (np.abs(local[:, 0]) < 0.003) & (np.abs(local[:, 2]) < 0.006)
        top = local[near, 1].max()
        end = local[own & (np.abs(local[:, 0]) < 0.006) & (np.abs(local[:, 1]) < 0.01), 2].min()
        centre = point + axes @ np.array([0, top - 0.001, end + half_length / 1000 + 0.0022])
        nails.append(np.concatenate([centre, *axes.T, [half_width / 1000, half_length / 1000]]))
    joints = [k for k in range(2, 25) if k not in TIPS and k not in FINGERS]
    creases = np.array([np.concatenate([frames[k, :3, 3], frames[k, :3, 2]]) for k in joints])
    return Skin(creases, np.array(nails))


@lru_cache(maxsize=1)
def rest_hand() -> RestHand:
    """The rest hand of this process."""
    joints = rest_joints() * 1000
    x, y = np.arange(-100, 76, STEP), np.arange(-72, 46, STEP)
    z = np.concatenate([np.arange(-210, 45, STEP), np.linspace(45, FOREARM, 24)])  # the arm needs fewer rings
    points = np.stack(np.meshgrid(x, y, z, indexing="ij"), -1).reshape(-1, 3)
    field = gaussian_filter(_field(points, joints).reshape(len(x), len(y), len(z)), 0.6)
    vertices, faces, _, _ = marching_cubes(field, 0.0)
    vertices = np.stack([np.interp(vertices[:, i], np.arange(len(g)), g) for i, g in enumerate((x, y, z))], 1)
    normal = np.cross(
        vertices[faces[:, 1]] - vertices[faces[:, 0]], vertices[faces[:, 2]] - vertices[faces[:, 0]]
    )
    if np.einsum("ij,ij->", normal, vertices[faces].mean(1) - vertices.mean(0)) < 0:
        faces = faces[:, ::-1]
    weights = _weights(vertices, joints)
    frames = _frames(joints / 1000)
    vertices = np.asarray(vertices / 1000, float)
    skin = _skin_details(vertices, weights, frames)
    inverse = np.asarray(np.linalg.inv(frames), float)
    local = np.concatenate([frames[:1], inverse[PARENT[1:]] @ frames[1:]])
    return RestHand(vertices, np.ascontiguousarray(faces, np.int32), weights, frames, inverse, local, skin)


# ------------------------------------------------------------------------------------ posed hand


@dataclass(frozen=True)
class Grip:
    """Where a hand is and how it is bent.

    position: the wrist, world, metres. rotation 3×3: columns are the world directions of the hand's
    x (right), y (back of the hand) and z (to the elbow), for a left hand too. angles 2×25: flexion
    (positive closes) and abduction of every joint, radians.
    """

    position: Array
    rotation: Array
    angles: Array


@dataclass(frozen=True)
class Hand:
    """One hand of a person."""

    person: Person
    side: str  # "left" or "right"

    @property
    def sign(self) -> int:
        """+1 for a right hand, -1 for a left one: the sign of x towards its own side."""
        return 1 if self.side == "right" else -1

    @property
    def mirror(self) -> Array:
        """Takes a point of the right hand's frame to this hand's."""
        return np.array([self.sign, 1.0, 1.0])

    def _bones(self, angles: Array) -> tuple[Array, Array]:
        """Posed frames 25×4×4 and stretch of each bone 25×3 in the right hand's frame, person's size."""
        person = self.person
        stretch = np.full((25, 3), person.size)
        stretch[BEYOND_PALM] *= [person.girth, person.girth, person.fingers]
        return posed(rest_hand().local, PARENT, stretch, angles), stretch

    def skeleton(self, grip: Grip) -> Array:
        """All 25 joints in the world, 25×3 metres."""
        frames, _ = self._bones(grip.angles)
        return self.to_world(grip, frames[:, :3, 3])

    def landmarks(self, grip: Grip) -> Array:
        """The detector's 21 joints in the world, 21×3 metres."""
        return self.skeleton(grip)[LANDMARKS]

    def to_world(self, grip: Grip, points: Array) -> Array:
        """Points P×3 of the right hand's frame -> world, mirrored for a left hand."""
        return (points * self.mirror) @ grip.rotation.T + grip.position

    def parts(self, grip: Grip, elbow: Array, identity: int, sleeve_identity: int) -> list[Part]:
        """The hand with its forearm towards `elbow` (world), and the sleeve where there is one."""
        rest, person = rest_hand(), self.person
        scaled, stretch = self._bones(grip.angles)
        matrices = np.zeros((27, 4, 4))
        scaled[:, :3, :3] *= stretch[:, None, :]
        matrices[:25] = scaled @ rest.inverse
        target = ((elbow - grip.position) @ grip.rotation) * self.mirror  # in the right hand's frame
        bend = smallest_turn(np.array([0.0, 0.0, 1.0]), target)
        reach = max(1.0, float(np.linalg.norm(target)) / (FOREARM / 1000 * person.size))
        half = smallest_turn(np.array([0.0, 0.0, 1.0]), unit(target) + [0.0, 0.0, 1.0])
        matrices[WRIST_BONE] = np.eye(4)
        matrices[WRIST_BONE, :3, :3] = half * person.size
        arm = np.eye(4)
        arm[:3, :3] = bend * person.size * np.array([person.arm, person.arm, reach])
        matrices[ARM_BONE] = arm
        blended = rest.weights @ matrices[:, :3].reshape(27, 12)
        vertices = np.empty_like(rest.vertices)
        rotation, position = np.ascontiguousarray(grip.rotation), np.ascontiguousarray(grip.position)
        placed(blended, rest.vertices, self.mirror, rotation, position, vertices)
        faces = rest.faces if self.sign > 0 else rest.faces[:, ::-1]
        body = Mesh(vertices, faces, rest.vertices)
        skin = Material(
            person.colour, SKIN, gloss=18, specular=0.12, seed=person.seed, extra=person.creases, extra2=0.7
        )
        parts = [Part(body, skin, identity)]
        if person.sleeve is not None:
            parts.append(Part(self._sleeve(grip, arm), self._cloth(), sleeve_identity))
        return parts

    def _sleeve(self, grip: Grip, arm: Array) -> Mesh:
        """A cuff and the sleeve behind it, around the forearm."""
        assert self.person.sleeve is not None
        start, segments = self.person.sleeve[0], 30
        z = np.concatenate(
            [
                [start + 0.002, start - 0.001, start + 0.001, start + 0.02],
                np.linspace(start + 0.024, 0.32, 16),
            ]
        )
        loose = np.concatenate(
            [[0.0005, 0.004, 0.008, 0.008], 0.0065 + 0.0025 * np.sin(np.arange(16) * 1.9 + start * 90)]
        )
        width, thickness = arm_radii(z)
        angle = np.linspace(0, 2 * np.pi, segments, endpoint=False)
        x = (width * 1.03 + loose)[:, None] * np.cos(angle)
        y = (thickness * 1.03 + loose)[:, None] * np.sin(angle) - 0.003
        rings = np.stack([x, y, np.repeat(z[:, None], segments, 1)], -1).reshape(-1, 3)
        row, column = np.arange(len(z) - 1)[:, None] * segments, np.arange(segments)[None]
        a, b = (row + column).ravel(), (row + (column + 1) % segments).ravel()
        faces = np.concatenate(
            [np.stack([a, b, a + segments], 1), np.stack([b, b + segments, a + segments], 1)]
        )
        local = rings @ arm[:3, :3].T
        return Mesh(
            self.to_world(grip, local), (faces if self.sign > 0 else faces[:, ::-1]).astype(np.int32), rings
        )

    def _cloth(self) -> Material:
        assert self.person.sleeve is not None
        _, rgb, pattern = self.person.sleeve
        base = np.array(rgb)
        if pattern == 1:
            return Material(base, CHECK, np.minimum(1, base * 0.45 + 0.02), specular=0.02, scale=34)
        if pattern == 2:
            return Material(base, STRIPE, np.minimum(1, base * 0.5 + 0.25), specular=0.02, scale=60)
        return Material(base, FABRIC, specular=0.02, seed=self.person.seed)
