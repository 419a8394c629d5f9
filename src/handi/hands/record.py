"""joints.json: the hands of a clip as a file. The schema is in docs/hands.md."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from handi.core.errors import InputError
from handi.core.files import write_text
from handi.core.reading import read_json
from handi.hands.joints import JOINT_NAMES, JOINTS_A_HAND, SIDES

FORMAT, VERSION = "handi.joints", 1


@dataclass(frozen=True)
class HandRecord:
    """The hands of F frames, on the CPU, as they are kept: the fields of `types.Hands` and when it was."""

    joints: np.ndarray  # F×42×2 in [0, 1] of the frame, zeros where there is no hand, left first
    presence: np.ndarray  # F×2 in [0, 1]
    handedness: np.ndarray  # F×2, 1 = surely a right hand
    rois: np.ndarray  # F×2×4: centre x, centre y, side (px), rotation (rad)
    visible: np.ndarray  # F×2 bool
    times: np.ndarray  # F, seconds from the first frame; uneven where the frame rate varies
    height: int
    width: int
    about: dict[str, Any] = field(default_factory=dict)  # input, detector, settings: whatever explains it

    @property
    def counts(self) -> np.ndarray:
        """F: hands in each frame."""
        return self.visible.sum(axis=1)


def write_joints(path: str | Path, record: HandRecord) -> None:
    """Write joints.json, a frame a line, atomically. Raises: OutputError."""
    head = {
        "format": FORMAT,
        "version": VERSION,
        "width": record.width,
        "height": record.height,
        "joint_names": JOINT_NAMES,
        **record.about,
    }
    lines = ",\n".join(json.dumps(_frame(record, number)) for number in range(len(record.joints)))
    fields = [f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in head.items()]
    text = "{" + ",\n ".join([*fields, f'"frames": [\n{lines}\n]']) + "}\n"
    write_text(path, text)


def _frame(record: HandRecord, number: int) -> dict[str, Any]:
    hands = []
    for slot in np.flatnonzero(record.visible[number]):
        *place, rotation = record.rois[number, slot].tolist()
        joints = record.joints[number].reshape(2, JOINTS_A_HAND, 2)[slot]
        hands.append(
            {
                "side": SIDES[slot],
                "presence": round(float(record.presence[number, slot]), 4),
                "right": round(float(record.handedness[number, slot]), 4),
                "region": [*(round(value, 2) for value in place), round(rotation, 4)],
                "joints": np.round(joints.astype(np.float64), 6).tolist(),
            }
        )
    return {"index": number, "time": round(float(record.times[number]), 4), "hands": hands}


def read_joints(path: str | Path) -> HandRecord:
    """Read joints.json back. Raises: InputError for a file that is missing, damaged or of another format."""
    path = Path(path)
    content = read_json(path)
    kind = (content.get("format"), content.get("version")) if isinstance(content, dict) else None
    if kind != (FORMAT, VERSION):
        raise InputError(
            f"is not {FORMAT} version {VERSION}",
            where=path,
            hint="make it with `handi hands INPUT --out DIR`",
        )
    try:
        return _parsed(content)
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(f"breaks its schema ({type(error).__name__}: {error})", where=path) from error


def _parsed(content: dict[str, Any]) -> HandRecord:
    frames = content["frames"]
    record = HandRecord(
        joints=np.zeros((len(frames), 2 * JOINTS_A_HAND, 2), np.float32),
        presence=np.zeros((len(frames), 2), np.float32),
        handedness=np.zeros((len(frames), 2), np.float32),
        rois=np.zeros((len(frames), 2, 4), np.float32),
        visible=np.zeros((len(frames), 2), bool),
        times=np.array([float(frame["time"]) for frame in frames]),
        height=int(content["height"]),
        width=int(content["width"]),
        about={
            key: value
            for key, value in content.items()
            if key not in ("format", "version", "width", "height", "joint_names", "frames")
        },
    )
    for number, frame in enumerate(frames):
        for hand in frame["hands"]:
            slot = SIDES.index(hand["side"])
            record.joints.reshape(-1, 2, JOINTS_A_HAND, 2)[number, slot] = hand["joints"]
            record.presence[number, slot] = hand["presence"]
            record.handedness[number, slot] = hand["right"]
            record.rois[number, slot] = hand["region"]
            record.visible[number, slot] = True
    return record
