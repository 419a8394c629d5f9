"""What `handi generate` does with poses: those of its requests, its files of them, and how a clip follows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from handi.core.errors import InputError
from handi.core.inputs import fit_inputs
from handi.core.types import Frames
from handi.evaluation.metrics.hand import literal_error, matched_error
from handi.hands import HandDetector
from handi.hands.own_hands import filmed_poses, found_in, is_record, placed, recorded_poses
from handi.hands.pose_files import write_poses, write_poses_picture

if TYPE_CHECKING:
    from handi.generation.requests import ClipRequest, GenerationSettings
    from handi.method.pipeline import HandiPipeline, HandiPipelineOutput


def given_poses(
    pipe: HandiPipeline, requests: Sequence[ClipRequest], settings: GenerationSettings
) -> tuple[list[np.ndarray] | None, list[str]]:
    """The poses F×42×2 that each request brings, and notes; None where none does.

    Raises: InputError for a batch in which some do and others don't, and for files that are of no use.
    """
    if all(request.poses is None for request in requests):
        return None, []
    pipe.need_poses()
    poses, notes = [], list[str]()
    for request in requests:
        if request.poses is None:
            raise InputError("some clips of the batch have poses and some have none", hint="run them apart")
        frames = settings.frames or pipe.card.frames
        if is_record(request.poses):
            poses.append(recorded_poses(request.poses, frames))
            continue
        (photo,), _, _ = fit_inputs(
            [request.image_file],
            [None],
            height=settings.height,
            width=settings.width,
            area=pipe.card.height * pipe.card.width,
            multiple=pipe.backbone.multiple,
        )
        detector = HandDetector.from_pretrained()
        film, aspect = filmed_poses(request.poses, frames, detector)
        (own,) = found_in(photo[None], detector)
        if not own.any() and pipe.pose_net is not None:
            notes.append("Υ finds no hand in the photo: the film is put where stage 1 sees the hands")
            context, text = pipe.encode_images(photo[None]), pipe.encode_text([request.prompt])
            own = pipe.predict_poses(context, text, [request.seed], 1)[0, 0].cpu().numpy()
        put, left_out = placed(film, own, aspect=aspect, photo_aspect=photo.shape[1] / photo.shape[0])
        poses.append(put)
        notes += left_out
    return poses, notes


def write_pose_files(folder: Path, output: HandiPipelineOutput, index: int, fps: float) -> None:
    """Write poses.json and poses.png of a clip. Raises: OutputError."""
    assert output.poses is not None
    poses, picture = output.poses[index], output.context[index]
    height, width = picture.shape[:2]
    write_poses(folder / "poses.json", poses, height=height, width=width, fps=fps, by=output.poses_by)
    write_poses_picture(folder / "poses.png", picture, poses)


def follows(clip: Frames, poses: np.ndarray) -> dict[str, Any]:
    """HS-Err of a generated clip against the poses that it was given, frame 0 left out, as it is the photo.

    With the share of those hands that Υ finds again. Raises: ModelError (`HandDetector.from_pretrained`).
    """
    found = found_in(clip[1:], HandDetector.from_pretrained())
    matched, share = matched_error(found, poses[1:])
    values = {
        "hs_err_literal": literal_error(found, poses[1:]),
        "hs_err_matched": matched,
        "hands_matched": share,
    }
    return {name: None if np.isnan(value) else round(value, 6) for name, value in values.items()}
