"""From linear light to a picture: exposure, lens, tone curve, sensor."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from handi.core.types import Picture
from handi.world.geometry import Array


def tone_map(picture: Array) -> Array:
    """Linear light -> display value in [0, 1]: a soft shoulder, then gamma 2.2."""
    shoulder = picture / (1 + 0.18 * picture * picture)
    return np.clip(shoulder, 0, 1) ** (1 / 2.2)


def exposure_for(picture: Array, mean: float) -> float:
    """Gain that brings a linear picture's developed mean to `mean`, within a factor of four."""
    low, high, rough = 0.25, 4.0, picture.astype(np.float32)
    for _ in range(12):
        middle = (low * high) ** 0.5
        level = float(tone_map(rough * middle).mean())
        if abs(level - mean) < 1e-3:  # single precision cannot be sure
            level = float(tone_map(picture * middle).mean())
        low, high = (middle, high) if level < mean else (low, middle)
    return (low * high) ** 0.5


@dataclass
class Film:
    """Develops the frames of a clip; what is as in the last frame is not developed again."""

    gain: float
    _exposed: Array | None = field(default=None, init=False, repr=False)
    _developed: Array | None = field(default=None, init=False, repr=False)

    def develop(self, picture: Array) -> Array:
        """Linear H×W×3 -> display values in [0, 1] behind the lens: its blur, then the tone curve."""
        sigma = 0.45 if picture.shape[0] < 200 else 0.6
        exposed = np.maximum(cv2.GaussianBlur(picture * self.gain, (0, 0), sigma), 0)
        if self._exposed is None or self._developed is None:
            developed = tone_map(exposed)
        else:
            changed = exposed != self._exposed
            developed = self._developed.copy()
            developed[changed] = tone_map(exposed[changed])
        self._exposed, self._developed = exposed, developed
        return developed


def digitise(developed: Array, rng: np.random.Generator | None = None, noise: float = 0.008) -> Picture:
    """Display values H×W×3 -> uint8, with a sensor's noise where there is an rng."""
    if rng is not None:
        developed = developed + rng.normal(0, noise, developed.shape)
    return (np.clip(developed, 0, 1) * 255 + 0.5).astype(np.uint8)
