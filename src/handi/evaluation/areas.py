"""The true motion area of a clip, from wherever it can be had."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from handi.core.errors import HandiError
from handi.core.types import BinaryMask, Frames
from handi.evaluation.cache import FeatureCache
from handi.evaluation.entries import Entry
from handi.evaluation.metrics.protocol import Extractor
from handi.evaluation.tally import failure
from handi.method.area import hull_area


class TrueAreas:
    """The area of a file, of the world, or the hulls of the hands that Υ finds in the true video.

    find_hands: builds Υ, called once, and only where an area is needed that no file gives.
    """

    def __init__(self, find_hands: Callable[[], Extractor], cache: FeatureCache) -> None:
        self._find_hands, self._cache = find_hands, cache
        self._hands: Extractor | HandiError | None = None

    def require(self, entries: Iterable[Entry]) -> None:
        """Load Υ now if an area may have to be found. Raises: HandiError where its weights are missing."""
        if any(not entry.has_area and entry.video is not None for entry in entries):
            self._detector()

    def of(self, entry: Entry, frames: Callable[[], Frames]) -> BinaryMask | None:
        """H×W bool; None for a clip without a video. frames: reads the true video, context included.

        Raises: HandiError, also where Υ cannot be had.
        """
        if (area := entry.area()) is not None or entry.video is None:
            return area
        detector, shown = self._detector(), frames()
        return hull_area(self._cache(detector, shown), *shown.shape[1:3])

    def _detector(self) -> Extractor:
        if self._hands is None:
            try:
                self._hands = self._find_hands()
            except Exception as error:  # the same one at once, for every clip
                self._hands = failure(error)
        if isinstance(self._hands, HandiError):
            raise self._hands
        return self._hands
