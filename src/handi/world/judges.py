"""Did the action happen? Two judges that need no detector and no network, only the truth of this world."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from handi.core.errors import InputError
from handi.core.types import Frames

ACTION_FRAMES = (2, 6, 9, 13)  # of a clip, in which hands are looked for (handi.hands.matching)
# Mean over the channels of |end - start|, of 255, from which a pixel counts as changed: six times the
# difference that sensor noise (sd 2 levels a channel) makes on average.
CHANGED_LEVELS = 12.0


def _distance(a: np.ndarray, b: np.ndarray) -> npt.NDArray[np.float64]:
    """Mean absolute difference over the channels."""
    return np.abs(a.astype(np.float64) - b.astype(np.float64)).mean(-1)


def _check(generated: np.ndarray, truth: np.ndarray, what: str) -> None:
    for name, clip in (("generated", generated), (what, truth)):
        if clip.ndim != 4 or clip.shape[-1] != 3 or clip.dtype != np.uint8:
            raise InputError(f"is not F×H×W×3 uint8 but {clip.shape} {clip.dtype}", where=name)
    if generated.shape[1:] != truth.shape[1:]:
        raise InputError(
            f"is {generated.shape[2]}×{generated.shape[1]}, the truth {truth.shape[2]}×{truth.shape[1]}",
            where="generated",
            hint="resize it first",
        )


def state_change(generated: Frames, truth: Frames) -> float:
    """Share of the changed pixels in which the generated last frame is nearer to the true end than start.

    generated, truth F×H×W×3 (frame counts may differ: first and last count). 1 for the truth itself, 0 for
    a clip that stands still; a tie counts half. Raises: InputError, also where the truth does not change.
    """
    _check(generated, truth, "truth")
    start, end, last = truth[0], truth[-1], generated[-1]
    changed = _distance(start, end) > CHANGED_LEVELS
    if not changed.any():
        raise InputError("its last frame equals its first: nothing to judge", where="truth")
    to_end, to_start = _distance(last, end)[changed], _distance(last, start)[changed]
    return float(np.mean((to_end < to_start) + 0.5 * (to_end == to_start)))


def same_context(generated: Sequence[Frames], siblings: Sequence[Frames]) -> float:
    """Share of generated clips that are nearest to the clip of their own prompt (the paper's appendix D).

    generated[i] was made from the first frame that all siblings share and the prompt of siblings[i].
    Nearest by mean squared difference over the frames after the first, where the siblings differ. With n
    siblings chance is 1/n; ties are shared. Raises: InputError.
    """
    if len(generated) != len(siblings) or len(siblings) < 2:
        raise InputError(
            f"{len(generated)} generated clips for {len(siblings)} siblings",
            where="generated",
            hint="give one for each of at least two siblings",
        )
    for clip, truth in zip(generated, siblings, strict=True):
        _check(clip, truth, "sibling")
        if clip.shape != siblings[0].shape or truth.shape != siblings[0].shape:
            raise InputError("clips of different lengths or sizes", where="generated")
    truths = [truth[1:] for truth in siblings]
    return float(np.mean([own_sibling(clip[1:], truths, own) for own, clip in enumerate(generated)]))


def own_sibling(generated: Frames, siblings: Sequence[Frames], own: int) -> float:
    """1 where generated L×H×W×3 is nearest to siblings[own], 0 where another is nearer; ties are shared.

    All without the shared first frame. See `same_context`.
    """
    truths = np.stack(siblings).astype(np.float32)
    differs = (truths != truths[0]).any((0, 1, 4))  # H×W: elsewhere there is nothing to tell them apart
    error = ((truths - generated.astype(np.float32)) ** 2)[:, :, differs].mean((1, 2, 3))
    nearest = np.flatnonzero(error == error.min())
    return float(own in nearest) / len(nearest)
