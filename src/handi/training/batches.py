"""From prepared clips to batches: which clips, which frames, which words; all a function of (seed, position).

A position counts the samples that a run has seen. Sample number p of a run is always the same clip with the
same frames, words and mirroring, whatever the batch size, the accumulation or the number of processes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from handi.core.errors import InputError
from handi.core.progress import Progress
from handi.core.types import BinaryMask
from handi.data.dataset import ClipWords, PreparedClips, TrainingClip
from handi.training.augment import mirrored, mirrored_text
from handi.training.batch import Batch


@dataclass(frozen=True)
class Sampling:
    """How a clip is sampled. By default nothing is left to chance: all frames, the short text."""

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
class SampleSpec:
    """Which part of a clip a sample shows."""

    clip: int  # its index
    frames: np.ndarray  # which of its frames, the first 0
    text: str  # "" where dropped
    mirror: bool
    mask: str = "true"  # kind of area that stage 2 is given


class Batches:
    """The samples of a run: `batches.at(position, size)` is a batch of consecutive ones.

    prior: the H×W motion area that samples of the mask "prior" are given.
    """

    def __init__(
        self,
        clips: PreparedClips,
        sampling: Sampling,
        seed: int,
        *,
        shuffle: bool = True,
        prior: BinaryMask | None = None,
    ) -> None:
        self.clips, self.sampling, self.seed, self.prior = clips, sampling, seed, prior
        self.order = Order(len(clips), seed, clips.together) if shuffle else None
        self._held: _Held | None = None

    def hold(self, device: torch.device) -> None:
        """Read all clips now and keep them on a device; the samples stay the same. Raises: InputError."""
        self._held = _Held(self.clips, device)

    def at(self, position: int, size: int) -> Batch:
        """Samples `position` … `position + size - 1`."""
        samples = [self._sample(place) for place in range(position, position + size)]
        if self._held is None:
            batch = collate([self.clips.read(sample.clip, sample.frames) for sample in samples], samples)
        else:
            batch = self._held.collate(samples)
        batch = mirrored(batch, torch.tensor([sample.mirror for sample in samples]))
        prior = None if self.prior is None else torch.from_numpy(self.prior).to(batch.area)
        return replace(batch, kinds=[sample.mask for sample in samples], prior=prior)

    def _sample(self, position: int) -> SampleSpec:
        index = self.order[position] if self.order else position % len(self.clips)
        words = self.clips.words(index) if self._held is None else self._held.words[index]
        rng = np.random.default_rng([self.seed, 1, position])
        return sample_of(words, index, self.clips.frames, self.sampling, rng)

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


def sample_of(
    clip: ClipWords, index: int, count: int, sampling: Sampling, rng: np.random.Generator
) -> SampleSpec:
    """Choose frames of the clip's `count`, text, mirroring and dropout of one sample. Every choice takes its
    random numbers, used or not: a recipe with another dropout or number of frames sees the same words.
    """
    start, kind, which, mirror, drop = rng.random(5)
    frames = frame_subset(count, sampling.frames or count, float(start))
    if sampling.anywhere:
        later = rng.choice(np.arange(1, count), len(frames) - 1, replace=False)
        frames = np.concatenate([[0], np.sort(later)]).astype(np.int64)
    kinds = [name for name in sampling.texts if clip.texts.get(name)] or ["short"]
    sentences = clip.texts[kinds[int(kind * len(kinds))]]
    text = sentences[int(which * len(sentences))]
    turned = sampling.flip and clip.mirrors and mirror < 0.5
    if turned:
        text = mirrored_text(text)
    mask = _by_share(sampling.masks, float(rng.random()))
    return SampleSpec(index, frames, "" if drop < sampling.dropout else text, turned, mask)


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


def collate(clips: Sequence[TrainingClip], samples: Sequence[SampleSpec]) -> Batch:
    """Samples, not mirrored yet, as a batch of tensors on the CPU; each clip has just its sample's frames."""

    def stacked(name: str) -> Tensor:
        return torch.from_numpy(np.stack([getattr(clip, name) for clip in clips]))

    texts = [sample.text for sample in samples]
    return Batch(
        names=[clip.name for clip in clips],
        frames=stacked("frames"),
        frame_index=torch.from_numpy(np.stack([sample.frames for sample in samples])),
        area=stacked("area").float(),
        texts=texts,
        joints=stacked("joints").float(),
        visible=stacked("visible").bool(),
        rois=stacked("rois").float(),
        latents=stacked("latents").transpose(1, 2) if clips[0].latents is not None else None,
        still=stacked("still").transpose(1, 2) if clips[0].still is not None else None,
        embeddings=_embeddings(clips, texts),
        has_blank=clips[0].embeddings is not None and "" in clips[0].embeddings,
        referents=_known(clips, "referents"),
        generated=_known(clips, "generated"),
        frame_areas=stacked("frame_areas").float() if clips[0].frame_areas is not None else None,
        way=stacked("way").float(),
    )


