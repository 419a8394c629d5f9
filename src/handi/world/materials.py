"""What surfaces are made of: colours, patterns, gloss."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from handi.world.geometry import Array

# Patterns that the shader knows.
PLAIN, SKIN, WOOD, SPECKLE, TILE, STRIPE, METAL, FABRIC, CHECK, LIQUID, FLESH = range(11)

# Columns of a material row.
(KIND, RED, GREEN, BLUE, RED2, GREEN2, BLUE2, GLOSS, SPECULAR, SCALE, SEED, EXTRA, EXTRA2, GLOW, IDENTITY) = (
    range(15)
)

COLOURS = {  # name in the text -> sRGB
    "red": (200, 40, 36),
    "blue": (40, 84, 180),
    "green": (56, 140, 70),
    "yellow": (232, 190, 50),
    "white": (226, 224, 218),
    "orange": (226, 118, 40),
    "black": (42, 42, 46),
    "pink": (226, 130, 150),
    "purple": (118, 66, 150),
}

SKIN_TONES = (  # light to dark, sRGB
    (236, 190, 166),
    (226, 172, 143),
    (214, 158, 128),
    (196, 138, 106),
    (170, 112, 80),
    (140, 90, 62),
    (108, 68, 48),
    (84, 56, 44),
)


def linear(rgb: tuple[float, float, float] | Array) -> Array:
    """sRGB 0–255 as linear reflectance 0–1."""
    value = np.asarray(rgb, float) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def colour(name: str) -> Array:
    """Linear reflectance of a named colour."""
    return linear(COLOURS[name])


@dataclass(frozen=True)
class Material:
    """A surface. `rgb` and `rgb2` are linear; `scale` is the pattern's frequency per metre.

    `extra` and `extra2` mean what the pattern makes of them: planks per metre (WOOD), crease depth and
    palm lightening (SKIN), how mixed and how twisted (LIQUID), a second frequency (CHECK).
    """

    rgb: Array
    kind: int = PLAIN
    rgb2: Array | None = None
    gloss: float = 24.0
    specular: float = 0.12
    scale: float = 1.0
    seed: float = 0.0
    extra: float = 0.0
    extra2: float = 0.0
    glow: float = 0.0

    def row(self, identity: int) -> Array:
        """The material as the shader's row of numbers, for the object with this id."""
        second = self.rgb * 0.5 if self.rgb2 is None else self.rgb2
        return np.array(
            [self.kind, *self.rgb, *second, self.gloss, self.specular, self.scale, self.seed, self.extra]
            + [self.extra2, self.glow, identity],
            float,
        )


def wood(
    light: tuple[int, int, int],
    dark: tuple[int, int, int],
    *,
    scale: float = 8,
    seed: float = 0,
    planks: float = 0,
) -> Material:
    """Wood with rings between two sRGB tones."""
    return Material(linear(dark), WOOD, linear(light), 25, 0.06, scale, seed, planks)


STEEL = Material(linear((198, 200, 205)), METAL, gloss=60, specular=0.7)
BEECH = wood((216, 180, 134), (190, 148, 100), scale=9, seed=3)
WALNUT = wood((176, 132, 88), (122, 82, 52), scale=12, seed=5)
