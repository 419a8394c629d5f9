"""The two sides put together: which videos can be compared, and each as the pair that metrics are given."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from handi.bench.cache import FeatureCache
from handi.bench.entries import Entry, Shape
from handi.errors import HandiError, InputError
from handi.metrics.protocol import Extractor, Pair, Unscored
from handi.motion.area import hull_area
from handi.progress import Progress
from handi.types import BinaryMask, Frames
from handi.world.files import read_record

Scope = Literal["full", "area-mask", "area-crop"]
Subset = Literal["all", "motion-intensive"]
Side = dict[str, Entry]

INTENSIVE = 0.1  # the motion-intensive subset: the clips with the largest motion areas (SPEC §6)


class Cases:
    """Generated and true videos by id. `ids` can be compared, `refused` says why the others cannot.

    preds: one or two sides of generated videos; an id counts only where all of them have it. ref: the true
    side; where it holds no video at all, only what needs none can be measured. clips: only the first so many
    of ref are asked for. find_hands: builds Υ, called only where a motion area is needed that no file gives.
    """

    def __init__(
        self, preds: Sequence[Side], ref: Side, *, context_frames: int, cache: FeatureCache,
        find_hands: Callable[[], Extractor], names: Sequence[str], clips: int | None = None,
    ) -> None:  # fmt: skip
        self.preds, self.ref, self.names = preds, ref, names
        self.context_frames, self.cache, self._find_hands = context_frames, cache, find_hands
        self._hands: Extractor | HandiError | None = None
        self.refused: dict[str, str] = {}
        self.no_area: dict[str, str] = {}  # why there is none, by id
        self.has_reference = any(entry.video is not None for entry in ref.values())
        used = list(ref)[:clips]
        self.asked = [id for id in used if ref[id].video is not None or not self.has_reference]
        self._unused = set(ref) - set(used)
        self._rivals: dict[str, list[str]] = {}
        with Progress("check", len(self.asked), "videos") as bar:
            shapes = self._shapes(bar)
        self.shape = _usual([found[0] for found in shapes.values()])  # of the true ones, where there are any
        self.ids = [id for id in self.asked if id in shapes and self._fits(id, shapes[id])]

    def _shapes(self, bar: Progress) -> dict[str, list[Shape]]:
        """What the files of each id announce, the true one first; what is missing or damaged is refused."""
        shapes = {}
        for id in self.asked:
            bar.advance()
            try:
                for side, name in zip(self.preds, self.names, strict=True):
                    if id not in side or side[id].video is None:
                        raise InputError(_absence(name, id))
                entries = [
                    *([self.ref[id]] if self.has_reference else []),
                    *(side[id] for side in self.preds),
                ]
                shapes[id] = [entry.shape() for entry in entries]
            except HandiError as error:
                self.refused[id] = str(error)
        for side, name in zip(self.preds, self.names, strict=True):
            for id in sorted(set(side) - set(self.asked) - self._unused):
                self.refused[id] = f"in {name} alone: there is no true video to compare it with"
        return shapes

    def _fits(self, id: str, shapes: list[Shape]) -> bool:
        """Whether all of an id's videos have the frames and the size that most of them have."""
        which = [*(["the true video"] if self.has_reference else []), *self.names]
        for shape, name in zip(shapes, which, strict=True):
            if shape != self.shape:
                self.refused[id] = f"{name} has {_words(shape)}, the others {_words(self.shape)}"
                return False
        if self.shape[0] <= self.context_frames:
            self.refused[id] = f"{self.shape[0]} frames leave none after the context image"
            return False
        return True

    # ------------------------------------------------------------------------------------- one video

    def load(self, id: str, *, area: bool, siblings: bool) -> list[Pair]:
        """The pair of each generated side, of whole frames. area, siblings: find those too.

        Raises: HandiError.
        """
        entry, skip = self.ref[id], self.context_frames
        true = self._read(entry) if self.has_reference else None
        context = entry.context()
        if context is None and true is not None and skip:
            context = true[skip - 1]
        made = [self._read(side[id]) for side in self.preds]
        if context is not None and context.shape != made[0].shape[1:]:
            raise InputError(f"the context image is {context.shape[1]}×{context.shape[0]}", where=id)
        mask = self.area(id, true) if area else None
        others = self._siblings(id) if siblings else ()
        return [
            Pair(
                id=id,
                generated=frames[skip:],
                reference=None if true is None else true[skip:],
                context=context,
                start=frames[skip - 1] if skip else None,
                area=mask,
                text=entry.text,
                description=entry.description,
                truth=entry.truth,
                siblings=others,
            )
            for frames in made
        ]

    def _read(self, entry: Entry) -> Frames:
        frames = entry.frames()
        if frames.shape[:3] != self.shape:
            raise InputError(
                f"has {_words(frames.shape)} in truth, not {_words(self.shape)}", where=entry.video
            )
        return frames

    def area(self, id: str, true: Frames | None = None) -> BinaryMask | None:
        """The true motion area H×W: the file's, the world's, or the hulls of the hands that Υ finds in the
        true video, context included (SPEC §2.1). None, and `no_area` says why, where there is none.

        Raises: InputError for a file that cannot be used.
        """
        entry = self.ref[id]
        area = entry.area()
        if area is None and entry.video is not None:
            try:
                joints = self.cache(self._detector(), entry.frames() if true is None else true)
            except HandiError as error:
                self.no_area[id] = str(error)
                return None
            area = hull_area(joints, *self.shape[1:])
        if area is None:
            self.no_area[id] = "its motion area is not known"
            return None
        if area.shape != self.shape[1:]:
            raise InputError(f"the motion area is {area.shape[1]}×{area.shape[0]}", where=id)
        if not area.any():
            self.no_area[id] = "its motion area is empty"
            return None
        return area

    def _detector(self) -> Extractor:
        """Υ, built once. Raises: HandiError; where its weights are not to be had, the same one at once."""
        if self._hands is None:
            try:
                self._hands = self._find_hands()
            except HandiError as error:
                self._hands = error
        if isinstance(self._hands, HandiError):
            raise self._hands
        return self._hands

    def intensive(self) -> list[str]:
        """The tenth of the true videos with the largest motion areas, whether they were generated or not.

        Ties go by id. Raises: InputError where no area is known.
        """
        sizes = {}
        for id in self.asked:
            try:
                area = self.area(id)
            except HandiError as error:
                self.no_area[id] = str(error)
                continue
            if area is not None:
                sizes[id] = int(area.sum())
        if not sizes:
            raise InputError("no motion area is known, so none is intensive", where="--subset")
        count = max(1, round(INTENSIVE * len(self.asked)))
        return sorted(sorted(sizes, key=lambda id: (-sizes[id], id))[:count])

    # -------------------------------------------------------------------------------------- siblings

    def find_siblings(self) -> None:
        """Find the true clips that start from the identical image: those of one seed in one folder.

        They are taken from the whole true side, generated or not, in the subset or not: with fewer rivals a
        clip would win more easily.
        """
        groups: dict[tuple[Path, int], dict[Path, str]] = defaultdict(dict)
        own: dict[str, tuple[tuple[Path, int], Path]] = {}
        for id, entry in self.ref.items():
            if entry.truth is not None and entry.video is not None:
                truth = entry.truth.resolve()
                key = truth.parent, read_record(truth)["seed"]
                groups[key][truth] = id  # a clip that is listed twice is one rival
                own[id] = key, truth
        self._rivals = {
            id: [other for path, other in groups[key].items() if path != truth]
            for id, (key, truth) in own.items()
        }

    def _siblings(self, id: str) -> tuple[Frames, ...]:
        """L×H×W×3 of all true clips that start from the same image; none where one of them cannot be read."""
        try:
            return tuple(
                self._read(self.ref[other])[self.context_frames :] for other in self._rivals.get(id, ())
            )
        except HandiError:
            return ()


