"""EgoDex: tabletop tasks seen from the head, a video and an HDF5 file of 3-D joints for each.

    part1/TASK/0.mp4, part1/TASK/0.hdf5, …, test/TASK/0.mp4, …

All transforms are poses in one frame that stands still, the camera's among them. The camera looks along its
own positive z axis, x to the right and y down, and its intrinsics are those of 1920×1080 pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from handi.core.errors import InputError
from handi.data.sources.common import Clip, SourceClips, clip_id

FPS = 30.0  # of videos and poses alike: pose n is that of frame n
SIZE = (1920, 1080)  # W, H px, of the intrinsics
SURE = 0.5  # the least mean confidence of the joints of a hand that is taken
FINGERS = ("IndexFinger", "MiddleFinger", "RingFinger", "LittleFinger")
# ARKit's names in the order of MediaPipe's 21 joints. ARKit has metacarpals too, which MediaPipe has not; of
# the thumb its knuckle is MediaPipe's CMC.
JOINTS = (
    "Hand",
    *(f"Thumb{part}" for part in ("Knuckle", "IntermediateBase", "IntermediateTip", "Tip")),
    *(f + part for f in FINGERS for part in ("Knuckle", "IntermediateBase", "IntermediateTip", "Tip")),
)


@dataclass(frozen=True)
class EgoDexHands:
    """The joints of an HDF5 file, as its camera sees them."""

    path: Path

    def at(self, times: Sequence[float]) -> np.ndarray:
        """F×42×2, see `handi.data.known_hands.HandTrack`. Raises: InputError."""
        import h5py

        wanted = [round(time * FPS) for time in times]
        try:
            with h5py.File(self.path) as file:
                poses = file["transforms"]
                count = len(poses["camera"])
                if max(wanted) >= count:
                    raise InputError(f"has poses of {count} frames, {max(wanted) + 1} are needed")
                from_world = np.linalg.inv(poses["camera"][:][wanted].astype(np.float64))
                focus = np.asarray(file["camera/intrinsic"], np.float64)
                hands = [_hand(file, side, wanted, from_world, focus) for side in ("left", "right")]
        except InputError as error:
            raise InputError(error.what, where=self.path) from error
        except (OSError, KeyError, ValueError, TypeError, np.linalg.LinAlgError) as error:
            raise InputError(
                f"cannot be read ({error})", where=self.path, hint="download it again"
            ) from error
        return np.stack(hands, axis=1).reshape(len(times), 42, 2).astype(np.float32)


def _hand(file: Any, side: str, wanted: list[int], from_world: np.ndarray, focus: np.ndarray) -> np.ndarray:
    """F×21×2, shares of the picture's sides; zeros where the hand is behind the camera, or not sure."""
    poses, sure = file["transforms"], file.get("confidences", {})
    points = np.stack([poses[side + joint][:][wanted, :, 3] for joint in JOINTS], axis=1)  # F×21×4
    seen = np.einsum("fij,fkj->fki", from_world, points)[..., :3]
    if not np.isfinite(seen).all():
        raise InputError(f"the {side} hand's poses are not finite")
    ahead = (seen[..., 2] > 0).all(axis=1)
    if all(side + joint in sure for joint in JOINTS):  # the oldest files have none
        confidence = np.mean([sure[side + joint][:][wanted] for joint in JOINTS], axis=0)
        ahead &= confidence >= SURE
    depth = np.where(ahead[:, None], seen[..., 2], 1.0)
    pixels = np.einsum("ij,fkj->fki", focus, seen / depth[..., None])[..., :2]
    return np.where(ahead[:, None, None], pixels / SIZE, 0.0)


def read_egodex(root: Path) -> SourceClips:
    """The clips of EgoDex's folders, or of one of them; each video is one. Raises: InputError."""
    if not root.is_dir():
        raise InputError("no such folder", where=root)
    files = sorted(root.rglob("*.hdf5"))
    if not files:
        raise InputError("holds no .hdf5 files", where=root, hint="name the folder of part1, …, or test")
    clips = [_clip(path, root) for path in files]
    alone = [path for path in sorted(root.rglob("*.mp4")) if not path.with_suffix(".hdf5").is_file()]
    notes = [f"{len(alone):,} videos without an .hdf5 file, not read"] if alone else []
    has_splits = len({clip.split for clip in clips}) > 1
    return SourceClips(clips, notes, has_splits=has_splits)


def _clip(path: Path, root: Path) -> Clip:
    import h5py

    video, problem, words, verb, noun = path.with_suffix(".mp4"), None, "", None, None
    try:
        with h5py.File(path) as file:
            words, verb, noun = (
                description(file.attrs),
                _first(file.attrs, "verbs"),
                _first(file.attrs, "objects"),
            )
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = f"{path.name} cannot be read ({error})"
    if not video.is_file():
        problem = f"there is no {video.name}"
    parts = path.relative_to(root).with_suffix("").parts
    return Clip(
        clip_id(".".join(parts)),
        video if video.is_file() else None,
        0.0,
        None,
        words,
        split="test" if "test" in (root.name, *parts) else "train",
        verb=verb,
        noun=noun,
        problem=problem or (None if words else "has no description"),
        hands=EgoDexHands(path),
    )


def description(attributes: Mapping[str, Any]) -> str:
    """The sentence of an HDF5 file's attributes. A task that can be undone has two, and says which it is."""
    for prefix in ("llm_", ""):  # older files have descriptions that no language model wrote
        undone = _text(attributes.get(f"which_{prefix}description", "1")) == "2"
        second = undone and _text(attributes.get(f"{prefix}type", "")) == "reversible"
        if words := _text(attributes.get(f"{prefix}description{'2' if second else ''}", "")):
            return words
    return ""


def _first(attributes: Mapping[str, Any], name: str) -> str | None:
    found = np.ravel(attributes.get(f"llm_{name}", ()))
    return (_text(found[0]) or None) if len(found) else None


def _text(value: object) -> str:
    return " ".join((value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)).split())
