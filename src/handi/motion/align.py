"""How one picture must be moved to lie on another: dense, robust, with a mild prior for plain surfaces."""

from __future__ import annotations

import cv2
import numpy as np

from handi.core.types import Picture

# Local contrast: grey minus its surroundings' mean, over their deviation. It forgives soft shadows and
# exposure. Radii grow with the picture; they are px of one whose shorter side is 128.
SURROUNDINGS = 6.0
NOISE_LEVELS = 2.0  # grey levels below which contrast is taken for sensor noise
CELLS, PER_CELL = 8, 60  # the strongest edges of each cell, so that no textured thing outvotes the rest
EDGE = 0.03  # contrast per px
EXPLAINED = 4.0  # noises by which a pixel may differ and still count
NOISE = (0.05, 1.0)  # of a pixel's contrast: what no homography explains, and grey levels of the sensor
SPREAD = (1.0, 1.0)
TUKEY = 4.685
CORRELATION = 0.1  # independent measurements per pixel: neighbours see the same edge
# Prior of a camera between two frames of a clip, in half pictures: turn and zoom, shift, perspective. It
# only counts where the picture leaves a direction open, such as along the grain of an otherwise bare table.
PRIOR = 1 / np.square([0.05, 0.05, 0.5, 0.05, 0.05, 0.5, 0.02, 0.02])
STEPS, STEP_PX = 20, 0.005


class Reference:
    """The picture to align to: its strongest edges, spread over it, and how each moves with a homography.

    A homography here is 3×3 and takes a pixel (x, y) of the other picture to where it lies in this one.
    """

    def __init__(self, picture: Picture) -> None:
        self.contrast, deviation = local_contrast(picture)
        height, width = self.contrast.shape
        self.size = height, width
        dx, dy = (cv2.Sobel(self.contrast, cv2.CV_32F, *d, ksize=3, scale=1 / 8) for d in ((1, 0), (0, 1)))
        self._x, self._y = _edges(np.hypot(dx, dy))
        self._values = self.contrast[self._y, self._x]
        self._noise = np.hypot(NOISE[0], NOISE[1] / (deviation[self._y, self._x] + NOISE_LEVELS))
        half = max(height, width) / 2
        self._half = half
        # Pixels → half pictures from the middle, in which the parameters of a homography are alike in size.
        self._centred = np.array([[1, 0, -(width - 1) / 2], [0, 1, -(height - 1) / 2], [0, 0, half]]) / half
        u, v = (self._x - (width - 1) / 2) / half, (self._y - (height - 1) / 2) / half
        a, b = dx[self._y, self._x] * half, dy[self._y, self._x] * half
        outward = a * u + b * v
        self._slopes = (
            np.stack([a * u, a * v, a, b * u, b * v, b, -outward * u, -outward * v], 1).astype(float)
            / self._noise[:, None]
        )

    def __len__(self) -> int:
        return len(self._x)

    def _residual(self, contrast: np.ndarray, homography: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(difference of the other picture, moved here, at each edge; whether that edge is in it)."""
        height, width = self.size
        if not len(self):
            return np.zeros(0), np.zeros(0, bool)
        back = np.linalg.inv(homography)
        x, y, depth = back @ np.stack([self._x, self._y, np.ones(len(self))])
        front = depth > 0.1
        depth = np.where(front, depth, 1)
        x, y = (x / depth).astype(np.float32), (y / depth).astype(np.float32)
        inside = front & (x >= 2) & (x <= width - 3) & (y >= 2) & (y <= height - 3)
        there = cv2.remap(contrast, x[None], y[None], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[0]
        return np.where(inside, (there - self._values) / self._noise, 0).astype(float), inside

    def support(self, contrast: np.ndarray, homography: np.ndarray) -> float:
        """Share in [0, 1] of the edges that the other picture, moved here, shows too.

        Edges beyond its border count as not shown: a large move must earn what it gives up.
        """
        residual, inside = self._residual(contrast, homography)
        off = np.clip(np.abs(residual[inside]) / EXPLAINED, 0, 1)
        return float(((1 - off**2) ** 3).sum()) / max(len(self), 1)

    def refine(self, contrast: np.ndarray, homography: np.ndarray) -> np.ndarray:
        """Improve a homography by iteratively reweighted Gauss–Newton steps (inverse compositional).

        Each edge pixel's weight is Tukey's biweight of its residual: what a hand covers, what moves and
        what is lit otherwise drops out. Needs a start within a few px.
        """
        inverse = np.linalg.inv(self._centred)
        for _ in range(STEPS):
            residual, inside = self._residual(contrast, homography)
            if inside.sum() < 8:
                break
            off = np.clip(np.abs(residual) / TUKEY, 0, 1)
            weights = np.where(inside, (1 - off**2) ** 2, 0) * CORRELATION
            weighted = self._slopes * weights[:, None]
            centred = self._centred @ homography @ inverse
            theta = (centred / centred[2, 2] - np.eye(3)).ravel()[:8]
            # einsum, not @: BLAS sums in another order with other threads, and a clip must come out the same.
            curvature = np.einsum("ni,nj->ij", weighted, self._slopes) + np.diag(PRIOR)
            step = np.linalg.solve(curvature, np.einsum("ni,n->i", weighted, residual) - PRIOR * theta)
            change = np.eye(3)
            change.ravel()[:8] += step
            homography = inverse @ change @ self._centred @ homography
            homography = homography / homography[2, 2]
            if np.abs(step).max() * self._half < STEP_PX:
                break
        return homography


def local_contrast(picture: Picture) -> tuple[np.ndarray, np.ndarray]:
    """H×W×3 uint8 → H×W float32, about ±1 at edges, near 0 on plain surfaces."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    scale = min(grey.shape) / 128
    grey = cv2.GaussianBlur(grey, (0, 0), 0.8 * max(1.0, 0.6 * scale))
    difference = grey - cv2.GaussianBlur(grey, (0, 0), SURROUNDINGS * scale)
    deviation = np.sqrt(cv2.GaussianBlur(difference**2, (0, 0), SURROUNDINGS * scale))
    return difference / (deviation + NOISE_LEVELS), deviation


def _edges(strength: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(x, y) of the strongest pixels of each of CELLS×CELLS cells, but for the picture's rim."""
    height, width = strength.shape
    inner = np.zeros_like(strength)
    inner[3:-3, 3:-3] = strength[3:-3, 3:-3]
    y, x = np.nonzero(inner > EDGE)
    chosen = strongest(x, y, inner[y, x], height, width, PER_CELL)
    return x[chosen], y[chosen]


def strongest(
    x: np.ndarray, y: np.ndarray, strength: np.ndarray, height: int, width: int, count: int
) -> np.ndarray:
    """Indices of the `count` strongest points of each of CELLS×CELLS cells of a picture."""
    cell = (y * CELLS // height) * CELLS + x * CELLS // width
    order = np.lexsort((-strength, cell))
    cell = cell[order]
    rank = np.arange(len(cell)) - np.searchsorted(cell, cell)
    return order[rank < count]
