"""One clip of footage into what training needs: pure stages, each a function of the clip and the settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from handi.core.errors import InputError
from handi.core.images import IMAGE_SUFFIXES, cover, read_image, resize
from handi.core.types import BinaryMask, Frames, Hands, Picture
from handi.core.video import even_indices, frame_times, frames_at
from handi.data import shards
from handi.data.ledger import Rejected, Row, row_of
from handi.data.sources.common import FRAMES, Clip
from handi.method.area import Hull, hull_area, hull_masks
from handi.motion.stabilise import measure_camera, stabilise

END_SLACK = 0.5  # s that an annotation may reach beyond its video: hand-made ones often do a little
SLACK = 1e-4  # s


@dataclass(frozen=True)
class Settings:
    """What all prepared clips of a folder have in common; with the clips it decides every byte."""

    size: tuple[int, int] = (256, 448)  # H, W px of the frames
    hull: Hull = "hand"
    pictures: Literal["jpg", "png", "none"] = "jpg"  # how frames are kept
    camera: Literal["measure", "stabilise", "ignore"] = "measure"  # stabilise: onto the context frame
    # Of world clips: the exact joints, and this exact area, in the place of the detector's.
    truth: Literal["hull", "moved"] | None = None
    clips_per_shard: int = 64  # of the source, rejected ones among them
    models: dict[str, str] = field(default_factory=dict)  # what made hands, latents, …: name → hash

    def __post_init__(self) -> None:
        """Raises: InputError for settings that no clip can be prepared with."""
        if self.truth is not None and self.camera == "stabilise":
            raise InputError(
                "true hands are those of a camera that moves", mend="leave stabilising or truth out"
            )
        if self.truth is not None and self.size[0] != self.size[1]:
            raise InputError(
                "true hands are those of square frames", mend="give a square --size, e.g. 128x128"
            )

    def as_dict(self) -> dict[str, Any]:
        """What JSON holds."""
        return asdict(self) | {"size": list(self.size)}


@dataclass(frozen=True)
class Tools:
    """A worker's models; those that are None are left out."""

    detect: Callable[[Frames], Hands]
    encode: Callable[[Frames], np.ndarray] | None = None  # F×H×W×3 → latents F×C×h×w float16
    embed: Callable[[Sequence[str]], np.ndarray] | None = None  # S sentences → S×N×D float16
    enrich: Callable[[Picture, str], str | None] | None = None  # context image, action → full description


@dataclass(frozen=True)
class Prepared:
    """A clip that can be trained on."""

    row: Row  # of the ledger
    members: dict[str, bytes]  # of its piece of the tar
    area: BinaryMask  # H×W


def prepare_clip(clip: Clip, settings: Settings, tools: Tools) -> Prepared:
    """All stages in order. Raises: Rejected; ModelError and whatever else a model raises."""
    if clip.problem is not None:
        raise Rejected(clip.problem)
    cut_out = cut(clip, settings.size)
    steady = hold_still(cut_out.frames, settings)
    frames = steady.frames
    hands = find_hands(steady, cut_out, settings, tools)
    if not hands.area.any():
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
    latents = tools.encode(frames) if tools.encode is not None else None
    states = tools.embed([s for kind in texts.values() for s in kind]) if tools.embed is not None else None
    for name, array in (("latents", latents), ("text", states)):
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


# --------------------------------------------------------------------------------------------- cut


@dataclass(frozen=True)
class Cut:
    """A clip's 16 frames at the size asked for."""

    frames: Frames
    figures: Row  # of the ledger
    truth: Any = None  # the WorldClip, of a world clip
    mirrors: bool = True


def cut(clip: Clip, size: tuple[int, int]) -> Cut:
    """16 frames spread evenly over the annotated time, cropped around their middle and resized to H×W.

    Raises: Rejected, whatever is wrong with the footage.
    """
    if not clip.action:
        raise Rejected("has no words")
    try:
        if clip.truth is not None:
            return _cut_world(clip.truth, size)
        if clip.video is None:
            raise Rejected("has no video")
        if clip.video.is_dir():
            pictures, figures = _from_folder(clip, clip.video)
        else:
            pictures, figures = _from_video(clip, clip.video)
        fitted, shape = [], None
        for picture in pictures:
            if shape not in (None, picture.shape):
                raise Rejected(f"its frames change their size from {_size(shape)} to {_size(picture.shape)}")
            shape = picture.shape
            fitted.append(cover(picture, *size))
    except Rejected:
        raise
    except InputError as error:
        raise Rejected(error.what) from error
    except Exception as error:  # of a file that breaks its decoder in ways of its own
        raise Rejected(f"cannot be read ({type(error).__name__}: {' '.join(str(error).split())})") from error
    return Cut(np.stack(fitted), {**figures, "source_size": list(shape[:2]) if shape else None})


def _from_video(clip: Clip, video: Path) -> tuple[Iterator[Picture], Row]:
    span = frame_times(video, clip.start, clip.end)
    chosen, figures = _choose(clip, span.times, span.end)
    return frames_at(video, chosen, clip.start), figures


def _from_folder(clip: Clip, folder: Path) -> tuple[Iterator[Picture], Row]:
    """Of a folder of numbered frames: number n, from 0, is shown at n / fps."""
    if not clip.fps:
        raise Rejected("is a folder of frames without a frame rate")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        raise Rejected("its folder holds no frames")
    times = [number / clip.fps for number in range(len(paths))]
    end = clip.end if clip.end is not None else times[-1]
    inside = [time for time in times if clip.start - SLACK <= time <= end + SLACK]
    chosen, figures = _choose(clip, inside, times[-1] if end > times[-1] else None)
    return (read_image(paths[round(time * clip.fps)]) for time in chosen), figures


