"""Hands that a data set knows, in the place of the detector's: where they lie in a clip's frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from handi.core.images import aspect_crop
from handi.hands.regions import tracked_region

# Of a hand's 21 joints that must be in the picture for the detector to read it. Joints that are hidden by the
# hand itself or by a thing in it count: to ask for half of them in plain sight drops two hands of three.
READABLE = 11


class HandTrack(Protocol):
    """Where the hands of a clip are in its footage, as its data set says; a picklable dataclass."""

    @property
    def path(self) -> Path:
        """The file that says so."""

    def at(self, times: Sequence[float]) -> np.ndarray:
        """F×42×2 float32, the joints in the frames shown at `times` (s), as shares of the picture's sides.

        The left hand comes first; zeros stand for a hand that is not known. Raises: InputError.
        """


@dataclass(frozen=True)
class KnownHands:
    """The hands in the frames of a clip."""

    joints: np.ndarray  # F×42×2 float32 in [0, 1], left hand first, zeros for a hand that is not visible
    visible: np.ndarray  # F×2 bool: most of the hand is in the picture


def known_hands(
    track: HandTrack, times: Sequence[float], footage: tuple[int, int], size: tuple[int, int]
) -> KnownHands:
    """The hands of a track in frames that were cropped and resized from `footage` to `size` (H, W px), as
    `handi.core.images.cover` does. Raises: InputError for a track that cannot be read."""
    height, width = footage
    left, top, right, bottom = map(round, aspect_crop(height, width, size[1] / size[0]))
    known = track.at(times).reshape(len(times), 2, 21, 2).astype(np.float64)
    there = np.asarray(known.any(axis=(2, 3)))
    corner, box = np.array([left, top]), np.array([right - left, bottom - top])
    return _seen((known * (width, height) - corner) / box, there)


def moved_hands(hands: KnownHands, joints: np.ndarray) -> KnownHands:
    """The same hands at other places, F×42×2: of stabilised frames."""
    return _seen(np.asarray(joints, np.float64).reshape(len(joints), 2, 21, 2), hands.visible)


def _seen(joints: np.ndarray, there: np.ndarray) -> KnownHands:
    inside = ((joints >= 0) & (joints < 1)).all(axis=-1).sum(axis=-1)
    visible = there & (inside >= READABLE)
    joints = np.where(visible[..., None, None], joints, 0)
    return KnownHands(joints.reshape(len(joints), 42, 2).astype(np.float32), visible)


def rois_of(joints: np.ndarray, visible: np.ndarray, height: int, width: int) -> np.ndarray:
    """F×2×4 regions that MediaPipe's tracking would read for F×42×2 joints; zeros where F×2 is False."""
    rois = np.zeros((len(joints), 2, 4), np.float32)
    hands = joints.reshape(len(joints), 2, 21, 2).astype(np.float32)
    for frame, hand in np.argwhere(visible):
        rois[frame, hand] = tracked_region(hands[frame, hand], height, width).square(height, width)
    return rois
