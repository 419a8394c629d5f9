"""What a metric is, what it is given, and what a result is.

A metric is one of two small things:

- a `PairMetric` scores one video at a time (HS-Err, PSNR, CLIP, …): its figures are means over the videos;
- a `SetMetric` compares all generated videos with all true ones (FID, FVD, KID, KVD): it turns each video
  into rows of features, and two sets of rows into a distance.

What is slow in either is an `Extractor`. Its output is kept by the content of the frames, so that CLIP runs
once for three scores, and once on the ground truth for ten methods. Metrics see one video at a time,
always whole: no batch size or order can change a number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from handi.core.errors import HandiError
from handi.core.types import BinaryMask, Frames, Picture

# Raise it if the same videos get other numbers or other features: it is in every result, and in the name of
# every feature that is kept.
PROTOCOL = "handi-1"

Better = Literal["higher", "lower", "neither"]
Part = Literal["reference", "context", "start", "area", "text", "description", "truth", "siblings"]


class Unscored(HandiError):
    """This video has no such score (no hand on either side, an empty area, …): it is left out and counted."""


@dataclass(frozen=True)
class Pair:
    """A generated video and what is known about the true one; None if it is not known.

    Frames are L×H×W×3 uint8, without the context image. For a metric that is `scoped`, everything outside the
    scope is already black or cut off on both sides; other metrics get whole frames.
    """

    id: str
    generated: Frames
    reference: Frames | None = None
    context: Picture | None = None  # H×W×3, the context image: frame 0 of the true video
    start: Picture | None = None  # H×W×3, frame 0 of the generated video: its own rendering of the context
    area: BinaryMask | None = None  # H×W, the true motion area (paper §2.1)
    inside: BinaryMask | None = None  # H×W, the pixels that count in this scope; None: all
    text: str | None = None  # the short action: "Cut the carrot."
    description: str | None = None  # the enriched text
    truth: Path | None = None  # the record of a world clip
    siblings: tuple[Frames, ...] = ()  # L×H×W×3 true videos of other actions from the same context image


@runtime_checkable
class Extractor(Protocol):
    """Frames L×H×W×3 uint8 → an array: the slow part of a metric, a pure function of the frames.

    `key` names everything else that its output depends on: network, weights (their hash), preprocessing.
    """

    @property
    def key(self) -> str: ...

    def __call__(self, frames: Frames) -> np.ndarray: ...


Features = Callable[[Extractor, Frames], np.ndarray]  # the extractor's output, from the cache where it lies


@dataclass(frozen=True)
class Figure:
    """One number that a metric gives."""

    name: str  # its key in results.json: "hs_err_literal"
    title: str  # as a table heads it: "HS-Err (literal)"
    better: Better
    unit: str = ""
    of: str = ""  # what exactly it is, in one line
    wants: tuple[Part, ...] = ()  # parts of a Pair that it needs beyond those that its metric wants
    none: str = "it gives nothing to measure"  # why a video may have no such figure


@runtime_checkable
class Metric(Protocol):
    """What both kinds have; a class that derives from it inherits the defaults.

    Building one, `kind(device)` with the name of a torch device, reads its weights, and raises HandiError
    if they are not there: the evaluation then says "skipped: reason" and continues. All but `weights` are
    attributes of the class, known without building it.
    """

    name: str  # as `--metrics` takes it: "hand", "pixels", "fid"
    figures: tuple[Figure, ...]
    needs: tuple[str, ...] = ()  # names of its weight files, as `handi doctor` lists them
    wants: tuple[Part, ...] = ()  # parts of a Pair that it cannot do without
    scoped: bool = True  # it may be limited to the motion area; False: it always needs the whole frame
    preprocessing: str = "none"  # named and recorded: "lego-stretch-299"
    weights: dict[str, str]  # of each file that was read: name → SHA-256

    def __init__(self, device: str = "cpu") -> None:
        self.weights = {}


@runtime_checkable
class PairMetric(Metric, Protocol):
    """A metric that scores one video at a time."""

    def scores(self, pair: Pair, features: Features) -> dict[str, float]:
        """Figure name → value; a figure that this video does not have is left out or NaN.

        Raises: Unscored if it has none at all.
        """
        ...


@runtime_checkable
class SetMetric(Metric, Protocol):
    """A distance between two sets of videos; it has one figure.

    `enough`: the n under which its value is mostly the bias of a small sample, 0 if it has no bias.
    """

    extractor: Extractor  # frames → R×D float32, the same R for every video (1 per clip, or L)
    enough: int

    def distance(self, generated: np.ndarray, reference: np.ndarray) -> float:
        """Distance of two n×D sets of rows, at least two each. They may be memory maps of any length:
        read them some thousand rows at a time, in float64."""
        ...
