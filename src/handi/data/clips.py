"""From a set of clips to batches: which clips, which frames, which words; all a function of (seed, position).

A position counts the samples that a run has seen. Sample number p of a run is always the same clip with the
same frames, words and mirroring, whatever the batch size, the accumulation or the number of processes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from handi.core.errors import InputError
from handi.core.progress import Progress
from handi.core.types import BinaryMask, Frames
from handi.data.words import mirrored_text


@dataclass(frozen=True)
class TrainingClip:
    """A clip as a set gives it; its arrays may be read-only views of a file."""

    name: str
    frames: Frames  # F×H×W×3, frame 0 is the context image; F×0×0×3 where only latents are kept
    area: BinaryMask  # H×W, the true motion area
    # F×42×2 in [0, 1], left hand first, zeros for a hand that is not there; of the whole clip in a set
    # that has its first frame alone
    joints: np.ndarray
    visible: np.ndarray  # F×2 bool: the hand can be read in that frame
    rois: np.ndarray  # F×2×4 as `Hands.rois`, side 0 where not visible
    texts: dict[str, tuple[str, ...]]  # by kind: "short", and where there are any "paraphrase", "enriched"
    mirrors: bool = True  # the mirrored clip shows what its mirrored words say
    latents: np.ndarray | None = None  # F×C×h×w float16, scaled: the frames as an autoencoder made them
    embeddings: dict[str, np.ndarray] | None = None  # sentence → N×D float16 of a text encoder
    # 2×H×W bool: where the context image shows things, and hands, that the words mean; None: not known
    referents: np.ndarray | None = None
    generated: BinaryMask | None = None  # H×W, the area that stage 1 made beforehand, where it is stored
    frame_areas: BinaryMask | None = None  # F×H×W, the part of `area` in each frame, where it is asked for


class ClipSet(Protocol):
    """Any number of clips of one size, by index."""

    name: str  # the folder, for messages
    size: tuple[int, int]  # H, W
    frames: int  # of every clip
    notes: list[str]  # what a user should know, such as clips that were left out

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> TrainingClip: ...

    def fingerprint(self) -> str:
        """Hash that is the same as long as every index gives the same clip."""
        ...


@dataclass(frozen=True)
class Batch:
    """What a training step gets."""

    names: list[str]  # of clips and whether mirrored: samples of one name are of one picture
    frames: Tensor  # B×F×H×W×3 uint8; frame 0 is always the context image
    frame_index: Tensor  # B×F int64: which of the clip's frames (0 first)
    area: Tensor  # B×H×W float32 in {0, 1}: the true motion area
    texts: list[str]  # a sentence a clip, "" where dropped for classifier-free guidance
    joints: Tensor  # B×F×42×2 in [0, 1], left hand first, zeros for a hand that is not there
    visible: Tensor  # B×F×2 bool: the hand can be read in that frame
    rois: Tensor  # B×F×2×4 as `Hands.rois` (px of the frame), side 0 where not visible
    latents: Tensor | None = None  # B×C×F×h×w float16, where they are cached
    embeddings: Tensor | None = None  # B×N×D float16 where they are cached; zeros for the text ""
    referents: Tensor | None = None  # B×2×H×W float32 in {0, 1} where known, as of a clip
    poses: Tensor | None = None  # B×F×42×2: the joints that stage 2 is told; zeros: it is not told
    generated: Tensor | None = None  # B×H×W float32 in {0, 1} where stored, as of a clip
    frame_areas: Tensor | None = None  # B×F×H×W float32 in {0, 1} where asked for, as of a clip
    kinds: Sequence[str] | None = None  # of the areas that stage 2 is given (`MaskRecipe`); None: all true
    prior: Tensor | None = None  # H×W float32 in {0, 1}: the area of the kind "prior"
    way: Tensor | None = None  # B×L×42×2: the joints in every frame of the whole clips, shown or not

    def __len__(self) -> int:
        return len(self.names)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on a device."""
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        moved = {
            name: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
            for name, value in moved.items()
        }
        return Batch(**moved)

    @property
    def mask(self) -> Tensor:
        """The motion area that stage 2 is given, B×H×W float32 in {0, 1}; in rows `to_generate` the true one.

        Raises: ValueError for the kind "prior" without one.
        """
        mask = self.area.clone()
        known = {"generated": self.generated, "full": torch.ones_like(mask)}
        if self.kinds is not None and "prior" in self.kinds:
            if self.prior is None:
                raise ValueError("the mask prior needs the prior area")
            known["prior"] = self.prior.expand_as(mask)  # the same place in every picture, mirrored or not
        for row, kind in enumerate(self.kinds or ()):
            if (area := known.get(kind)) is not None:
                mask[row] = area[row]
        return mask

    @property
    def to_generate(self) -> Tensor | None:
        """B bool: the rows of which stage 1 makes the area in the step, as none is stored; None: none."""
        if self.generated is not None or "generated" not in (self.kinds or ()):
            return None
        return torch.tensor([kind == "generated" for kind in self.kinds or ()], device=self.area.device)


