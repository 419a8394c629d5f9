"""Motion flow: the share of frame pairs in which a pixel moves (appendix E), and the authors' picture."""

from __future__ import annotations

import math

import cv2
import numpy as np

from handi.core.types import Frames, Picture, SoftMask

REFERENCE_WIDTH = 448  # px; the width at which the threshold is stated
THRESHOLD_PX = 0.5  # the paper gives none: the value that separates hand from codec noise best at 448×256


class MotionFlow:
    """Appendix E as a running count, so that a long video needs two frames of memory.

    `add` frames in order (H×W×3 uint8), then read `share`. The integer `counts` are exact, and those of
    two clips may be summed.
    """

    def __init__(self, *, threshold_px: float = THRESHOLD_PX) -> None:
        if not threshold_px > 0:
            raise ValueError(f"threshold_px must be above 0, not {threshold_px}")
        self.threshold_px = threshold_px
        self.pairs = 0
        self.counts: np.ndarray | None = None  # H×W int64: pairs in which the pixel moves
        self._previous: np.ndarray | None = None

    def add(self, frame: Picture) -> None:
        """Count one more frame. Raises: ValueError where its size is not that of the frames before."""
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        if self.counts is None:
            self.counts = np.zeros(grey.shape, np.int64)
        if self._previous is not None:
            if grey.shape != self._previous.shape:
                raise ValueError(f"a frame of {grey.shape} after frames of {self._previous.shape}")
            if not np.array_equal(grey, self._previous):  # Farneback sees motion at specks that stand still
                length = np.linalg.norm(farneback(self._previous, grey), axis=-1)
                self.counts += length > self.threshold_px * grey.shape[1] / REFERENCE_WIDTH
            self.pairs += 1
        self._previous = grey

    @property
    def share(self) -> SoftMask:
        """H×W in [0, 1]: #(pairs with flow above the threshold) / #pairs; zeros for a single frame."""
        if self.counts is None:
            raise ValueError("no frames")
        return (self.counts / max(self.pairs, 1)).astype(np.float32)

    def state(self) -> dict[str, np.ndarray]:
        """What must be kept to continue later (see `restore`)."""
        if self.counts is None or self._previous is None:
            raise ValueError("no frames")
        return {"counts": self.counts, "pairs": np.array(self.pairs), "previous": self._previous}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Go on from a kept state."""
        self.counts, self._previous = state["counts"], state["previous"]
        self.pairs = int(state["pairs"])


def motion_flow(frames: Frames, *, threshold_px: float = THRESHOLD_PX) -> SoftMask:
    """Motion flow of F×H×W×3 uint8 frames: H×W in [0, 1], the share of frame pairs in which a pixel moves.

    Appendix E. `threshold_px` is the length of flow that counts as motion in a picture 448 px wide; it
    grows with the width. The paper names neither an algorithm nor a threshold: see `farneback`.
    """
    flow = MotionFlow(threshold_px=threshold_px)
    for frame in frames:
        flow.add(frame)
    return flow.share


def farneback(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Dense flow in px between two H×W uint8 grey frames: H×W×2 float32 (dx, dy).

    The parameters are those with which the authors' published flow pictures were made (they are
    reproduced byte for byte, see `hsv_first_pair`).
    """
    # pyr_scale, levels, winsize, iterations, poly_n, poly_sigma, flags
    return cv2.calcOpticalFlowFarneback(before, after, None, 0.5, 3, 15, 3, 5, 1.2, 0)


def share_inside(flow: SoftMask, area: np.ndarray) -> float:
    """Share of all motion (sum of an H×W flow map) that lies inside an H×W area (bool, or weights in [0, 1]).

    1 is motion only where the action is. NaN where nothing moves at all.
    """
    if flow.shape != area.shape:
        raise ValueError(f"a flow map of {flow.shape} and an area of {area.shape}")
    total = float(flow.sum(dtype=np.float64))
    return float((flow * area).sum(dtype=np.float64)) / total if total > 0 else math.nan


def hsv_first_pair(frames: Frames) -> Picture:
    """The picture that the authors publish as motion flow: F×H×W×3 uint8 → H×W×3 uint8 RGB.

    It is not appendix E but OpenCV's tutorial picture of the first two frames: hue is the direction of the
    flow, value its length stretched to 0..255. A clip of one frame has no flow and is black.
    """
    if len(frames) < 2:
        return np.zeros_like(frames[0])
    before, after = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames[:2])
    flow = farneback(before, after)
    length, angle = cv2.cartToPolar(flow[..., 0], flow[..., 1])
    hsv = np.full_like(frames[0], 255)
    hsv[..., 0] = angle * 180 / np.pi / 2  # OpenCV's 8-bit hue goes to 180
    hsv[..., 2] = cv2.normalize(length, np.empty_like(length), 0, 255, cv2.NORM_MINMAX)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
