"""Where MediaPipe's two hand networks come from, each checked by SHA-256 before it is used.

The files are Apache-2.0 and stay out of this repository. In this order: a path that the user names
(argument or `HANDI_HAND_MODELS`), the user cache, an installed `mediapipe` that still carries them, a
`hand_landmarker.task` in the working directory; else the wheel is fetched with pip into the cache, once.
A named path may be a folder, the wheel or a `.task` file.
"""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from handi.core.errors import ModelError
from handi.core.files import replacing, scratch_folder, sweep
from handi.core.reading import split_lines
from handi.hands.tflite import fingerprint, read_graph

Complexity = Literal["full", "lite"]

VERSION = "mediapipe 0.10.21"
WHEEL = "mediapipe-0.10.21-cp311-cp311-manylinux_2_28_x86_64.whl"
WHEEL_SHA256 = "05dc4a9e593655a79558d05d6227d31018c2537a4bd3362b51e230cf22aecfe3"
# One wheel whatever Python and machine are running: only the data files in it are wanted.
PIP_DOWNLOAD = (
    "pip download --no-deps --only-binary=:all: --python-version 3.11 --implementation cp --abi cp311 "
    "--platform manylinux_2_28_x86_64 mediapipe==0.10.21"
)


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


@dataclass(frozen=True)
class Place:
    """What `survey` saw at one place."""

    path: str  # of a refused file: the file itself
    state: Literal["found", "missing", "refused"]
    detail: str = ""  # the hint, or why it was refused


def cache_folder() -> Path:
    """`HANDI_CACHE`, else `XDG_CACHE_HOME`/handi, else ~/.cache/handi; the hand networks lie in `hands`."""
    if named := os.environ.get("HANDI_CACHE"):
        return Path(named).expanduser() / "hands"
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "handi" / "hands"


def load_hand_weights(
    complexity: Complexity = "full", *, path: str | Path | None = None, fetch: bool = True
) -> HandWeights:
    """Find both networks of a complexity and check their hashes. `fetch=False` stays off the network.

    Raises: ModelError, in one line that says what to run and where to copy to; also for a named path that
    lacks a file or holds one that was cut or altered.
    """
    if complexity not in PALM:
        raise ModelError(f"no hand models of complexity {complexity!r}", hint="choose full or lite")
    refused: ModelError | None = None
    for place, named in _places(path):
        try:
            return _load(place, complexity)
        except FileNotFoundError as error:
            if named:
                raise ModelError(f"holds no {error}", where=place, hint=_hint(place)) from error
        except ModelError as error:
            if named:
                raise
            refused = refused or error
    if not fetch:
        raise refused or ModelError("the hand models are not on this machine", hint=_hint(cache_folder()))
    _fetch(refused)
    return _load(cache_folder(), complexity)


def survey(complexity: Complexity = "full") -> list[Place]:
    """Every place where the networks may be, and what is there; touches no network (for `handi doctor`)."""
    seen = []
    for place, _ in _places(None):
        try:
            _load(place, complexity)
            seen.append(Place(str(place), "found"))
        except FileNotFoundError:
            seen.append(Place(str(place), "missing", _hint(place)))
        except ModelError as error:
            seen.append(Place(str(error.where), "refused", str(error)))
    return seen


def _places(path: str | Path | None) -> Iterator[tuple[Path, bool]]:
    """Where to look, in order, and whether the user named it: then nothing else counts."""
    if path is None:
        path = os.environ.get("HANDI_HAND_MODELS") or None
    if path is not None:
        yield Path(path).expanduser(), True
        return
    yield cache_folder(), False
    spec = find_spec("mediapipe")  # finds without importing: the import takes seconds and may fail
    for root in (spec.submodule_search_locations or []) if spec else []:
        yield Path(root) / "modules", False
    yield Path("hand_landmarker.task").absolute(), False


def _hint(place: Path) -> str:
    folder = place if place.suffix not in (".whl", ".task") else place.parent
    return f"on a machine with a network run `{PIP_DOWNLOAD}` and copy the .whl file into {folder}"


def _load(place: Path, complexity: Complexity) -> HandWeights:
    palm, landmark = (_read(place, file) for file in (PALM[complexity], LANDMARK[complexity]))
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


def _fetch(refused: ModelError | None) -> None:
    """Download the wheel with pip, check it, and put all four networks into the cache."""
    folder = cache_folder()
    logging.getLogger("handi").warning(
        "fetching MediaPipe's hand models with pip (36 MB, once) into %s", folder
    )
    sweep(folder)
    with scratch_folder(tempfile.gettempdir()) as temporary:
        command = [sys.executable, "-m", *PIP_DOWNLOAD.split(), "--dest", str(temporary), "--quiet"]
        command += ["--disable-pip-version-check", "--no-input", "--retries", "1", "--timeout", "20"]
        reason = ""
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
            if done.returncode:
                lines = [line for line in split_lines(done.stderr) if line.strip()]
                reason = lines[-1].removeprefix("ERROR: ") if lines else f"exit status {done.returncode}"
        except (OSError, subprocess.TimeoutExpired) as error:
            reason = str(error)
        wheel = temporary / WHEEL
        if reason or not wheel.is_file():
            what = f"the hand models are not on this machine and pip cannot fetch them ({reason})"
            if refused is not None:
                what += f"; and {refused}"
            raise ModelError(what, hint=_hint(folder))
        found = hashlib.sha256(wheel.read_bytes()).hexdigest()
        if found != WHEEL_SHA256:
            raise ModelError(
                f"the package index gave a wheel of SHA-256 {found[:12]}…, not {WHEEL_SHA256[:12]}…",
                where=WHEEL,
                hint=_hint(folder),
            )
        for file in (*PALM.values(), *LANDMARK.values()):
            content = _read(wheel, file)
            with replacing(folder / file.name) as target:
                target.write_bytes(content)
