"""Does only what should move, move? Motion flow inside the motion area, and drift of the background."""

from __future__ import annotations

import math

import numpy as np

from handi.core.types import BinaryMask, Frames, Picture
from handi.evaluation.metrics.protocol import Features, Figure, Pair, PairMetric, Unscored
from handi.motion.flow import REFERENCE_WIDTH, THRESHOLD_PX, MotionFlow, share_inside

NO_OUTSIDE = "its motion area is the whole frame"


class FlowCounts:
    """Motion flow as an extractor: F×H×W×3 → H×W uint16, the frame pairs in which a pixel moves."""

    key = f"flow/farneback-.5-3-15-3-5-1.2/{THRESHOLD_PX}px-at-{REFERENCE_WIDTH}"

    def __call__(self, frames: Frames) -> np.ndarray:
        flow = MotionFlow()
        for frame in frames:
            flow.add(frame)
        assert flow.counts is not None
        return flow.counts.astype(np.uint16)


class Motion(PairMetric):
    """Appendix E's motion flow as numbers, and what changes where nothing should.

    They need whole frames, whatever the scope. Flow and drift are measured from the generated video's own
    frame 0, or from the true context image if it has none.
    """

    name = "motion"
    figures = (
        Figure("flow_inside", "flow inside the area", "higher",
               of="share of all motion (flow above the threshold, summed over pixels and frame pairs) that "
                  "lies inside the motion area", wants=("area",), none="nothing moves in it"),
        Figure("flow_mean", "motion flow", "neither",
               of="share of pixels and frame pairs with flow above the threshold: 0 is a still video"),
        Figure("background_drift", "background drift", "lower", "levels",
               of="mean |frame − frame 0 of the same video| outside the motion area, of 255 levels",
               wants=("area",), none=NO_OUTSIDE),
        Figure("background_error", "background error", "lower", "levels",
               of="mean |frame − true context image| outside the motion area, of 255 levels",
               wants=("area", "context"), none=NO_OUTSIDE),
    )  # fmt: skip
    scoped = False
    preprocessing = f"farneback-{THRESHOLD_PX}px-at-{REFERENCE_WIDTH}"
    count = FlowCounts()

    def scores(self, pair: Pair, features: Features) -> dict[str, float]:
        """See `figures`. `flow_inside` is left out if nothing moves, drift if the area is the whole frame."""
        before = pair.start if pair.start is not None else pair.context
        frames = pair.generated if before is None else np.concatenate([before[None], pair.generated])
        if len(frames) < 2:
            raise Unscored("a single frame has no motion")
        flow = (features(self.count, frames) / (len(frames) - 1)).astype(np.float32)
        scores = {"flow_mean": float(flow.mean(dtype=np.float64))}
        if pair.area is not None and pair.area.any():
            scores["flow_inside"] = share_inside(flow, pair.area)
            scores["background_drift"] = drift(frames[1:], frames[0], pair.area)
            if pair.context is not None:
                scores["background_error"] = drift(frames[1:], pair.context, pair.area)
        return scores


def drift(frames: Frames, context: Picture, area: BinaryMask) -> float:
    """Mean absolute difference, in levels of 255, of L×H×W×3 frames from the context outside an H×W area."""
    outside = ~area
    if not outside.any():
        return math.nan
    there = context[outside].astype(np.int16)
    return float(np.mean([np.abs(frame[outside] - there).mean() for frame in frames]))
