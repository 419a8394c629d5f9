"""Camera motion of a clip: measured against its context frame, and undone.

A homography a frame: exact for a camera that turns, and for one that moves above a table. Two stages:

1. Candidates: corners followed by Lucas–Kanade (small motion, little texture) and SIFT matches (large
   motion), each by RANSAC (MAGSAC) as homography and as similarity; the frame before; no motion.
2. The few that explain most of the context frame's edges are refined densely with robust weights
   (`align.Reference`), and the best one stays. Frames are then offered their successor's answer too, as a
   hand that covers half of one frame may be gone in the next.

Neither stage knows where hands are. Edges are drawn evenly from all over the picture, so that a textured
sleeve has no more say than a plain table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from handi.core.errors import InputError
from handi.core.types import Frames
from handi.motion.align import Reference, local_contrast, strongest

LEAST_SUPPORT = 0.17  # below it the best answer is no better than chance: another scene, or nothing to see
LARGEST_SHIFT = 0.5  # of the width; beyond it too little is left of the context frame
STILL_PX = 0.1  # a frame that moves less is left as it is: resampling would only blur it
STARTS, APART_PX = 3, 1.0  # so many candidates are refined, if they are so far apart
CORNERS_PER_CELL, MATCH_PX = 6, 1.0


@dataclass(frozen=True)
class CameraMotion:
    """Camera motion of F frames of H×W px against frame 0, the context frame."""

    homographies: npt.NDArray[np.float64]  # F×3×3: px of the frame → px of the context frame
    support: npt.NDArray[np.float64]  # F in [0, 1]: share of the context frame's edges found in the frame
    size: tuple[int, int]  # H, W

    @property
    def reliable(self) -> npt.NDArray[np.bool_]:
        """F: whether the motion could be measured; where not, the homography is the identity."""
        return self.support >= LEAST_SUPPORT

    @property
    def shifts(self) -> npt.NDArray[np.float64]:
        """F: mean displacement over the picture, as a share of its width."""
        height, width = self.size
        return np.array([_shift(homography, height, width) / width for homography in self.homographies])

    @property
    def amount(self) -> float:
        """The largest of `shifts`: one figure for how much the camera moves in a clip."""
        return float(self.shifts.max())

    def carry(self, points: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """F×J×2 points in [0, 1] of each frame (px/size) → those in the context frame; zeros (none) stay."""
        height, width = self.size
        scale = np.array([width, height], float)
        array = np.asarray(points, float)
        moved = [
            cv2.perspectiveTransform(frame[None] * scale, homography)[0] / scale
            for frame, homography in zip(array, self.homographies, strict=True)
        ]
        return np.where(array.any(axis=-1, keepdims=True), np.stack(moved), 0)


def measure_camera(frames: Frames) -> CameraMotion:
    """Camera motion between each of F×H×W×3 uint8 frames and frame 0 (docs/method.md §10).

    A frame of another scene, or one without texture, has too little `support` and the identity; nothing is
    raised. The same frames give the same answer on any number of threads. Raises: ValueError (shape).
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or not len(frames):
        raise ValueError(f"frames must be F×H×W×3, not {'×'.join(map(str, frames.shape))}")
    height, width = frames.shape[1:3]
    reference, features = Reference(frames[0]), _Features(frames[0])
    contrasts = [local_contrast(frame)[0] for frame in frames]
    found: list[tuple[np.ndarray, float]] = [(np.eye(3), 1.0 if len(reference) else 0.0)]
    for frame, contrast in zip(frames[1:], contrasts[1:], strict=True):
        candidates = [found[-1][0], np.eye(3), *features.candidates(frame)]
        candidates.sort(key=lambda candidate: -reference.support(contrast, candidate))
        fits = [_fit(reference, contrast, candidate) for candidate in _distinct(candidates, height, width)]
        found.append(max(fits, key=lambda fit: fit[1]))
    for n in range(len(frames) - 2, 0, -1):
        fit = _fit(reference, contrasts[n], found[n + 1][0])
        if fit[1] > found[n][1] + 1e-3:
            found[n] = fit
    for n, (homography, support) in enumerate(found):
        if support < LEAST_SUPPORT or not _shift(homography, height, width) < LARGEST_SHIFT * width:
            found[n] = np.eye(3), 0.0
    return CameraMotion(np.stack([h for h, _ in found]), np.array([s for _, s in found]), (height, width))


def _distinct(candidates: list[np.ndarray], height: int, width: int) -> list[np.ndarray]:
    """The first few of the candidates that are not alike."""
    chosen: list[np.ndarray] = []
    for candidate in candidates:
        apart = [_shift(candidate @ np.linalg.inv(other), height, width) for other in chosen]
        if len(chosen) < STARTS and not min(apart, default=np.inf) < APART_PX:
            chosen.append(candidate)
    return chosen


def _fit(reference: Reference, contrast: np.ndarray, start: np.ndarray) -> tuple[np.ndarray, float]:
    homography = reference.refine(contrast, start)
    return homography, reference.support(contrast, homography)


