"""Poses from the outside: an edited poses.json, or a video of one's own hands that is put into the photo."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from handi.core.errors import InputError
from handi.core.types import Frames
from handi.core.video import even_indices, frame_times, frames_at
from handi.hands.detector import HandDetector
from handi.hands.joints import JOINTS_A_HAND, SIDES
from handi.hands.matching import enlarge
from handi.hands.record import read_joints

PALM = (0, 5, 9, 13, 17)  # joints that keep their distances when a hand opens and closes
LOOKS = 4  # frames of a film that are read for each of the clip's: hands are followed from one to the next
SETTLE = 0.25  # share of the clip in which the photo's hand becomes the video's


def is_record(path: str | Path) -> bool:
    """Whether a file of poses is a poses.json, and not a video."""
    return Path(path).suffix.lower() == ".json"


def recorded_poses(path: str | Path, frames: int) -> np.ndarray:
    """P, F×42×2, of a poses.json or joints.json, its time stretched to the clip's frames.

    Raises: InputError for a file that is not one, or holds no hand.
    """
    record = read_joints(path)
    return _resampled(record.joints, record.visible, record.times, frames, path)


def filmed_poses(path: str | Path, frames: int, detector: HandDetector) -> tuple[np.ndarray, float]:
    """P, F×42×2, as Υ reads it in a video, stretched to the clip's frames; and the video's width by height.

    Raises: InputError for a video that cannot be read, or without a hand.
    """
    known = frame_times(path).times
    times = [known[n] for n in even_indices(len(known), min(len(known), LOOKS * frames))]
    shown = np.stack([enlarge(frame) for frame in frames_at(path, times)])
    found = detector.detect(shown, mode="video")
    joints, visible = found.joints.cpu().numpy(), found.visible.cpu().numpy()
    return _resampled(joints, visible, np.array(times), frames, path), shown.shape[2] / shown.shape[1]


def found_in(clip: Frames, detector: HandDetector) -> np.ndarray:
    """F×42×2: the hands that Υ finds in a clip, each frame for itself."""
    joints: np.ndarray = detector.detect(np.stack([enlarge(frame) for frame in clip])).joints.cpu().numpy()
    return joints


def _resampled(
    joints: np.ndarray, visible: np.ndarray, times: np.ndarray, frames: int, path: str | Path
) -> np.ndarray:
    """Joints of N frames at `times` as `frames` evenly spaced ones. A hand that is missing in some is carried
    evenly from where it was last seen to where it is seen again; one that is never seen stays away."""
    if not visible.any():
        raise InputError("shows no hand", where=path, hint="give a poses.json or a video with hands in it")
    wanted = np.linspace(times[0], times[-1], frames)
    hands = joints.reshape(len(joints), 2, -1)
    poses = np.zeros((frames, *hands.shape[1:]), np.float32)
    for side in (0, 1):
        seen = np.flatnonzero(visible[:, side])
        if len(seen):
            values = hands[seen, side]
            poses[:, side] = np.stack(
                [np.interp(wanted, times[seen], values[:, n]) for n in range(values.shape[1])], -1
            )
    return poses.reshape(frames, 2 * JOINTS_A_HAND, 2)


def placed(
    poses: np.ndarray, photo: np.ndarray, *, aspect: float, photo_aspect: float
) -> tuple[np.ndarray, list[str]]:
    """Filmed poses F×42×2 put into a photo with hands 42×2, and notes on what was left out.

    Each hand moves as it did, from where the photo has it and at its size there; in the first part of the
    clip its shape goes over from the photo's to the film's. A hand that only the photo has stays where it is.
    aspect, photo_aspect: width by height of film and photo. Raises: InputError for a photo without a hand.
    """
    if not photo.any():
        raise InputError(
            "no hand is found in the photo, so the filmed ones have no place in it",
            hint="give a poses.json, edited for this photo",
        )
    film = poses.reshape(len(poses), 2, JOINTS_A_HAND, 2) * (aspect, 1)
    own = photo.reshape(2, JOINTS_A_HAND, 2) * (photo_aspect, 1)
    pairs = _pairs(film[0], own)
    result = np.repeat(own[None], len(poses), axis=0)
    fade = np.clip(1 - np.arange(len(poses)) / max(1, SETTLE * (len(poses) - 1)), 0, 1)[:, None, None]
    for filmed, side in pairs:
        hand = film[:, filmed]
        scale = _size(own[side]) / max(_size(hand[0]), 1e-6)
        moved = own[side, 0] + scale * (hand - hand[0, 0])
        result[:, side] = moved + fade * (own[side] - moved[0])
    notes = [
        f"the photo shows no {SIDES[side]} hand: the filmed one is left out"
        for side in (0, 1)
        if film[0, side].any() and side not in {filmed for filmed, _ in pairs}
    ]
    return (result / (photo_aspect, 1)).reshape(poses.shape).astype(np.float32), notes


def _pairs(film: np.ndarray, photo: np.ndarray) -> list[tuple[int, int]]:
    """(slot in the film, slot in the photo) of hands that are one: the same sides, or the only two that there
    are, as Υ takes a single hand for the other side at times."""
    filmed, own = ([side for side in (0, 1) if hands[side].any()] for hands in (film, photo))
    same = [(side, side) for side in filmed if side in own]
    return same or [(filmed[0], own[0])]


def _size(hand: np.ndarray) -> float:
    """Spread of a palm's joints."""
    palm = hand[list(PALM)]
    return float(np.linalg.norm(palm - palm.mean(axis=0), axis=1).mean())
