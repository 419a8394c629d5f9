"""`handi hands`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from handi.commands.options import Switch, optional, say


def hands(
    input: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="INPUT")],
    out: Path,
    mode: Literal["auto", "image", "video"] = "auto",
    complexity: Literal["full", "lite"] = "full",
    detection_confidence: float = 0.5,
    presence_confidence: float = 0.5,
    mirrored: Switch = False,
    hull: Literal["hand", "all"] = "hand",
    flow: bool = True,
    backend: Literal["auto", "torch", "litert"] = "auto",
    models: Annotated[Path | None, optional("PATH")] = None,
) -> int:
    """Find hands in pictures and videos; measure where they act and what moves.

    Writes joints.json, overlay.mp4 (of a picture: overlay.png), motion_area.png and motion_flow.png to --out,
    or to one folder each in --out if INPUT is several. Stopped, it resumes when it is run again.

        handi hands clip.mp4 --out out/clip
        handi hands frames/%04d.png --out out/frames

    Args:
        input: A picture, a video, a folder of these, or an image sequence: a pattern such as
            frames/%04d.png, or a folder of evenly numbered pictures of one size.
        out: Folder for the results.
        mode: video follows hands from frame to frame, image treats each frame by itself; auto follows them
            in clips.
        complexity: MediaPipe's full networks, or its lite ones: faster, less exact.
        detection_confidence: Palms found with less confidence are ignored.
        presence_confidence: A region with less presence counts as empty.
        mirrored: The footage is mirrored, as a selfie camera shows it: left and right are swapped.
        hull: The motion area is one hull for each hand, or one over all hands of a frame.
        flow: Measure motion flow too; it takes longer than the hands do.
        backend: litert is the faster on a CPU, and needs `pip install 'handi[litert]'`; auto takes it where
            it is installed.
        models: Folder, wheel or .task file with MediaPipe's networks, instead of what `handi doctor` shows.
    """
    from handi.hands.report import HandSettings, report_hands

    settings = HandSettings(
        mode=mode,
        complexity=complexity,
        detection_confidence=detection_confidence,
        presence_confidence=presence_confidence,
        mirrored=mirrored,
        hull=hull,
        flow=flow,
        backend=backend,
    )
    failures = report_hands(input, out, settings, models=models, say=say)
    for failure in failures:
        say(f"error: {failure}")
    return 1 if failures else 0
