"""What an output folder must be after a case: whole items, or nothing of them."""

from __future__ import annotations

import json
from pathlib import Path

CLIP = (
    "video.mp4",
    "motion_area.png",
    "motion_area_soft.png",
    "motion_flow.png",
    "last_frame.png",
    "run.json",
)


def clip_is_whole_or_none(out: Path) -> list[str]:
    """`handi generate` left a whole clip, or nothing."""
    from handi.core.images import read_image
    from handi.core.video import read_video

    if not out.exists():
        return []
    found = {path.name for path in out.iterdir()}
    if not found:
        return []
    if missing := set(CLIP) - found:
        return [f"half a clip: {out.name} lacks {', '.join(sorted(missing))}"]
    json.loads((out / "run.json").read_text())
    frames = read_video(out / "video.mp4")
    area = read_image(out / "motion_area.png")
    return [] if frames.shape[1:3] == area.shape[:2] else [f"video {frames.shape}, area {area.shape}"]


def clips_are_whole(out: Path) -> list[str]:
    if not out.exists():
        return []
    folders = [path for path in sorted(out.iterdir()) if path.name != "ledger.jsonl"]
    return [problem for folder in folders for problem in clip_is_whole_or_none(folder)]


def hands_are_whole(out: Path) -> list[str]:
    """`handi hands` left a whole record, or nothing but unfinished work."""
    from handi.hands.record import read_joints

    found = {path.name for path in out.iterdir()} if out.exists() else set()
    if "joints.json" not in found:
        return [f"half a result: {sorted(found)}"] if found - {".unfinished.npz"} else []
    record = read_joints(out / "joints.json")
    overlay = {"overlay.mp4", "overlay.png"} & found
    if not overlay or "motion_area.png" not in found:
        return [f"half a result: {sorted(found)}"]
    return [] if len(record.joints) else ["a record of no frame"]


def shards_are_whole(out: Path) -> list[str]:
    """`handi prepare` ended in shards that hold what they say, or is not finished."""
    from handi.data.validate import validate

    if not (out / "prepared.json").exists():
        return []
    return [f"damaged shards: {damage}" for damage in validate(out)]


def run_is_whole(out: Path) -> list[str]:
    """`handi train` left a model that loads, or none."""
    from handi.models import folder as model_folder

    model = out / "run" / "model"
    if model.exists():
        model_folder.load(model)
    return []


def page_is_harmless(out: Path) -> list[str]:
    """No markup of an input became markup of the page."""
    for page in out.glob("*.html") if out.exists() else ():
        text = page.read_text(encoding="utf-8", errors="replace")
        for marker in ("<script>fuzzed", '"onload="fuzzed', "<b>x</b>"):
            if marker in text:
                return [f"markup of an input stands in {page.name}: {marker}"]
    return []
