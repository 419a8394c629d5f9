"""Videos whose frames decode to the very pixels that were given, whatever the machine, load or threads."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

CLOCK = Fraction(1, 12000)  # s: a whole number of ticks per frame at all common rates


def lossless(
    path: Path,
    frames: Sequence[np.ndarray] | np.ndarray,
    *,
    fps: float = 8,
    times: Sequence[float] = (),
    codec: str = "libx264rgb",
    pixels: str = "rgb24",
) -> Path:
    """Write H×W×3 uint8 frames, shown at `times` (s), or else evenly; gives the path.

    codec: lossless H.264, or one that a container asks for, which may be lossy.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    times = times or [number / fps for number in range(len(frames))]
    options = {"movflags": "+faststart"} if path.suffix == ".mp4" else {}
    with av.open(str(path), "w", options=options) as container:
        exact = {"qp": "0", "preset": "ultrafast"} if codec == "libx264rgb" else {}
        stream = container.add_stream(codec, rate=Fraction(fps), options=exact)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.codec_context.time_base = (
            pixels,
            CLOCK if codec == "libx264rgb" else 1 / Fraction(fps),
        )
        for frame, time in zip(frames, times, strict=True):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            picture.pts, picture.time_base = round(time / CLOCK), CLOCK
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path
