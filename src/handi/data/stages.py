"""One clip of footage into what training needs: pure stages, each a function of the clip and the settings."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from handi.core.errors import InputError
from handi.core.images import resize
from handi.core.types import BinaryMask, Frames, Hands, Picture
from handi.data import shards
from handi.data.cut import Cut, cut
from handi.data.known_hands import moved_hands, rois_of
from handi.data.ledger import Rejected, Row, row_of
from handi.data.sources.common import FRAMES, Clip
from handi.method.area import Hull, hull_area, hull_masks
from handi.motion.stabilise import CameraMotion, measure_camera, stabilise

MOST_FRAMES = 1024
THINGS, HANDS = 1, 2  # bits of the picture of referents


@dataclass(frozen=True)
class PrepareSettings:
    """What all prepared clips of a folder have in common; with the clips it decides every byte."""

    size: tuple[int, int] = (256, 448)  # H, W px of the frames
    frames: int = FRAMES  # of a clip, the context image included
    fps: float | None = None  # at which they are taken; None: spread evenly over the action
    hull: Hull = "hand"
    pictures: Literal["jpg", "png", "none"] = "jpg"  # how frames are kept
    camera: Literal["measure", "stabilise", "ignore"] = "measure"  # stabilise: onto the context frame
    # Of world clips: the exact joints, and this exact area, in the place of the detector's.
    truth: Literal["hull", "moved"] | None = None
    hands: Literal["detected", "known"] = "detected"  # known: those that the data set of the footage has
    first_frames: bool = False  # of the world: each clip is a picture with all that can be asked of it
    clips_per_shard: int = 64  # of the source, rejected ones among them
    models: dict[str, str] = field(default_factory=dict)  # what made hands, latents, …: name → hash
    chunk: int = 1  # frames of one latent, after the first, of the model that made them

    def __post_init__(self) -> None:
        """Raises: InputError for settings that no clip can be prepared with."""
        if self.truth is not None and self.camera == "stabilise":
            raise InputError(
                "true hands are those of a camera that moves", hint="leave stabilising or truth out"
            )
        if (self.truth is not None or self.first_frames) and self.size[0] != self.size[1]:
            raise InputError(
                "true hands are those of square frames", hint="give a square --size, e.g. 128x128"
            )
        if self.first_frames and (self.frames, self.truth) != (1, None):
            raise InputError("first frames have no area, and no frames after them", hint="leave these out")
        if not self.first_frames and not 2 <= self.frames <= MOST_FRAMES:
            raise InputError(f"{self.frames} frames", where="--frames", hint=f"use 2 to {MOST_FRAMES}")
        if self.fps is not None and not 0 < self.fps <= 1000:
            raise InputError(f"{self.fps:g} frames per second", where="--fps", hint="use more than 0")

    @property
    def detects(self) -> bool:
        """Whether hands have to be detected."""
        return self.truth is None and not self.first_frames and self.hands == "detected"

    def as_dict(self) -> dict[str, Any]:
        """What JSON holds."""
        known = asdict(self) | {"size": list(self.size)}
        if self.chunk == 1:  # as of all clips before there were others
            del known["chunk"]
        if self.hands == "detected":  # likewise
            del known["hands"]
        return known


@dataclass(frozen=True)
class Tools:
    """A worker's models; those that are None are left out."""

    detect: Callable[[Frames], Hands] | None = None  # None: only where hands are known
    encode: Callable[[Frames], np.ndarray] | None = None  # F×H×W×3 → latents f×C×h×w float16
    embed: Callable[[Sequence[str]], np.ndarray] | None = None  # S sentences → S×N×D float16
    enrich: Callable[[Picture, str], str] | None = None  # context image, action → full description


@dataclass(frozen=True)
class Prepared:
    """A clip that can be trained on."""

    row: Row  # of the ledger
    members: dict[str, bytes]  # of its piece of the tar
    area: BinaryMask  # H×W


