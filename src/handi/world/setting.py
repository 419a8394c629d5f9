"""Where it happens: table, wall, things that stand about, light, camera. Nothing here is acted on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from handi.world.geometry import EYE, Array, Mesh, box, grid, lathe, look_at, mesh, turn
from handi.world.materials import (
    CHECK,
    COLOURS,
    FABRIC,
    PLAIN,
    SPECKLE,
    STEEL,
    STRIPE,
    TILE,
    WOOD,
    Material,
    colour,
    linear,
)
from handi.world.render import Camera, Light, Part

TABLE, LEFT_HAND, RIGHT_HAND, LEFT_SLEEVE, RIGHT_SLEEVE, ROOM, CLUTTER, FIRST_PROP = 1, 2, 3, 4, 5, 6, 7, 10
HAND_IDS = {"left": LEFT_HAND, "right": RIGHT_HAND}
SLEEVE_IDS = {"left": LEFT_SLEEVE, "right": RIGHT_SLEEVE}

Rectangle = tuple[float, float, float, float]  # x0, x1, y0, y1 on the table, metres


def overlaps(a: Rectangle, b: Rectangle) -> bool:
    """Whether two rectangles share ground."""
    return a[0] < b[1] and b[0] < a[1] and a[2] < b[3] and b[2] < a[3]


def _pick(rng: np.random.Generator, options: Sequence[tuple[float, ...]]) -> Array:
    return linear(np.array(options[int(rng.integers(len(options)))]))


def random_table(rng: np.random.Generator) -> list[Part]:
    """A table top of wood, stone, tile, laminate, or under a cloth."""
    body = grid(2.2, 1.25, 18).moved(EYE, (0, 0.06, 0))
    seed = float(rng.integers(99))
    kind = int(rng.integers(6))
    if kind <= 1:
        tone = rng.uniform(0.55, 1.1)
        material = Material(
            linear(np.array((150, 104, 66)) * tone), WOOD, linear(np.array((200, 156, 112)) * tone),
            25, 0.06, rng.uniform(4, 8), seed, float(rng.choice([0, 5, 8])),
        )  # fmt: skip
        if rng.random() < 0.5:  # the grain runs away from the viewer
            body = mesh(body.vertices, body.faces, body.vertices[:, [1, 0, 2]])
    elif kind == 2:
        dark = _pick(rng, [(60, 60, 64), (120, 116, 112), (40, 42, 50), (150, 140, 128)])
        light = _pick(rng, [(190, 188, 182), (150, 150, 155), (110, 100, 95)])
        material = Material(dark, SPECKLE, light, 60, 0.12, rng.uniform(120, 260), seed)
    elif kind == 3:
        tile = _pick(rng, [(200, 196, 186), (110, 120, 130), (80, 82, 86), (150, 168, 160)])
        material = Material(tile, TILE, linear((62, 60, 58)), 40, 0.12, rng.uniform(4, 8), seed)
    elif kind == 4:
        grey = rng.uniform(50, 220)
        tint = rng.uniform(0.9, 1.06, 3)
        material = Material(linear(np.clip(grey * tint, 0, 255)), PLAIN, None, 30, 0.10, 1, seed)
    else:
        first = _pick(rng, [(176, 120, 112), (120, 136, 164), (210, 200, 180), (134, 150, 130)])
        second = _pick(rng, [(228, 224, 214), (70, 78, 92), (236, 232, 226)])
        weave = (STRIPE, CHECK, FABRIC)[rng.integers(3)]
        material = Material(first, weave, second, 10, 0.02, rng.uniform(10, 24), seed)
    return [Part(body, material, TABLE, casts=False)]


def random_room(rng: np.random.Generator) -> list[Part]:
    """A wall behind the table."""
    paint = _pick(rng, [(205, 200, 190), (150, 160, 165), (96, 86, 80), (230, 226, 215), (176, 190, 178)])
    kind = TILE if rng.random() < 0.5 else PLAIN
    wall = Material(paint, kind, paint * 0.6, scale=rng.uniform(5, 9), seed=float(rng.integers(99)))
    flat = grid(3.2, 1.8, 14)
    return [
        Part(
            Mesh(flat.vertices, flat.faces, flat.texture).moved(turn("x", np.pi / 2), (0, 0.68, 0.5)),
            wall,
            ROOM,
            False,
        )
    ]


# ---------------------------------------------------------------------------------------- clutter


def _plate(rng: np.random.Generator) -> tuple[Mesh, Material, float]:
    body = lathe(
        [(0, 0), (0.07, 0.002), (0.112, 0.015), (0.113, 0.018), (0.07, 0.006), (0, 0.004)], segments=36
    )
    return body, Material(linear((225, 224, 218)) * rng.uniform(0.7, 1), gloss=60, specular=0.3), 0.113


def _bottle(rng: np.random.Generator) -> tuple[Mesh, Material, float]:
    tall = rng.uniform(0.15, 0.22)
    body = lathe(
        [(0, 0), (0.028, 0), (0.030, 0.003), (0.030, tall * 0.6), (0.012, tall * 0.8), (0.012, tall)],
        [(0.012, tall), (0, tall)],
    )
    return body, Material(_any_colour(rng) * 0.7, gloss=70, specular=0.5), 0.03


def _fruit(rng: np.random.Generator) -> tuple[Mesh, Material, float]:
    r = rng.uniform(0.03, 0.042)
    body = lathe([(r * np.sin(q), r * (0.95 - 0.95 * np.cos(q))) for q in np.linspace(0, np.pi, 12)])
    skin = linear([(196, 44, 34), (220, 150, 40), (120, 160, 50), (200, 180, 60)][rng.integers(4)])
    return body, Material(skin, gloss=35, specular=0.25, seed=float(rng.integers(99))), r


def _book(rng: np.random.Generator) -> tuple[Mesh, Material, float]:
    w, d, h = rng.uniform(0.10, 0.16), rng.uniform(0.14, 0.2), rng.uniform(0.012, 0.03)
    body = box(w, d, h, 0.002).moved(EYE, (0, 0, h / 2))
    return body, Material(_any_colour(rng), gloss=20, specular=0.06), float(np.hypot(w, d) / 2)


def _mill(rng: np.random.Generator) -> tuple[Mesh, Material, float]:
    body = lathe([(0, 0), (0.026, 0), (0.019, 0.05), (0.024, 0.09), (0.016, 0.10), (0.021, 0.12), (0, 0.138)])
    tone = rng.uniform(0.4, 1)
    return body, Material(linear((140, 90, 54)) * tone, gloss=40, specular=0.2), 0.026


def _basin(rng: np.random.Generator) -> tuple[Mesh, Material, float]:
    body = lathe(
        [(0, 0), (0.08, 0), (0.098, 0.075), (0.101, 0.078), (0.096, 0.075), (0.077, 0.006), (0, 0.006)],
        segments=36,
    )
    return body, STEEL, 0.10


_CLUTTER: tuple[Callable[[np.random.Generator], tuple[Mesh, Material, float]], ...] = (
    _plate,
    _bottle,
    _fruit,
    _book,
    _mill,
    _basin,
)


def _any_colour(rng: np.random.Generator) -> Array:
    return colour(list(COLOURS)[rng.integers(len(COLOURS))]) * rng.uniform(0.4, 1)


def random_clutter(rng: np.random.Generator, taken: Sequence[Rectangle]) -> list[Part]:
    """A few things that stand about, clear of the ground in `taken`. Deeper things are likelier."""
    occupied, parts = list(taken), []
    for _ in range(int(rng.integers(2, 8))):
        body, material, radius = _CLUTTER[rng.integers(len(_CLUTTER))](rng)
        for _ in range(10):
            x, y = rng.uniform(-0.48, 0.48), rng.triangular(0.02, 0.56, 0.6)
            ground = (x - radius - 0.008, x + radius + 0.008, y - radius - 0.008, y + radius + 0.008)
            if y > 0.62 - radius or any(overlaps(ground, other) for other in occupied):
                continue
            occupied.append(ground)
            parts.append(Part(body.moved(turn("z", rng.uniform(0, 2 * np.pi)), (x, y, 0)), material, CLUTTER))
            break
    return parts


# --------------------------------------------------------------------------------- light and camera


def random_light(rng: np.random.Generator) -> Light:
    """A window or a lamp from somewhere above, warm to cool."""
    azimuth, height = rng.uniform(0, 2 * np.pi), rng.uniform(0.72, 1.35)
    warm = rng.uniform(-1, 1)
    key = np.array([1 + 0.12 * warm, 1, 1 - 0.22 * warm]) * rng.uniform(0.85, 1.35)
    ambient = rng.uniform(0.24, 0.48)
    return Light(
        direction=np.array(
            [np.cos(azimuth) * np.cos(height), np.sin(azimuth) * np.cos(height), np.sin(height)]
        ),
        colour=key,
        softness=rng.uniform(0.005, 0.016),
        above=ambient * np.array([0.95, 1.0, 1.08]),
        below=ambient * np.array([0.55, 0.48, 0.42]),
    )


def random_camera(rng: np.random.Generator) -> Camera:
    """A camera on the head of somebody who stands or sits at the table."""
    eye = np.array([rng.uniform(-0.05, 0.05), rng.uniform(-0.27, -0.20), rng.uniform(0.45, 0.54)])
    target = np.array([rng.uniform(-0.02, 0.02), rng.uniform(0.105, 0.13), 0.03])
    return Camera(eye, look_at(eye, target, rng.normal(0, 0.03)), float(np.deg2rad(rng.uniform(47, 53))))


def handheld(camera: Camera, rng: np.random.Generator, frames: int) -> list[Camera]:
    """The camera of every frame when the head moves: slow sway and turning, none in the first frame.

    About 4 mm and half a degree (rms at the end of a clip of 16), what a person who watches their hands does.
    """
    time = np.linspace(0, 1, frames)[:, None]
    phase, rate = rng.uniform(0, 2 * np.pi, (2, 6)), rng.uniform(2.0, 5.0, 6)
    sway = np.sin(rate * time + phase[0]) - np.sin(phase[0])
    shift, angle = 0.005 * sway[:, :3], 0.010 * sway[:, 3:]
    cameras = [camera]
    for n in range(1, frames):
        turned = turn("x", angle[n, 0]) @ turn("y", angle[n, 1]) @ turn("z", angle[n, 2])
        cameras.append(Camera(camera.eye + shift[n], turned @ camera.rotation, camera.fov))
    return cameras