def _choose(clip: Clip, times: list[float], video_end: float | None) -> tuple[list[float], Row]:
    """16 of the times at which a clip's frames are shown, spread evenly over its time.

    At a constant frame rate these are evenly spaced frames. video_end: s, where the video was read to it.
    """
    if video_end is not None:
        if clip.start > video_end + SLACK:
            raise Rejected(f"begins at {clip.start:.2f} s, its video ends at {video_end:.2f} s")
        if clip.end is not None and clip.end > video_end + END_SLACK:
            raise Rejected(f"goes to {clip.end:.2f} s, its video ends at {video_end:.2f} s")
    if len(times) < FRAMES:
        raise Rejected(f"has {len(times)} frames, {FRAMES} are needed")
    array = np.array(times)
    # At an even rate these indices are even_indices'; at an uneven one the frames nearest to even times.
    steps = np.diff(array)
    if steps.max() - steps.min() < 0.5 * np.median(steps):
        indices = even_indices(len(times), FRAMES)
    else:
        wanted = np.linspace(array[0], array[-1], FRAMES)
        indices = [int(np.abs(array - time).argmin()) for time in wanted]
    figures = {
        "seconds": round(times[-1] - times[0], 4),
        "source_frames": len(times),
        "uneven": bool(steps.max() - steps.min() >= 0.5 * np.median(steps)),
    }
    return [times[index] for index in indices], figures


def _cut_world(record: Path, size: tuple[int, int]) -> Cut:
    from handi.world.files import FPS, read_clip  # only where it is needed: it takes a second to load

    clip = read_clip(record)
    frames = clip.frames
    chosen = frames[even_indices(len(frames), FRAMES)] if len(frames) >= FRAMES else None
    if chosen is None:
        raise Rejected(f"has {len(frames)} frames, {FRAMES} are needed")
    figures = {"seconds": round((len(frames) - 1) / FPS, 4), "source_frames": len(frames), "uneven": False}
    fitted = np.stack([cover(frame, *size) for frame in chosen])
    # A stove's heat rises clockwise: mirrored, it would rise anticlockwise, against the other clips.
    mirrors = "clockwise" not in clip.action
    return Cut(fitted, {**figures, "source_size": list(frames.shape[1:3])}, clip, mirrors)


def _size(shape: Sequence[int] | None) -> str:
    return "×".join(map(str, (shape or ())[:2]))


# ------------------------------------------------------------------------------------------ camera


@dataclass(frozen=True)
class Steady:
    """Frames, and what is known of the camera's motion."""

    frames: Frames
    figures: Row
    seen: npt.NDArray[np.bool_] | None = None  # F×H×W: shown by the frame itself; None where nothing was done


def hold_still(frames: Frames, settings: Settings) -> Steady:
    """Measure the camera's motion against the context frame, and undo it where that is asked for.

    Raises: Rejected where it is to be undone and cannot be measured.
    """
    if settings.camera == "ignore":
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
    return Steady(frames, figures | {"valid": valid}, seen)


# ------------------------------------------------------------------------------------------- hands


@dataclass(frozen=True)
class FoundHands:
    """Where the hands are, and so where the action happens."""

    joints: np.ndarray  # F×42×2 float32
    visible: np.ndarray  # F×2 bool
    rois: np.ndarray  # F×2×4 float32
    presence: np.ndarray  # F×2 float32
    area: BinaryMask  # H×W


def find_hands(steady: Steady, cut_out: Cut, settings: Settings, tools: Tools) -> FoundHands:
    """Υ on all 16 frames at once, and the motion area M_video of its joints (paper §2.1).

    A stabilised frame counts only where it shows something of its own; the rest of it is the context frame's.
    """
    height, width = settings.size
    if settings.truth is not None and cut_out.truth is not None:
        return _true_hands(cut_out, settings)
    hands = tools.detect(steady.frames)
    joints = hands.joints.cpu().numpy()
    if steady.seen is None:
        area = hull_area(joints, height, width, hull=settings.hull)
    else:
        hulls = hull_masks(joints, height, width, hull=settings.hull)
        area = np.logical_or.reduce(hulls & steady.seen)
    return FoundHands(
        joints=joints,
        visible=hands.visible.cpu().numpy(),
        rois=hands.rois.cpu().numpy(),
        presence=hands.presence.cpu().numpy(),
        area=area,
    )


def _true_hands(cut_out: Cut, settings: Settings) -> FoundHands:
    """A world clip's own hands and area; `Settings` sees to it that its frames are not cropped or moved."""
    from handi.data.world import rois_of, visible_hands

    height, width = settings.size
    clip = cut_out.truth
    chosen = even_indices(len(clip.frames), FRAMES)
    joints, visible = clip.joints2d[chosen], visible_hands(clip)[chosen]
    area = clip.area_hull if settings.truth == "hull" else clip.area_moved
    return FoundHands(
        joints=joints,
        visible=visible,
        rois=rois_of(joints, visible, height, width),
        presence=visible.astype(np.float32),
        area=resize(area.astype(np.uint8) * 255, height, width) > 127,
    )
