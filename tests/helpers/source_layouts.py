"""The layouts that data sets have on disk, written small: empty files stand for videos and pictures."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

EPIC_COLUMNS = (
    "narration_id", "participant_id", "video_id", "narration_timestamp", "start_timestamp", "stop_timestamp",
    "start_frame", "stop_frame", "narration", "verb", "verb_class", "noun", "noun_class", "all_nouns",
    "all_noun_classes",
)  # fmt: skip


def touch(*paths: Path) -> None:
    """Files that are there, and no more."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def write_json(path: Path, value: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def epic_row(name: str, start: float, stop: float, says: str, /, **changes: str) -> dict[str, str]:
    """A row as EPIC-KITCHENS-100 publishes it; frames are counted at 60 a second from 1."""
    video = name.rpartition("_")[0]
    verb, _, noun = says.partition(" ")
    row = {
        "narration_id": name,
        "participant_id": video.partition("_")[0],
        "video_id": video,
        "narration_timestamp": stamp(start),
        "start_timestamp": stamp(start),
        "stop_timestamp": stamp(stop),
        "start_frame": str(round(start * 60) + 1),
        "stop_frame": str(round(stop * 60) + 1),
        "narration": says,
        "verb": verb,
        "verb_class": "0",
        "noun": noun,
        "noun_class": "0",
        "all_nouns": f"['{noun}']",
        "all_noun_classes": "[0]",
    }
    return row | changes


def stamp(seconds: float) -> str:
    return f"{int(seconds // 3600):02d}:{int(seconds // 60 % 60):02d}:{seconds % 60:05.2f}"


def write_table(path: Path, rows: Iterable[Mapping[str, str]], columns: Iterable[str] = EPIC_COLUMNS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(columns), extrasaction="ignore")
        table.writeheader()
        table.writerows(rows)
    return path


def write_frames(folder: Path, numbers: Iterable[int]) -> None:
    touch(*(folder / f"frame_{number:010d}.jpg" for number in numbers))


def fho_action(text: str, pre: int, post: int, **changes: Any) -> dict[str, Any]:
    """A narrated action as fho_main.json of Ego4D v2 has it; the clip begins at frame 100 of the video."""
    action = {
        "warnings": [],
        "uid": f"uid-{text}-{pre}",
        "start_sec": pre / 30 - 3,
        "end_sec": pre / 30 + 5,
        "start_frame": pre - 90,
        "end_frame": pre + 150,
        "is_valid_action": True,
        "is_partial": False,
        "clip_start_sec": 0.0,
        "clip_end_sec": 8.0,
        "clip_start_frame": 0,
        "clip_end_frame": 240,
        "narration_timestamp_sec": pre / 30,
        "clip_narration_timestamp_sec": 3.0,
        "narration_text": text,
        "narration_annotation_uid": "narration-uid",
        "structured_verb": "take_(pick,_grasp,_get)",
        "freeform_verb": None,
        "state_transition": None,
        "critical_frames": {"pre_45": pre - 45, "pre_frame": pre, "pnr_frame": pre + 8, "post_frame": post},
        "clip_critical_frames": {"pre_frame": pre - 100, "pnr_frame": pre - 92, "post_frame": post - 100},
        "frames": [
            {
                "frame_type": "pnr_frame",
                "boxes": [
                    {"object_type": "left_hand", "structured_noun": None},
                    {"object_type": "object_of_change", "structured_noun": "cup_(cup,_mug)"},
                ],
            }
        ],
        "is_rejected": False,
        "is_invalid_annotation": False,
        "reject_reason": None,
        "stage": "post_condition",
    }
    return action | changes


def fho_video(uid: str, *intervals: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    """A video of fho_main.json; its pieces are called UID-0, UID-1, …"""
    return {
        "annotated_intervals": [
            {
                "clip_id": f"{number}-{uid}",
                "clip_uid": f"{uid}-{number}",
                "start_sec": 0.0,
                "end_sec": 300.0,
                "narrated_actions": actions,
                "start_frame": 0,
                "end_frame": 9000,
                "redacted": False,
            }
            for number, actions in enumerate(intervals)
        ],
        "video_metadata": {
            "duration_sec": 300.0,
            "num_frames": 9000,
            "fps": 30.0,
            "width": 1920,
            "height": 1440,
        },
        "video_uid": uid,
    } | changes


def write_ego4d(home: Path, videos: list[dict[str, Any]], splits: Mapping[str, str | None]) -> Path:
    """The folder `v2` that the ego4d command makes; videos are put there by the test."""
    write_json(
        home / "annotations" / "fho_main.json",
        {
            "version": "v2",
            "date": "220908",
            "description": 'the "videos" of FHO',
            "metadata": "",
            "videos": videos,
        },
    )
    write_json(
        home / "ego4d.json",
        {
            "date": "220908",
            "version": "v2",
            "videos": [
                {
                    "video_uid": uid,
                    "duration_sec": 300.0,
                    "video_metadata": {"fps": 30.0, "num_frames": 9000},
                    "split_em": None,
                    "split_av": None,
                    "split_fho": split,
                    "fb_participant_id": 36.0,
                }
                for uid, split in splits.items()
            ],
            "clips": [],
        },
    )
    return home