def _shift(homography: np.ndarray, height: int, width: int) -> float:
    """Mean displacement in px over a grid of the picture."""
    grid = np.stack(np.meshgrid(np.linspace(0, width - 1, 9), np.linspace(0, height - 1, 9)), -1).reshape(
        -1, 2
    )
    return float(np.linalg.norm(cv2.perspectiveTransform(grid[None], homography)[0] - grid, axis=1).mean())


class _Features:
    """Points of the context frame, and homographies from where another frame has them."""

    def __init__(self, picture: np.ndarray) -> None:
        self._grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        self._corners = _corners(self._grey)
        self._sift = cv2.SIFT_create(nfeatures=1500, contrastThreshold=0.02)  # type: ignore[attr-defined]
        self._described = self._sift.detectAndCompute(self._grey, None)

    def candidates(self, picture: np.ndarray) -> list[np.ndarray]:
        """3×3 homographies, picture → context frame; fewer or none where little is found."""
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        return [*_consensus(*self._followed(grey)), *_consensus(*self._matched(grey))]

    def _followed(self, grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(places in the picture, places in the context frame) of corners that are found there and back."""
        if not len(self._corners):
            return self._corners, self._corners
        here = self._corners[:, None]
        how: dict[str, Any] = {"winSize": (15, 15), "maxLevel": 3, "minEigThreshold": 1e-5}
        there, seen, _ = cv2.calcOpticalFlowPyrLK(self._grey, grey, here, None, **how)
        back, seen_again, _ = cv2.calcOpticalFlowPyrLK(grey, self._grey, there, None, **how)
        good = (seen[:, 0] > 0) & (seen_again[:, 0] > 0) & (np.abs(back - here).max(axis=(1, 2)) < 0.3)
        return there[good, 0].astype(float), here[good, 0].astype(float)

    def _matched(self, grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The same of SIFT features whose best match is clearly better than their second (Lowe's ratio)."""
        points, vectors = self._sift.detectAndCompute(grey, None)
        own_points, own_vectors = self._described
        pairs = []
        if len(points) > 1 and len(own_points) > 1:
            matches = cv2.BFMatcher(cv2.NORM_L2).knnMatch(vectors, own_vectors, k=2)
            pairs = [best for best, second in matches if best.distance < 0.8 * second.distance]
        there = np.array([points[pair.queryIdx].pt for pair in pairs]).reshape(-1, 2)
        return there, np.array([own_points[pair.trainIdx].pt for pair in pairs]).reshape(-1, 2)


def _corners(grey: np.ndarray) -> np.ndarray:
    """N×2 float32 px: local peaks of the smaller eigenvalue, the strongest of each cell."""
    height, width = grey.shape
    eigenvalue = cv2.cornerMinEigenVal(grey, 5)
    peak = (eigenvalue >= cv2.dilate(eigenvalue, np.ones((5, 5)))) & (eigenvalue > 1e-5)
    peak[:4], peak[-4:], peak[:, :4], peak[:, -4:] = (False,) * 4
    y, x = np.nonzero(peak)
    chosen = strongest(x, y, eigenvalue[y, x], height, width, CORNERS_PER_CELL)
    return np.stack([x[chosen], y[chosen]], 1).astype(np.float32)


def _consensus(there: np.ndarray, here: np.ndarray) -> list[np.ndarray]:
    """The homography and the similarity that most of N×2 pairs agree on."""
    if len(there) < 8:
        return []
    found = []
    homography, _ = cv2.findHomography(
        there, here, cv2.USAC_MAGSAC, MATCH_PX, maxIters=2000, confidence=0.999
    )
    if homography is not None:
        found.append(homography)
    similarity, _ = cv2.estimateAffinePartial2D(
        there, here, method=cv2.RANSAC, ransacReprojThreshold=1.5 * MATCH_PX
    )
    if similarity is not None:
        found.append(np.vstack([similarity, [0, 0, 1]]))
    return [candidate for candidate in found if abs(np.linalg.det(candidate)) > 0.05]  # no picture flattened


# --------------------------------------------------------------------------------------- undoing it


def stabilise(frames: Frames, motion: CameraMotion) -> tuple[Frames, npt.NDArray[np.bool_]]:
    """F×H×W×3 uint8 frames as the context frame's camera would have seen them, and F×H×W valid pixels.

    What the camera had out of view is not valid and shows the context frame. Frame 0, and frames that move
    less than `STILL_PX`, are kept to the bit. Raises: InputError where the motion of a frame could not be
    measured: half a clip held still is worse than none.
    """
    if not motion.reliable.all():
        lost = np.flatnonzero(~motion.reliable)
        raise InputError(f"the camera motion of {len(lost)} of {len(frames)} frames cannot be measured")
    height, width = frames.shape[1:3]
    steady, valid = frames.copy(), np.ones(frames.shape[:3], bool)
    for n, homography in enumerate(motion.homographies):
        if _shift(homography, height, width) < STILL_PX:
            continue
        # Replicated: a cubic reaches beyond the border, and would mix the black that is there into the rim.
        moved = cv2.warpPerspective(
            frames[n], homography, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
        )
        seen = cv2.warpPerspective(np.full((height, width), 255, np.uint8), homography, (width, height))
        valid[n] = seen == 255  # all of the pixel is in view
        steady[n] = np.where(valid[n, ..., None], moved, frames[0])
    return steady, valid
