"""Generated and true videos by id: which can be compared, and each as the pair that metrics are given."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from handi.core.device import choose_device
from handi.core.errors import HandiError, InputError, OutputError, failure, reason
from handi.core.images import resize
from handi.core.progress import Progress
from handi.core.types import BinaryMask, Frames
from handi.data.sources.common import FRAMES
from handi.evaluation.features import FeatureCache
from handi.evaluation.metrics.protocol import Extractor, Pair, Unscored
from handi.evaluation.videos import Entry, Shape
from handi.evaluation.world import WorldEntry
from handi.method.area import hull_area

Scope = Literal["full", "area-mask", "area-crop"]
Subset = Literal["all", "motion-intensive"]
Size = tuple[int, int]  # H, W

INTENSIVE = 0.1  # the motion-intensive subset: the clips with the largest motion areas (docs/method.md §11)
STRETCHED = 0.05  # a note reports aspects that differ by more: models round sides to their multiples


def find_hands(device: str) -> Extractor:
    """Υ as an extractor. Raises: HandiError if its weights are missing."""
    from handi.evaluation.metrics.hand import FindHands

    return FindHands(choose_device(device))


class TrueAreas:
    """The true motion area of any clip: as given, or the hulls of the hands that Υ finds (paper §2.1).

    Υ is loaded once, and only if an area is needed that no file gives.
    """

    def __init__(self, device: str, features: FeatureCache) -> None:
        self._device, self._features = device, features
        self._hands: Extractor | HandiError | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_hands": None}  # no network is sent to another process

    def require(self, entries: Iterable[Entry]) -> None:
        """Load Υ now if an area may have to be found. Raises: HandiError if its weights are missing."""
        if any(not entry.has_area and entry.video is not None for entry in entries):
            self._detector()

    def of(self, entry: Entry, frames: Callable[[], Frames]) -> BinaryMask | None:
        """H×W bool; None for a clip without a video. frames: reads the true video, context included.

        Raises: HandiError, also if Υ cannot be loaded.
        """
        if (area := entry.area()) is not None or entry.video is None:
            return area
        detector, true = self._detector(), frames()
        return hull_area(self._features(detector, true), *true.shape[1:3])

    def _detector(self) -> Extractor:
        if self._hands is None:
            try:
                self._hands = find_hands(self._device)
            except Exception as error:  # every further clip fails at once with the same one
                self._hands = failure(error)
        if isinstance(self._hands, HandiError):
            raise self._hands
        return self._hands


class Pairs:
    """Generated and true videos by id: `ids` can be compared, `refused` says why the others cannot.

    generated: the videos of one or two folders, called `names`; an id counts only if all of them have it.
    true: the true videos; if there is none at all, only what needs none can be measured. clips: only the
    first so many true videos are asked for. areas: finds the true motion areas.

    The protocol: a generated video is resized to its true video, and so are context images and motion areas.
    If either folder has clips of 16 frames, 16 evenly spread frames of a longer video count (`changes`).
    """

    def __init__(
        self, generated: Sequence[dict[str, Entry]], true: dict[str, Entry], *, context_frames: int,
        areas: TrueAreas, names: Sequence[str], clips: int | None = None,
    ) -> None:  # fmt: skip
        self.generated, self.true, self.names = generated, true, names
        self.context_frames, self.areas = context_frames, areas
        self.refused: dict[str, str] = {}
        self.no_area: dict[str, str] = {}  # id → why there is none
        self.changes: dict[str, dict[str, str]] = {}  # what was done → id → from what to what
        self.sizes: dict[str, Size] = {}  # of everything that is compared for an id
        self.has_reference = any(entry.video is not None for entry in true.values())
        used = list(true)[:clips]
        self.asked = [
            id for id in used if true[id].video or true[id].problem is not None or not self.has_reference
        ]
        for side, name in zip(generated, names, strict=True):
            for id in sorted(set(side) - set(self.asked) - (set(true) - set(used))):
                alone = f"in {name} alone: there is no true video to compare it with"
                self.refused[id] = side[id].problem or alone
        self._rivals: dict[str, list[str]] = {}
        shapes: dict[str, list[Shape]] = {}
        with Progress("check", len(self.asked), "videos") as bar:
            for id in self.asked:
                bar.advance()
                try:
                    shapes[id] = self._shapes(id)
                except Exception as error:
                    self.refused[id] = reason(error)
        self.frames = _common_length(list(shapes.values()))
        self.ids = [id for id in shapes if self._fits(id, shapes[id])]
        for id in self.ids:
            self._note_changes(id, shapes[id])

    @property
    def shape(self) -> Shape:
        """Frames, H and W at which most ids are compared."""
        return self.frames, *_most_common([self.sizes[id] for id in self.ids] or [(0, 0)])

    def keep(self, chosen: Iterable[str]) -> None:
        """Forget every other id: it is neither asked for nor refused."""
        kept = set(chosen)
        self.asked = [id for id in self.asked if id in kept]
        self.ids = [id for id in self.ids if id in kept]
        self.refused = {id: why for id, why in self.refused.items() if id in kept}

    def _shapes(self, id: str) -> list[Shape]:
        """The shapes that an id's files announce, the true one first. Raises: HandiError."""
        self.true[id].check()
        found = [self.true[id].shape()] if self.has_reference else []
        if found:  # even if it was not generated: its area may be asked for
            self.sizes[id] = found[0][1:]
        for side, name in zip(self.generated, self.names, strict=True):
            if id not in side or (side[id].video is None and side[id].problem is None):
                raise InputError(_absence(name, id))
            found.append(side[id].shape())
        self.sizes[id] = found[0][1:]
        return found

    def _named(self, shapes: Sequence[Shape]) -> Iterator[tuple[str, Shape]]:
        """(whose, shape) of an id's videos."""
        return zip([*(["the true video"] if self.has_reference else []), *self.names], shapes, strict=True)

    def _fits(self, id: str, shapes: list[Shape]) -> bool:
        """Whether all of an id's videos have the common number of frames, or may have more."""
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
                self._note(f"longer videos: {FRAMES} frames taken", id, f"{count} frames in {name}")
            if tuple(own) != size:
                self._note("generated videos resized to their true video", id, _from_to(own, size))
                if abs(own[1] / own[0] / (size[1] / size[0]) - 1) > STRETCHED:
                    what = "generated videos stretched: they have another aspect"
                    self._note(what, id, _from_to(own, size))

    def _note(self, what: str, id: str, how: str) -> None:
        self.changes.setdefault(what, {})[id] = how

    def noted(self, id: str) -> dict[str, Any]:
        """What was found out about an id, for `take_notes` where the results are collected."""
        changes = {what: which[id] for what, which in sorted(self.changes.items()) if id in which}
        return {"changes": changes, "no_area": self.no_area.get(id)}

    def take_notes(self, line: Mapping[str, Any]) -> None:
        """Add what a worker `noted` about an id."""
        for what, how in line["changes"].items():
            self._note(what, line["id"], how)
        if line["no_area"] is not None:
            self.no_area[line["id"]] = line["no_area"]

    def used_by(self, id: str) -> Iterator[Entry]:
        """Everything whose files an id's scores depend on."""
        yield self.true[id]
        yield from (side[id] for side in self.generated)
        yield from (self.true[other] for other in self._rivals.get(id, ()))

    # ------------------------------------------------------------------------------------- one video

    def load(self, id: str, *, area: bool, siblings: bool) -> list[Pair]:
        """One pair per generated folder, of whole frames. area, siblings: find those too.

        Raises: HandiError.
        """
        entry, skip, size = self.true[id], self.context_frames, self.sizes[id]
        true = self._read(entry, size) if self.has_reference else None
        context = entry.context()
        if context is not None and context.shape[:2] != size:
            self._note("context images resized", id, _from_to(context.shape[:2], size))
            context = resize(context, *size)
        if context is None and true is not None and skip:
            context = true[skip - 1]
        made = [self._read(side[id], size) for side in self.generated]
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
        """The true motion area H×W of an id; None if there is none, and `no_area` says why.

        true: the true video, if it has been read. Raises: HandiError for a file that cannot be used.
        """
        entry, size = self.true[id], self.sizes.get(id)
        if size is None:
            raise InputError(self.refused.get(id, "its size is not known"))
        try:
            area = self.areas.of(entry, lambda: self._read(entry, size) if true is None else true)
        except Exception as error:
            if entry.has_area or isinstance(error, OutputError):  # a full disk is not this video's fault
                raise
            self.no_area[id] = reason(error)
            return None
        if area is not None and area.shape != size:
            self._note("motion areas resized", id, _from_to(area.shape, size))
            area = cv2.resize(area.astype(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST) > 0
        if area is None or not area.any():
            self.no_area[id] = "its motion area is " + ("not known" if area is None else "empty")
            return None
        return area

    def area_share(self, id: str) -> float | None:
        """The true motion area of an id as a share of the frame, None if unknown. Raises: OutputError."""
        try:
            area = self.area(id)
        except OutputError:
            raise
        except Exception as error:
            self.no_area[id] = reason(error)
            return None
        return None if area is None else float(area.mean())

    def intensive(self, shares: Mapping[str, float]) -> list[str]:
        """The tenth of the true videos with the largest motion areas, whether they were generated or not.

        shares: of those whose area is known. Ties are broken by id. Raises: InputError if no area is known.
        """
        if not shares:
            raise InputError("no motion area is known, so none is intensive", where="--subset")
        count = max(1, round(INTENSIVE * len(self.asked)))
        return sorted(sorted(shares, key=lambda id: (-shares[id], id))[:count])

    # -------------------------------------------------------------------------------------- siblings

    def find_siblings(self) -> None:
        """Find the true clips of the synthetic world that start from the same image.

        They are taken from all true videos, generated or not, in the subset or not: with fewer rivals a clip
        would win more easily.
        """
        groups: dict[tuple[Path, int], dict[Path, str]] = defaultdict(dict)
        own: dict[str, tuple[tuple[Path, int], Path]] = {}
        for id, entry in self.true.items():
            if not isinstance(entry, WorldEntry) or entry.truth is None or entry.video is None:
                continue
            try:
                key, record = entry.same_start(), entry.truth.resolve()
            except Exception as error:
                self.refused.setdefault(id, reason(error))
                continue
            groups[key][record] = id  # a clip that is listed twice is one rival
            own[id] = key, record
        self._rivals = {
            id: [other for path, other in groups[key].items() if path != record]
            for id, (key, record) in own.items()
        }

    def _siblings(self, id: str) -> tuple[Frames, ...]:
        """L×H×W×3 of all true clips that start from the same image; none if one of them cannot be read."""
        try:
            return tuple(
                self._read(self.true[other], self.sizes[id])[self.context_frames :]
                for other in self._rivals.get(id, ())
            )
        except Exception:
            return ()


def scoped(pair: Pair, scope: Scope) -> Pair:
    """The pair within a scope: everything outside the motion area black, or cut off at its bounding box.

    Raises: Unscored if there is no area.
    """
    if scope == "full":
        return pair
    if pair.area is None:
        raise Unscored("it has no motion area")
    area, inside = pair.area, None
    if scope == "area-mask":
        keep, inside = area[..., None].astype(np.uint8), area

        def limit(frames: np.ndarray) -> np.ndarray:
            return frames * keep
    else:
        rows, columns = (np.flatnonzero(area.any(axis)) for axis in (1, 0))
        high, wide = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        area = area[high, wide]

        def limit(frames: np.ndarray) -> np.ndarray:
            return np.ascontiguousarray(frames[..., high, wide, :])

    parts = {name: getattr(pair, name) for name in ("generated", "reference", "context", "start")}
    limited: dict[str, Any] = {name: limit(part) for name, part in parts.items() if part is not None}
    return replace(pair, area=area, inside=inside, **limited)


def _absence(folder: str, id: str) -> str:
    """Why a folder has no video of this id."""
    if Path(folder, id).is_dir():
        return f"{Path(folder, id)} holds no video and no evenly numbered pictures of one size"
    return f"there is no generated video of it in {folder}"


def _common_length(shapes: Sequence[Sequence[Shape]]) -> int:
    """Frames that are compared: the most common number among true videos (generated ones, if there are no
    true ones), or a clip's 16, if one folder has them and the other has more."""
    usual = [_most_common([shape[0] for shape in column]) for column in zip(*shapes, strict=True)]
    if not usual:
        return 0
    return FRAMES if FRAMES in usual and min(usual) >= FRAMES else usual[0]


def _most_common(values: Sequence[Any]) -> Any:
    """The most frequent value; of equally frequent ones the larger."""
    counts = Counter(values)
    return max(counts, key=lambda value: (counts[value], value))


def _from_to(own: Sequence[int], size: Size) -> str:
    return f"{own[1]}×{own[0]} to {size[1]}×{size[0]}"