def prepare_clip(clip: Clip, settings: PrepareSettings, tools: Tools) -> Prepared:
    """All stages in order. Raises: Rejected; ModelError and whatever else a model raises."""
    if clip.problem is not None:
        raise Rejected(clip.problem)
    cut_out = cut(clip, settings)
    steady = hold_still(cut_out.frames, settings)
    frames = steady.frames
    hands = find_hands(steady, cut_out, settings, tools)
    if not hands.area.any() and not settings.first_frames:
        raise Rejected("no hands were found")
    description = clip.description
    if description is None and tools.enrich is not None:
        try:
            description = tools.enrich(frames[0], clip.action)
        except InputError as error:
            raise Rejected(f"no description: {error.what}") from error
    texts = texts_of(clip.action, clip.paraphrases, description)

    members: dict[str, bytes] = {}
    if settings.pictures != "none":
        for number, frame in enumerate(frames):
            members[f"{number:02d}.{settings.pictures}"] = shards.encode_picture(frame, settings.pictures)
    if steady.seen is not None:
        valid: BinaryMask = np.logical_and.reduce(steady.seen)  # every frame shows something there
        members["valid.png"] = shards.encode_picture(valid.astype(np.uint8) * 255, "png")
    members["area.png"] = shards.encode_picture(hands.area.astype(np.uint8) * 255, "png")
    members["hands.npz"] = shards.encode_arrays(
        {"joints": hands.joints, "visible": hands.visible, "rois": hands.rois, "presence": hands.presence}
    )
    members |= _true_members(cut_out, settings)
    latents = tools.encode(frames) if tools.encode is not None else None
    states = tools.embed([s for kind in texts.values() for s in kind]) if tools.embed is not None else None
    still = None
    if latents is not None and settings.chunk > 1:  # then it is not the first frame's latents, repeated
        still = tools.encode(np.repeat(frames[:1], len(frames), axis=0)) if tools.encode else None
    for name, array in (("latents", latents), ("still", still), ("text", states)):
        if array is not None:
            if not np.isfinite(array).all():  # one such clip would make every weight of a model NaN
                raise Rejected(f"the model's {name} of it are not finite numbers")
            members[f"{name}.npy"] = shards.encode_array(array)
    figures = {
        **cut_out.figures,
        **steady.figures,
        "hands": [int(count) for count in hands.visible.sum(axis=1)],
        "left": int(hands.visible[:, 0].sum()),
        "right": int(hands.visible[:, 1].sum()),
        "area": round(float(hands.area.mean()), 6),
        "mirrors": cut_out.mirrors,
        "latent_mean": None if latents is None else round(float(latents.mean(dtype=np.float64)), 6),
        "latent_std": None if latents is None else round(float(latents.std(dtype=np.float64)), 6),
    }
    row = row_of(clip, figures=figures) | {"description": description}
    members["json"] = shards.line(row | {"texts": texts}).encode()
    return Prepared(row, members, hands.area)


def texts_of(action: str, paraphrases: Iterable[str], description: str | None) -> dict[str, tuple[str, ...]]:
    """A clip's sentences by kind, as training draws them; kinds that it has none of are left out."""
    enriched = (description,) if description else ()
    texts = {"short": (action,), "paraphrase": tuple(paraphrases), "enriched": enriched}
    return {kind: sentences for kind, sentences in texts.items() if sentences}


def _true_members(cut_out: Cut, settings: PrepareSettings) -> dict[str, bytes]:
    """What a world clip holds beside others: where the context image shows what the words mean; of a first
    frame every request, with the joints of its clip."""
    truth = cut_out.truth
    if truth is None or truth.ids.shape != settings.size:
        return {}  # of another size: an id between two others means something else
    if not settings.first_frames:
        assert truth.referents is not None
        things, hands = truth.referents
        marks = things * np.uint8(THINGS) + hands * np.uint8(HANDS)
        return {"referents.png": shards.encode_picture(marks, "png")}
    requests = [
        {
            "action": request.action,
            "texts": texts_of(request.text, request.paraphrases, request.enriched),
            "things": request.things,
            "hands": request.hands,
            "mirrors": mirrors,
        }
        for request, mirrors in zip(truth.requests, truth.requests_mirror, strict=True)
    ]
    joints = np.stack([request.joints for request in truth.requests])
    return {
        "ids.png": shards.encode_picture(truth.ids, "png"),
        "joints.npy": shards.encode_array(joints.astype(np.float16)),
        "requests": json.dumps(requests, ensure_ascii=False, separators=(",", ":")).encode(),
    }


