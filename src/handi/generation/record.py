"""The files of a generated clip, and run.json, which says how it was made."""

from __future__ import annotations

import platform
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from handi.core.errors import InputError
from handi.core.images import write_image
from handi.core.reading import read_json
from handi.core.video import write_video
from handi.generation.poses import write_pose_files
from handi.generation.requests import ClipRequest, GenerationSettings
from handi.motion.flow import motion_flow

if TYPE_CHECKING:
    from handi.method.pipeline import HandiPipelineOutput

RUN_FILE = "run.json"  # written last: a folder that has it is finished
OWNED = ("video.mp4", "motion_area.png", "motion_area_soft.png", "motion_flow.png", "last_frame.png",
         "poses.json", "poses.png", "frames", "clips")  # fmt: skip
LAST_FRAME = "last_frame.png"  # the context image of a clip that goes on from this one
LIBRARIES = ("handi", "torch", "diffusers", "transformers", "numpy", "av", "opencv-python-headless")


def is_finished(request: ClipRequest, settings: GenerationSettings, folder: Path) -> bool:
    """Whether `folder` holds the whole result of this very request and these settings."""
    try:
        record = read_json(folder / RUN_FILE)
    except InputError:
        return False
    wanted = {"request": asdict(request), "settings": asdict(settings)}
    return isinstance(record, dict) and all(record.get(key) == value for key, value in wanted.items())


def write_clip(
    folder: Path, output: HandiPipelineOutput, index: int, *, fps: float, frames_too: bool
) -> None:
    """Write the files of one clip of a batch, all but run.json. Raises: OutputError."""
    clip = output.frames[index]
    write_video(folder / "video.mp4", clip, fps=fps)
    write_image(folder / "motion_area.png", output.motion_area[index])
    write_image(folder / "motion_area_soft.png", _grey(output.motion_area_soft[index]))
    write_image(folder / "motion_flow.png", _grey(motion_flow(clip)))
    write_image(folder / LAST_FRAME, clip[-1])
    if output.poses is not None:
        write_pose_files(folder, output, index, fps)
    if frames_too:
        for number, frame in enumerate(clip):
            write_image(folder / "frames" / f"{number:04d}.png", frame)


def result_record(output: HandiPipelineOutput, index: int, fps: float) -> dict[str, Any]:
    """What a clip turned out to be."""
    frames, height, width = output.frames[index].shape[:3]
    return {
        "frames": frames,
        "height": height,
        "width": width,
        "fps": fps,
        "motion_area_share": round(float(output.motion_area[index].mean()), 4),
    }


def versions() -> dict[str, str]:
    """The versions that a result depends on."""
    return {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}


def _grey(mask: np.ndarray) -> np.ndarray:
    return np.rint(mask * 255).astype(np.uint8)
