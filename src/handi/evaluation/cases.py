"""The two sides put together: which videos can be compared, and each as the pair that metrics are given."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from handi.core.errors import InputError, OutputError, reason
from handi.core.images import resize
from handi.core.progress import Progress
from handi.core.types import BinaryMask, Frames
from handi.data.sources.common import FRAMES
from handi.evaluation.areas import TrueAreas
from handi.evaluation.entries import Entry, Shape
from handi.evaluation.metrics.protocol import Pair, Unscored
from handi.world.files import read_record

Scope = Literal["full", "area-mask", "area-crop"]
Subset = Literal["all", "motion-intensive"]
Side = dict[str, Entry]
Size = tuple[int, int]  # H, W

INTENSIVE = 0.1  # the motion-intensive subset: the clips with the largest motion areas (docs/method.md §11)
STRETCHED = 0.05  # that an aspect may differ before a note says so: models round sides to their multiples


class Cases:
    """Generated and true videos by id. `ids` can be compared, `refused` says why the others cannot.

    preds: one or two sides of generated videos; an id counts only where all of them have it. ref: the true
    side; where it holds no video at all, only what needs none can be measured. clips: only the first so many
    of ref are asked for. areas: finds the true motion areas.

    The protocol: a generated video is resized to its own true video, as are context images and motion areas;
    where either side has clips of 16 frames, 16 of a longer video are taken, spread evenly (`changes`).
    """

    def __init__(
        self, preds: Sequence[Side], ref: Side, *, context_frames: int, areas: TrueAreas,
        names: Sequence[str], clips: int | None = None,
    ) -> None:  # fmt: skip
        self.preds, self.ref, self.names = preds, ref, names
        self.context_frames, self._areas = context_frames, areas
        self.refused: dict[str, str] = {}
        self.no_area: dict[str, str] = {}  # why there is none, by id
        self.changes: dict[str, dict[str, str]] = {}  # what was done → id → from what to what
        self.sizes: dict[str, Size] = {}  # that everything of an id is compared at
        self.has_reference = any(entry.video is not None for entry in ref.values())
        used = list(ref)[:clips]
        self.asked = [id for id in used if self._is_asked(ref[id])]
        self._unused = set(ref) - set(used)
        self._rivals: dict[str, list[str]] = {}
        with Progress("check", len(self.asked), "videos") as bar:
            shapes = self._shapes(bar)
        self.frames = _length(list(shapes.values()))
        self.ids = [id for id in self.asked if id in shapes and self._fits(id, shapes[id])]
        for id in self.ids:
            self._note_changes(id, shapes[id])

    @property
    def shape(self) -> Shape:
        """Frames, H and W that most ids are compared at."""
        return self.frames, *_usual([self.sizes[id] for id in self.ids] or [(0, 0)])

    def _is_asked(self, entry: Entry) -> bool:
        return entry.video is not None or entry.problem is not None or not self.has_reference

    def _shapes(self, bar: Progress) -> dict[str, list[Shape]]:
        """What the files of each id announce, the true one first; what is missing or damaged is refused."""
        shapes = {}
        for id in self.asked:
            bar.advance()
            try:
                self.ref[id].check()
                found = [self.ref[id].shape()] if self.has_reference else []
                if found:  # also of one that was not generated: its area may be asked for
                    self.sizes[id] = found[0][1:]
                for side, name in zip(self.preds, self.names, strict=True):
                    if id not in side or (side[id].video is None and side[id].problem is None):
                        raise InputError(_absence(name, id))
                    found.append(side[id].shape())
                self.sizes[id] = found[0][1:]
                shapes[id] = found
            except Exception as error:
                self.refused[id] = reason(error)
        for side, name in zip(self.preds, self.names, strict=True):
            for id in sorted(set(side) - set(self.asked) - self._unused):
                alone = f"in {name} alone: there is no true video to compare it with"
                self.refused[id] = side[id].problem or alone
        return shapes

    def _named(self, shapes: Sequence[Shape]) -> Iterator[tuple[str, Shape]]:
        """(whose, shape) of an id's videos."""
        return zip([*(["the true video"] if self.has_reference else []), *self.names], shapes, strict=True)

    def _fits(self, id: str, shapes: list[Shape]) -> bool:
        """Whether all of an id's videos have the frames that most of them have, or more of them."""
        for name, (count, *_) in self._named(shapes):
            if count != self.frames and not (self.frames == FRAMES and count > FRAMES):
                self.refused[id] = f"{name} has {count} frames, the others {self.frames}"
                return False
        if self.frames <= self.context_frames:
            self.refused[id] = f"{self.frames} frames leave none after the context image"
            return False
        return True

    def _note_changes(self, id: str, shapes: list[Shape]) -> None:
        size = self.sizes[id]
        for name, (count, *own) in self._named(shapes):
            if count > self.frames:
                self._changed(f"longer videos: {FRAMES} frames taken", id, f"{count} frames in {name}")
            if tuple(own) != size:
                self._changed("generated videos resized to their true video", id, _words(own, size))
                if abs(own[1] / own[0] / (size[1] / size[0]) - 1) > STRETCHED:
                    self._changed(
                        "generated videos stretched: they have another aspect", id, _words(own, size)
                    )

    def _changed(self, what: str, id: str, how: str) -> None:
        self.changes.setdefault(what, {})[id] = how

    # ------------------------------------------------------------------------------------- one video

    def load(self, id: str, *, area: bool, siblings: bool) -> list[Pair]:
        """The pair of each generated side, of whole frames. area, siblings: find those too.

        Raises: HandiError.
        """
        entry, skip, size = self.ref[id], self.context_frames, self.sizes[id]
        true = self._read(entry, size) if self.has_reference else None
        context = entry.context()
        if context is not None and context.shape[:2] != size:
            self._changed("context images resized", id, _words(context.shape[:2], size))
            context = resize(context, *size)
        if context is None and true is not None and skip:
            context = true[skip - 1]
        made = [self._read(side[id], size) for side in self.preds]
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

    def _read(self, entry: Entry, size: Size) -> Frames:
        """The frames of a video that are compared, at this size."""
        frames = entry.frames(self.frames if self.frames == FRAMES else None)
        if len(frames) != self.frames:
            raise InputError(f"has {len(frames)} frames in truth, not {self.frames}", where=entry.video)
        return frames if frames.shape[1:3] == size else resize(frames, *size)

    def area(self, id: str, true: Frames | None = None) -> BinaryMask | None:
        """The true motion area H×W of an id; None, and `no_area` says why, where there is none.

        true: the true video, where it has been read. Raises: HandiError for a file that cannot be used.
        """
        entry, size = self.ref[id], self.sizes.get(id)
        if size is None:
            raise InputError(self.refused.get(id, "its size is not known"))
        if entry.has_area:
            area = entry.area()
        else:
            try:
                area = self._areas.of(entry, lambda: self._read(entry, size) if true is None else true)
            except OutputError:  # a full disk is not this video's fault
                raise
            except Exception as error:
                self.no_area[id] = reason(error)
                return None
        if area is None:
            self.no_area[id] = "its motion area is not known"
            return None
        if area.shape != size:
            self._changed("motion areas resized", id, _words(area.shape, size))
            area = cv2.resize(area.astype(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST) > 0
        if not area.any():
            self.no_area[id] = "its motion area is empty"
            return None
        return area

    def intensive(self) -> list[str]:
        """The tenth of the true videos with the largest motion areas, whether they were generated or not.

        Ties go by id. Raises: InputError where no area is known.
        """
        sizes = {}
        for id in self.asked:
            try:
                area = self.area(id)
            except OutputError:
                raise
            except Exception as error:
                self.no_area[id] = reason(error)
                continue
            if area is not None:
                sizes[id] = float(area.mean())
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
            if entry.truth is None or entry.video is None:
                continue
            truth = entry.truth.resolve()
            try:
                key = truth.parent, read_record(truth)["seed"]
            except Exception as error:
                self.refused.setdefault(id, reason(error))
                continue
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
                self._read(self.ref[other], self.sizes[id])[self.context_frames :]
                for other in self._rivals.get(id, ())
            )
        except Exception:
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


def _length(shapes: Sequence[Sequence[Shape]]) -> int:
    """Frames that are compared: those that most true videos have (the generated ones, where there are no
    true ones); a clip's 16, where one side has them and the other has more."""
    usual = [_usual([shape[0] for shape in column]) for column in zip(*shapes, strict=True)]
    if not usual:
        return 0
    return FRAMES if FRAMES in usual and min(usual) >= FRAMES else usual[0]


def _usual(values: Sequence[Any]) -> Any:
    """What most are; of equally many the larger."""
    counts = Counter(values)
    return max(counts, key=lambda value: (counts[value], value))


def _words(own: Sequence[int], size: Size) -> str:
    return f"{own[1]}×{own[0]} to {size[1]}×{size[0]}"