class _Held:
    """All clips of a set as tensors on a device, to make batches without reading or copying."""

    ARRAYS = ("frames", "area", "way", "visible", "rois")
    OPTIONAL = ("referents", "generated")

    def __init__(self, clips: PreparedClips, device: torch.device) -> None:
        self.words: list[ClipWords] = []
        self.arrays: dict[str, Tensor] = {}
        with Progress("hold", len(clips), "clips") as bar:
            for index in range(len(clips)):
                clip = clips[index]
                if clip.latents is not None:
                    raise InputError(
                        "data.resident: clips with cached latents are read as they are",
                        where=clips.name,
                        hint="set data.resident to false",
                    )
                for name in (*self.ARRAYS, *self.OPTIONAL):
                    if (array := getattr(clip, name)) is None:
                        continue
                    value = torch.from_numpy(np.array(array))
                    if index == 0:
                        self.arrays[name] = value.new_empty(len(clips), *value.shape, device=device)
                    self.arrays[name][index].copy_(value)
                self.words.append(clips.words(index))
                bar.advance()

    def collate(self, samples: Sequence[SampleSpec]) -> Batch:
        """As `collate`, on the device."""
        device = self.arrays["frames"].device
        rows = torch.tensor([sample.clip for sample in samples], device=device)
        index = torch.from_numpy(np.stack([sample.frames for sample in samples])).to(device)
        picked: dict[str, Any] = {
            name: self.arrays["way" if name == "joints" else name][rows[:, None], index]
            for name in ("frames", "joints", "visible", "rois")
        }
        more: dict[str, Any] = {
            name: self.arrays[name][rows].float() for name in self.OPTIONAL if name in self.arrays
        }
        return Batch(
            names=[self.words[sample.clip].name for sample in samples],
            frame_index=index,
            area=self.arrays["area"][rows].float(),
            texts=[sample.text for sample in samples],
            way=self.arrays["way"][rows].float(),
            **picked,
            **more,
        )


def _embeddings(clips: Sequence[TrainingClip], texts: Sequence[str]) -> Tensor | None:
    """B×N×D of the drawn sentences; None where they are not cached."""
    known = [clip.embeddings for clip in clips if clip.embeddings is not None]
    if not known:
        return None
    blank = np.zeros_like(next(iter(known[0].values())))
    rows = [
        each.get(text, blank) if not text else each[text] for each, text in zip(known, texts, strict=True)
    ]
    longest = max(map(len, rows))  # those that are stored without the zero rows at their end
    return torch.from_numpy(np.stack([np.pad(row, ((0, longest - len(row)), (0, 0))) for row in rows]))


def _known(clips: Sequence[TrainingClip], name: str) -> Tensor | None:
    """An optional array of the clips, B×…; None where a clip does not have it."""
    known = [array for clip in clips if (array := getattr(clip, name)) is not None]
    return torch.from_numpy(np.stack(known)).float() if len(known) == len(clips) else None
