"""Motion area: where the action happens. From joints (paper §2.1), over a data set (prior), cleaned."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from handi.core.types import BinaryMask, SoftMask

Hull = Literal["hand", "all"]

# Of `clean_area`, as shares of the shorter side (radii, rounded up to pixels) and of the picture's area
# (specks). Growing by more than a pixel of 128 costs overlap and gives stage 2 nothing:
# experiments/mini/LOG.md.
CLOSE_RADIUS = 0.03
DILATE_RADIUS = 0.005
SPECK_AREA = 0.002


def hull_masks(joints: npt.ArrayLike, height: int, width: int, *, hull: Hull = "hand") -> BinaryMask:
    """The convex hulls of the hands in each frame, filled: F×42×2 joints → F×H×W.

    Joints are (x, y) in [0, 1] of the frame, hand by hand, all zeros for a hand that is not there
    (`Hands.joints`). A hull that reaches beyond the frame is cut at its edge. `hull="all"` draws one hull
    over all hands of a frame, as the official script does. Raises: ValueError (shape, NaN).
    """
    frames = _points(joints, height, width)
    masks = np.zeros((len(frames), height, width), np.uint8)
    for canvas, points in zip(masks, frames, strict=True):
        _fill(canvas, points, hull)
    return masks.astype(bool)


def hull_area(joints: npt.ArrayLike, height: int, width: int, *, hull: Hull = "hand") -> BinaryMask:
    """Motion area of a clip, M_video (paper §2.1): the union over its frames of `hull_masks`, F×42×2 → H×W.

    A clip without any hand has an empty area: `not area.any()` is the caller's to report.
    """
    canvas = np.zeros((height, width), np.uint8)
    for points in _points(joints, height, width):
        _fill(canvas, points, hull)
    return canvas.astype(bool)


def _points(joints: npt.ArrayLike, height: int, width: int) -> np.ndarray:
    """F×42×2 in [0, 1] → F×2×21×2 whole pixels; the detector's px have their centres at integers."""
    array = np.asarray(joints, dtype=np.float64)
    if array.ndim != 3 or array.shape[1] % 21 or array.shape[2] != 2:
        raise ValueError(f"joints must be F×42×2, not {'×'.join(map(str, array.shape))}")
    if not np.isfinite(array).all():
        raise ValueError("joints that are not finite numbers")
    far = 10 * max(height, width)  # as good as any place outside, and OpenCV's fixed point holds it
    pixels = np.rint((array * (width, height)).clip(-far, far)).astype(np.int32)
    return pixels.reshape(len(array), -1, 21, 2)


def _fill(canvas: np.ndarray, hands: np.ndarray, hull: Hull) -> None:
    """Fill the hulls of one frame's hands (2×21×2 whole pixels) on an H×W uint8 canvas, in place."""
    hands = hands[hands.any(axis=(1, 2))]
    if hull == "all":
        hands = hands.reshape(1, -1, 2) if len(hands) else hands
    elif hull != "hand":
        raise ValueError(f"hull must be 'hand' or 'all', not {hull!r}")
    for points in hands:
        cv2.fillConvexPoly(canvas, cv2.convexHull(points), 1)


