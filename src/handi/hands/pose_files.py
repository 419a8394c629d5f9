"""Poses of a clip as files: poses.json (the schema of joints.json) and poses.png, to look at."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from handi.core.images import write_image
from handi.core.types import Picture
from handi.hands.joints import COLOURS, JOINTS_A_HAND, SIDES, draw_hands
from handi.hands.record import HandRecord, write_joints
from handi.hands.regions import tracked_region

SHOWN = 5  # skeletons of poses.png
LEAST_SIDE = 512  # px of poses.png's shorter side
TIPS = (4, 8, 12, 16, 20)
FADED = 0.3  # how strong the first skeleton is, and the beginning of a fingertip's way


def there(poses: np.ndarray) -> np.ndarray:
    """…×2 bool: which hands there are in poses …×42×2."""
    hands = poses.reshape(*poses.shape[:-2], 2, JOINTS_A_HAND * 2)
    return np.asarray(hands.any(axis=-1))


def write_poses(path: str | Path, poses: np.ndarray, *, height: int, width: int, fps: float, by: str) -> None:
    """Write poses F×42×2 as a joints.json. by: who says so, such as "predicted". Raises: OutputError."""
    seen = there(poses)
    rois = np.zeros((len(poses), 2, 4), np.float32)
    for frame, side in np.argwhere(seen):
        hand = poses[frame].reshape(2, JOINTS_A_HAND, 2)[side]
        rois[frame, side] = tracked_region(hand, height, width).square(height, width)
    record = HandRecord(
        joints=poses.astype(np.float32),
        presence=seen.astype(np.float32),
        handedness=seen * np.array([0, 1], np.float32),
        rois=rois,
        visible=seen,
        times=np.arange(len(poses)) / fps,
        height=height,
        width=width,
        about={"by": by},
    )
    write_joints(path, record)


def write_poses_picture(path: str | Path, picture: Picture, poses: np.ndarray) -> None:
    """Write the context image H×W×3 with the way of its hands over it. Raises: OutputError."""
    write_image(path, drawn_poses(picture, poses))


def drawn_poses(picture: Picture, poses: np.ndarray) -> Picture:
    """The way of the hands F×42×2 over a picture H×W×3: some frames' skeletons, the first ones fading, and a
    line for each fingertip; enlarged where the picture is small."""
    height, width = picture.shape[:2]
    factor = max(1, -(-LEAST_SIDE // min(height, width)))
    size = (width * factor, height * factor)
    canvas = cv2.resize(picture, size, interpolation=cv2.INTER_NEAREST)
    canvas = np.rint(canvas * 0.6).astype(np.uint8)
    for frame in np.unique(np.linspace(0, len(poses) - 1, SHOWN).round().astype(int)):
        strength = _strength(frame, len(poses))
        drawn = draw_hands(canvas, poses[frame])
        canvas = cv2.addWeighted(drawn, strength, canvas, 1 - strength, 0)
    seen = there(poses)
    for frame, (before, after) in enumerate(pairwise(poses)):
        for side, name in enumerate(SIDES):
            if not (seen[frame, side] and seen[frame + 1, side]):
                continue
            strength = _strength(frame + 1, len(poses))
            colour = tuple(int(strength * 255 + (1 - strength) * value) for value in COLOURS[name])
            for tip in TIPS:
                start, end = (_pixel(hand[side * JOINTS_A_HAND + tip], size) for hand in (before, after))
                cv2.line(canvas, start, end, colour, 1, cv2.LINE_AA)
    return canvas


def _strength(frame: int, frames: int) -> float:
    return FADED + (1 - FADED) * frame / max(1, frames - 1)


def _pixel(point: np.ndarray, size: tuple[int, int]) -> tuple[int, int]:
    far = 10 * max(size)
    across, down = np.rint((point * size).clip(-far, far)).astype(int).tolist()
    return across, down