# ------------------------------------------------------------------------------------------ camera


@dataclass(frozen=True)
class Steady:
    """Frames, and what is known of the camera's motion."""

    frames: Frames
    figures: Row
    seen: npt.NDArray[np.bool_] | None = None  # F×H×W: shown by the frame itself; None where nothing was done
    motion: CameraMotion | None = None  # that was undone


def hold_still(frames: Frames, settings: PrepareSettings) -> Steady:
    """Measure the camera's motion against the context frame, and undo it where that is asked for.

    Raises: Rejected where it is to be undone and cannot be measured.
    """
    if settings.camera == "ignore" or settings.first_frames:
        return Steady(frames, {"camera": None, "camera_support": None, "valid": None})
    motion = measure_camera(frames)
    figures: Row = {
        "camera": round(motion.amount, 6) if motion.reliable.all() else None,
        "camera_support": round(float(motion.support.min()), 4),
        "valid": None,
    }
    if settings.camera == "measure":
        return Steady(frames, figures)
    try:
        frames, seen = stabilise(frames, motion)
    except InputError as error:
        raise Rejected(error.what) from error
    valid = round(float(seen.all(axis=0).mean()), 6)
    return Steady(frames, figures | {"valid": valid}, seen, motion)


# ------------------------------------------------------------------------------------------- hands


@dataclass(frozen=True)
class FoundHands:
    """Where the hands are, and so where the action happens."""

    joints: np.ndarray  # F×42×2 float32
    visible: np.ndarray  # F×2 bool
    rois: np.ndarray  # F×2×4 float32
    presence: np.ndarray  # F×2 float32
    area: BinaryMask  # H×W


def find_hands(steady: Steady, cut_out: Cut, settings: PrepareSettings, tools: Tools) -> FoundHands:
    """Υ on all frames at once, or the data set's own hands, and the motion area M_video of their joints
    (paper §2.1).

    A stabilised frame counts only where it shows something of its own; the rest of it is the context frame's.
    """
    height, width = settings.size
    if cut_out.truth is not None and not settings.detects:
        return _true_hands(cut_out, settings)
    if cut_out.hands is not None:
        known = cut_out.hands
        if steady.motion is not None:
            known = moved_hands(known, steady.motion.carry(known.joints))
        joints, visible = known.joints, known.visible
        rois, presence = rois_of(joints, visible, height, width), visible.astype(np.float32)
    else:
        assert tools.detect is not None
        hands = tools.detect(steady.frames)
        joints, visible = hands.joints.cpu().numpy(), hands.visible.cpu().numpy()
        rois, presence = hands.rois.cpu().numpy(), hands.presence.cpu().numpy()
    if steady.seen is None:
        area = hull_area(joints, height, width, hull=settings.hull)
    else:
        hulls = hull_masks(joints, height, width, hull=settings.hull)
        area = np.logical_or.reduce(hulls & steady.seen)
    return FoundHands(joints=joints, visible=visible, rois=rois, presence=presence, area=area)


def _true_hands(cut_out: Cut, settings: PrepareSettings) -> FoundHands:
    """A world clip's own hands and area; `PrepareSettings` sees to it that frames are not cropped or moved.

    A first frame's hands are those of its requests, and its area is not known without a clip.
    """
    height, width = settings.size
    truth = cut_out.truth
    assert truth is not None
    count = len(cut_out.frames)
    joints, visible = truth.joints[:count], truth.visible[:count]
    if settings.truth is None:
        area = np.zeros(settings.size, bool)
    else:
        area = resize(truth.areas[settings.truth].astype(np.uint8) * 255, height, width) > 127
    return FoundHands(
        joints=joints,
        visible=visible,
        rois=rois_of(joints, visible, height, width),
        presence=visible.astype(np.float32),
        area=area,
    )