class PriorMask:
    """Mean of all training motion areas (paper §2.1), one clip at a time.

    Counts are integers, so the mean is exact and the same whatever the order, the number of workers or
    the way they are merged. Clips without any hand are counted in `empty` and do not thin the mean, as
    they are not trained on. All areas are of one size: hulls can be drawn at any, so draw them at that.
    """

    def __init__(self, height: int, width: int) -> None:
        self.counts = np.zeros((height, width), np.int64)  # clips whose area holds the pixel
        self.clips = 0  # with a hand
        self.empty = 0  # without

    def add(self, area: BinaryMask) -> None:
        """Count one clip's H×W area. Raises: ValueError for one that is not binary or of another size."""
        if area.shape != self.counts.shape:
            raise ValueError(f"an area of {area.shape} for a prior of {self.counts.shape}")
        if area.dtype != np.bool_:
            raise ValueError(f"an area of {area.dtype}; threshold it first")
        if area.any():
            self.counts += area
            self.clips += 1
        else:
            self.empty += 1

    def merge(self, other: PriorMask) -> None:
        """Add the clips that another worker has counted."""
        if other.counts.shape != self.counts.shape:
            raise ValueError(f"a prior of {other.counts.shape} for one of {self.counts.shape}")
        self.counts += other.counts
        self.clips += other.clips
        self.empty += other.empty

    @property
    def mean(self) -> SoftMask:
        """H×W in [0, 1]. Raises: ValueError when no clip had a hand: there is no prior to speak of."""
        if not self.clips:
            raise ValueError(f"no clip with a hand among {self.empty}")
        return (self.counts / self.clips).astype(np.float32)


def prior_area(prior: npt.ArrayLike) -> BinaryMask:
    """The motion area that an H×W prior mask alone stands for: where it reaches half of its highest value.

    Table 3 conditions stage 2 on "Prior" and does not say how the mean of masks is made an area.
    """
    values = np.asarray(prior, dtype=np.float32)
    return values >= max(float(values.max(initial=0)) / 2, float(np.finfo(np.float32).tiny))


def clean_area(soft: np.ndarray, *, threshold: float = 0.5) -> BinaryMask:
    """Stage 1's soft H×W mask in [0, 1] → the binary motion area that stage 2 is given (docs/method.md §3).

    Values above `threshold` are closed (gaps between fingers), their holes filled, specks dropped, and the
    rest grown a little so that the hand has room to move. The paper says "morphology" and no more; sizes
    are relative to the picture (constants above), so that the same action gives the same area at any
    resolution. Nothing above the threshold, or only specks, gives an empty area.
    """
    if soft.ndim != 2:
        raise ValueError(f"a mask must be H×W, not {'×'.join(map(str, soft.shape))}")
    if soft.size and float(soft.max()) > 1:
        raise ValueError("mask values must be in [0, 1]")
    height, width = soft.shape
    area = (soft > threshold).astype(np.uint8)
    area = _padded(cv2.MORPH_CLOSE, area, CLOSE_RADIUS * min(height, width))
    outlines, _ = cv2.findContours(area, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(area, outlines, -1, 1, cv2.FILLED)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(area, connectivity=8)
    keep = stats[:, cv2.CC_STAT_AREA] >= SPECK_AREA * height * width
    keep[0] = False  # label 0 is the background
    area = keep[labels].astype(np.uint8)
    return _padded(cv2.MORPH_DILATE, area, DILATE_RADIUS * min(height, width)).astype(bool)


def usable_area(soft: np.ndarray) -> BinaryMask:
    """`clean_area`, or the whole frame where nothing is left: what stage 2 is given of stage 1's H×W mask."""
    area = clean_area(soft)
    return area if area.any() else np.ones_like(area)


def _padded(operation: int, mask: np.ndarray, radius: float) -> np.ndarray:
    """A morphological operation with a disc of `radius` px (rounded up); the picture's edge is background."""
    reach = int(np.ceil(radius))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    wide = cv2.copyMakeBorder(mask, *[reach] * 4, cv2.BORDER_CONSTANT, value=0)  # type: ignore[call-overload]
    return cv2.morphologyEx(wide, operation, disc)[reach:-reach, reach:-reach].copy()


def feather(area: BinaryMask, width: float) -> SoftMask:
    """Blending weight of an H×W area: 0 outside, rising to 1 within `width` px of its edge, inside only.

    So a picture blended by it keeps every pixel outside the area to the bit. The picture's own border is
    no edge of the area.
    """
    if not area.any() or area.all():
        return area.astype(np.float32)
    depth = cv2.distanceTransform(area.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.clip(depth / (width + 1), 0, 1).astype(np.float32)