@dataclass(frozen=True)
class Drawing:
    """How a sample is drawn from a clip. By default nothing is left to chance: all frames, the short text."""

    frames: int | None = None  # of the clip's, the context included; None: all
    anywhere: bool = False  # frames are any later ones, and not evenly spaced
    flip: bool = False  # mirror half of the samples
    texts: tuple[str, ...] = ("short",)  # kinds to choose from, evenly
    dropout: float = 0.0  # share of samples without text
    # Kinds of area that stage 2 is given (true, generated, prior, full), and their shares of the samples.
    masks: tuple[tuple[str, float], ...] = (("true", 1.0),)


class Order:
    """Which clip sample number `position` is: a new permutation every epoch, none lost, none doubled.

    together: clips that follow each other stay together, so many at a time.
    """

    def __init__(self, clips: int, seed: int, together: int = 1) -> None:
        self.clips, self.seed, self.together = clips, seed, together
        self._epochs: dict[int, np.ndarray] = {}

    def __getitem__(self, position: int) -> int:
        epoch, row = divmod(position, self.clips)
        order = self._epochs.get(epoch)  # looked up once: another thread may drop it at any moment
        if order is None:
            order = np.random.default_rng([self.seed, 0, epoch]).permutation(self.clips // self.together)
            # Two stay: a batch may lie across the border. Threads may both draw one; it is the same one.
            self._epochs = {k: v for k, v in self._epochs.items() if k == epoch - 1} | {epoch: order}
        return int(order[row // self.together]) * self.together + row % self.together


@dataclass(frozen=True)
class Sample:
    """What of a clip a sample of it shows."""

    clip: int  # its index
    frames: np.ndarray  # which of its frames, the first 0
    text: str  # "" where dropped
    mirror: bool
    mask: str = "true"  # kind of area that stage 2 is given


class Batches:
    """The samples of a run: `batches.at(position, size)` is a batch of consecutive ones.

    prior: the H×W motion area that samples of the mask "prior" are given. together: as of `Order`.
    """

    def __init__(
        self,
        clips: ClipSet,
        drawing: Drawing,
        seed: int,
        *,
        shuffle: bool = True,
        prior: BinaryMask | None = None,
        together: int = 1,
    ) -> None:
        self.clips, self.drawing, self.seed, self.prior = clips, drawing, seed, prior
        self.order = Order(len(clips), seed, together) if shuffle else None
        self._held: _Held | None = None

    def hold(self, device: torch.device) -> None:
        """Read all clips now and keep them on a device; the samples stay the same. Raises: InputError."""
        self._held = _Held(self.clips, device)

    def at(self, position: int, size: int) -> Batch:
        """Samples `position` … `position + size - 1`."""
        indices = [self._index(position + n) for n in range(size)]
        read: Sequence[TrainingClip] | ClipSet = self.clips if self._held is None else self._held.cards
        clips = [read[index] for index in indices]
        samples = [
            draw(clip, index, self.clips.frames, self.drawing, np.random.default_rng([self.seed, 1, p]))
            for p, index, clip in zip(range(position, position + size), indices, clips, strict=True)
        ]
        batch = collate(clips, samples) if self._held is None else self._held.collate(clips, samples)
        batch = mirrored(batch, torch.tensor([sample.mirror for sample in samples]))
        prior = None if self.prior is None else torch.from_numpy(self.prior).to(batch.area)
        return replace(batch, kinds=[sample.mask for sample in samples], prior=prior)

    def _index(self, position: int) -> int:
        return self.order[position] if self.order else position % len(self.clips)

    def stream(
        self, positions: Iterable[int], size: int, *, workers: int = 2
    ) -> Generator[Batch, None, None]:
        """The batches at these positions, in order, made ahead in threads. Errors come at their batch."""
        if workers < 1:
            yield from (self.at(position, size) for position in positions)
            return
        ahead: deque[Future[Batch]] = deque()
        pool = ThreadPoolExecutor(workers, thread_name_prefix="batches")
        try:
            for position in positions:
                ahead.append(pool.submit(self.at, position, size))
                if len(ahead) > workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def draw(clip: TrainingClip, index: int, count: int, drawing: Drawing, rng: np.random.Generator) -> Sample:
    """Choose frames of the clip's `count`, text, mirroring and dropout of one sample; every choice draws,
    used or not, so that a recipe with another dropout or number of frames sees the same words and mirroring.
    """
    start, kind, which, mirror, drop = rng.random(5)
    frames = frame_subset(count, drawing.frames or count, float(start))
    if drawing.anywhere:
        later = rng.choice(np.arange(1, count), len(frames) - 1, replace=False)
        frames = np.concatenate([[0], np.sort(later)]).astype(np.int64)
    kinds = [name for name in drawing.texts if clip.texts.get(name)] or ["short"]
    sentences = clip.texts[kinds[int(kind * len(kinds))]]
    text = sentences[int(which * len(sentences))]
    turned = drawing.flip and clip.mirrors and mirror < 0.5
    if turned:
        text = mirrored_text(text)
    mask = _by_share(drawing.masks, float(rng.random()))
    return Sample(index, frames, "" if drop < drawing.dropout else text, turned, mask)


def _by_share(shares: Sequence[tuple[str, float]], chance: float) -> str:
    """The name whose share of [0, 1) `chance` falls in."""
    for name, share in shares:
        if chance < share:
            return name
        chance -= share
    return next(name for name, share in reversed(shares) if share > 0)  # they add up to a hair less than 1


def frame_subset(total: int, count: int, chance: float) -> np.ndarray:
    """Frame 0 and `count - 1` evenly spaced later ones, as far apart as they can be; `chance` in [0, 1)
    shifts them. Raises: ValueError where the clip has fewer."""
    if not 1 <= count <= total:
        raise ValueError(f"{count} frames of a clip of {total}")
    if count == 1:
        return np.zeros(1, np.int64)
    stride = (total - 1) // (count - 1)
    room = total - 1 - stride * (count - 2)  # the last start that fits
    start = 1 + int(chance * room)
    return np.concatenate([[0], start + stride * np.arange(count - 1)]).astype(np.int64)


def collate(clips: Sequence[TrainingClip], samples: Sequence[Sample]) -> Batch:
    """Samples of these clips, not mirrored yet, as a batch of tensors on the CPU."""

    def stacked(name: str) -> Tensor:
        rows = [getattr(clip, name)[sample.frames] for clip, sample in zip(clips, samples, strict=True)]
        return torch.from_numpy(np.stack(rows))

    texts = [sample.text for sample in samples]
    return Batch(
        names=[clip.name for clip in clips],
        frames=stacked("frames"),
        frame_index=torch.from_numpy(np.stack([sample.frames for sample in samples])),
        area=torch.from_numpy(np.stack([clip.area for clip in clips])).float(),
        texts=texts,
        joints=stacked("joints").float(),
        visible=stacked("visible").bool(),
        rois=stacked("rois").float(),
        latents=stacked("latents").transpose(1, 2) if clips[0].latents is not None else None,
        embeddings=_embeddings(clips, texts),
        referents=_known(clips, "referents"),
        generated=_known(clips, "generated"),
        frame_areas=stacked("frame_areas").float() if clips[0].frame_areas is not None else None,
        way=torch.from_numpy(np.stack([clip.joints for clip in clips])).float(),
    )


class _Held:
    """All clips of a set as tensors on a device, to make batches without reading or copying."""

    ARRAYS = ("frames", "area", "joints", "visible", "rois")
    OPTIONAL = ("referents", "generated")

    def __init__(self, clips: ClipSet, device: torch.device) -> None:
        self.cards: list[TrainingClip] = []  # the clips without their arrays
        self.arrays: dict[str, Tensor] = {}
        with Progress("hold", len(clips), "clips") as bar:
            for index in range(len(clips)):
                clip = clips[index]
                if clip.latents is not None:
                    raise InputError(
                        "data.resident: clips with cached latents are read as they are",
                        where=clips.name,
                        mend="set data.resident to false",
                    )
                for name in (*self.ARRAYS, *self.OPTIONAL):
                    if (array := getattr(clip, name)) is None:
                        continue
                    value = torch.from_numpy(np.array(array))
                    if index == 0:
                        self.arrays[name] = value.new_empty(len(clips), *value.shape, device=device)
                    self.arrays[name][index].copy_(value)
                self.cards.append(_card(clip))
                bar.advance()

    def collate(self, clips: Sequence[TrainingClip], samples: Sequence[Sample]) -> Batch:
        """As `collate`, on the device."""
        device = self.arrays["frames"].device
        rows = torch.tensor([sample.clip for sample in samples], device=device)
        frames = torch.from_numpy(np.stack([sample.frames for sample in samples])).to(device)
        picked: dict[str, Any] = {
            name: self.arrays[name][rows[:, None], frames] for name in self.ARRAYS if name != "area"
        }
        more: dict[str, Any] = {
            name: self.arrays[name][rows].float() for name in self.OPTIONAL if name in self.arrays
        }
        return Batch(
            names=[clip.name for clip in clips],
            frame_index=frames,
            area=self.arrays["area"][rows].float(),
            texts=[sample.text for sample in samples],
            way=self.arrays["joints"][rows].float(),
            **picked,
            **more,
        )


def _card(clip: TrainingClip) -> TrainingClip:
    """The clip without its arrays."""
    nothing: Any = np.zeros(0)
    empty: dict[str, Any] = {**dict.fromkeys(_Held.ARRAYS, nothing), **dict.fromkeys(_Held.OPTIONAL)}
    return replace(clip, **empty)


def _embeddings(clips: Sequence[TrainingClip], texts: Sequence[str]) -> Tensor | None:
    """B×N×D of the drawn sentences; None where they are not cached."""
    known = [clip.embeddings for clip in clips if clip.embeddings is not None]
    if not known:
        return None
    blank = np.zeros_like(next(iter(known[0].values())))
    rows = [each[text] if text else blank for each, text in zip(known, texts, strict=True)]
    return torch.from_numpy(np.stack(rows))


def _known(clips: Sequence[TrainingClip], name: str) -> Tensor | None:
    """An optional array of the clips, B×…; None where a clip does not have it."""
    known = [array for clip in clips if (array := getattr(clip, name)) is not None]
    return torch.from_numpy(np.stack(known)).float() if len(known) == len(clips) else None


# ---------------------------------------------------------------------------------------- mirroring


def mirrored(batch: Batch, rows: Tensor) -> Batch:
    """The batch with some rows (B bool) as a mirror shows them: a left hand becomes a right one and takes its
    slot. Words are mirrored by `mirrored_text`.

    Raises: ValueError for cached latents or embeddings: the mirrored frames and words have others.
    """
    if not rows.any():
        return batch
    if batch.latents is not None or batch.embeddings is not None:
        raise ValueError("cached latents and embeddings cannot be mirrored")
    rows = rows.to(batch.frames.device)
    width = batch.frames.shape[3]
    rois = batch.rois[rows].flip(2)
    across, down, side, angle = rois.unbind(-1)
    across = torch.where(side > 0, width - 1 - across, 0)
    turned = {
        "frames": batch.frames[rows].flip(3),
        "area": batch.area[rows].flip(2),
        "joints": mirrored_joints(batch.joints[rows], width),
        "visible": batch.visible[rows].flip(2),
        "rois": torch.stack([across, down, side, -angle], -1),
    }
    if batch.way is not None:
        turned["way"] = mirrored_joints(batch.way[rows], width)
    for name in ("referents", "generated", "frame_areas"):
        if (array := getattr(batch, name)) is not None:
            turned[name] = array[rows].flip(-1)
    flags = rows.tolist()
    names = [f"{name} mirrored" if flag else name for name, flag in zip(batch.names, flags, strict=True)]
    parts = {name: getattr(batch, name).clone() for name in turned}
    for name, value in turned.items():
        parts[name][rows] = value
    return replace(batch, names=names, **parts)


def mirrored_joints(joints: Tensor, width: int) -> Tensor:
    """Joints …×42×2 of frames `width` px wide as a mirror shows them, the hands in each other's slots."""
    hands = joints.unflatten(-2, (2, 21)).flip(-3)
    there = hands.any(-1).any(-1)[..., None, None]
    # Pixel i is at i/W, so column W - 1 - i is at 1 - 1/W - x.
    x = torch.where(there, 1 - 1 / width - hands[..., :1], 0)
    return torch.cat([x, torch.where(there, hands[..., 1:], 0)], -1).flatten(-3, -2)