def scoped(pair: Pair, scope: Scope) -> Pair:
    """The pair as a scope shows it: everything outside the motion area black, or cut off at its box.

    Raises: Unscored where there is no area.
    """
    if scope == "full":
        return pair
    if pair.area is None:
        raise Unscored("it has no motion area")
    area = pair.area
    if scope == "area-mask":
        keep = area[..., None].astype(np.uint8)

        def show(frames: np.ndarray | None) -> np.ndarray | None:
            return None if frames is None else frames * keep

        inside = area
    else:
        rows, columns = (np.flatnonzero(area.any(axis)) for axis in (1, 0))
        high, wide = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)

        def show(frames: np.ndarray | None) -> np.ndarray | None:
            return None if frames is None else np.ascontiguousarray(frames[..., high, wide, :])

        inside, area = None, area[high, wide]
    generated = show(pair.generated)
    assert generated is not None
    return replace(
        pair,
        generated=generated,
        reference=show(pair.reference),
        context=show(pair.context),
        start=show(pair.start),
        area=area,
        inside=inside,
    )


def _absence(side: str, id: str) -> str:
    """Why a side has no video of this id."""
    if Path(side, id).is_dir():
        return f"{Path(side, id)} holds no video and no evenly numbered pictures of one size"
    return f"there is no generated video of it in {side}"


def _usual(shapes: list[Shape]) -> Shape:
    """The shape that most have; of equally many the larger."""
    counts = Counter(shapes)
    return max(counts, key=lambda shape: (counts[shape], shape), default=(0, 0, 0))


def _words(shape: Sequence[int]) -> str:
    return f"{shape[0]} frames of {shape[2]}×{shape[1]}"
