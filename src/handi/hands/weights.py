"""MediaPipe's two hand networks: those that ship with handi, or a path that the user names.

Each is checked by SHA-256 before it is used. A named path (argument or `HANDI_HAND_MODELS`) may be a folder,
a wheel of mediapipe or a `.task` file. The licence and the notice lie beside the files in `assets/hands`.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from handi.assets import HANDS
from handi.core.errors import ModelError
from handi.hands.tflite import fingerprint, read_graph

Complexity = Literal["full", "lite"]

VERSION = "mediapipe 0.10.21"
WHEEL = "mediapipe-0.10.21-cp311-cp311-manylinux_2_28_x86_64.whl"


@dataclass(frozen=True)
class _File:
    """One network: its name below mediapipe/modules, its name in a .task bundle, and its hashes."""

    path: str
    task_member: str
    sha256: str
    fingerprint: str  # of what it computes (see `tflite.fingerprint`): a .task has other bytes around it

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


PALM: dict[Complexity, _File] = {
    "full": _File(
        "palm_detection/palm_detection_full.tflite",
        "hand_detector.tflite",
        "1b14e9422c6ad006cde6581a46c8b90dd573c07ab7f3934b5589e7cea3f89a54",
        "22807b04601455ef188d546f22b8e6a8df48c57527bc891d51010e84111d73d9",
    ),
    "lite": _File(
        "palm_detection/palm_detection_lite.tflite",
        "hand_detector.tflite",
        "e9a4aaddf90dda56a87235303cf00e4c2d3fb28725f68fd88772997dac905c18",
        "4446e3fd4ea909f0ebcb34ffe04baf29c495f1bdd618b7d94b0de42784274136",
    ),
}
LANDMARK: dict[Complexity, _File] = {
    "full": _File(
        "hand_landmark/hand_landmark_full.tflite",
        "hand_landmarks_detector.tflite",
        "11c272b891e1a99ab034208e23937a8008388cf11ed2a9d776ed3d01d0ba00e3",
        "4a22f200ce63046989ef65dcfd943899f6338b8de934b9b91301ea7184e10213",
    ),
    "lite": _File(
        "hand_landmark/hand_landmark_lite.tflite",
        "hand_landmarks_detector.tflite",
        "048edd3645c9bf7397d19a9f6e3a42957d6e414c9bea6598030a2e9b624156e6",
        "943ad797a34fb82b4d4d24e0a2d9a1389f49995ed9b02f5ace05ab94a64ce410",
    ),
}


@dataclass(frozen=True)
class HandWeights:
    """The two networks as the bytes of their .tflite files, and where they were found."""

    complexity: Complexity
    palm: bytes
    landmark: bytes
    source: str


def load_hand_weights(complexity: Complexity = "full", *, path: str | Path | None = None) -> HandWeights:
    """Both networks of a complexity: from `path`, else from `HANDI_HAND_MODELS`, else those of the package.

    Raises: ModelError for a complexity that there is not, and for a file that is missing, cut or altered.
    """
    if complexity not in PALM:
        raise ModelError(f"no hand models of complexity {complexity!r}", hint="choose full or lite")
    place = Path(path or os.environ.get("HANDI_HAND_MODELS") or HANDS).expanduser()
    hint = "install handi again" if place == HANDS else f"give a folder, a wheel or a .task file of {VERSION}"
    try:
        palm, landmark = (_read(place, file) for file in (PALM[complexity], LANDMARK[complexity]))
    except FileNotFoundError as error:
        raise ModelError(f"holds no {error}", where=place, hint=hint) from error
    return HandWeights(complexity, palm, landmark, str(place))


def _read(place: Path, file: _File) -> bytes:
    """One network from a folder, a wheel or a .task file. Raises: FileNotFoundError(name), ModelError."""
    if place.is_dir():
        for candidate in (place / file.name, place / file.path, place / "modules" / file.path):
            if candidate.is_file():
                return _checked(candidate.read_bytes(), file, candidate)
        if (wheel := place / WHEEL).is_file():
            return _read(wheel, file)
    elif place.is_file():
        member = file.task_member if place.suffix == ".task" else f"mediapipe/modules/{file.path}"
        try:
            with zipfile.ZipFile(place) as archive:
                return _checked(archive.read(member), file, f"{place} ({member})")
        except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, OSError) as error:
            raise ModelError(
                f"is not a whole wheel or .task file ({error})", where=place, hint="copy it again"
            ) from error
        except KeyError as error:
            raise FileNotFoundError(file.name) from error
    raise FileNotFoundError(file.name)


def _checked(content: bytes, file: _File, where: str | Path) -> bytes:
    found = hashlib.sha256(content).hexdigest()
    if found == file.sha256:
        return content
    if ".task" in str(where) and fingerprint(read_graph(content, where=str(where))) == file.fingerprint:
        return content
    raise ModelError(
        f"has SHA-256 {found[:12]}…, not {file.sha256[:12]}…: it was cut, altered, or is of another release",
        where=where,
        hint=f"delete it, or use the one of {VERSION}",
    )
