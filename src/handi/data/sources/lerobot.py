"""LeRobot datasets, v3 and v2: each episode is a clip, or each of its tasks where it has several in turn.

v3 keeps tables of many episodes and videos of many episodes one after the other:
    meta/info.json, meta/tasks.parquet, meta/episodes/chunk-000/file-000.parquet
    data/chunk-000/file-000.parquet, videos/KEY/chunk-000/file-000.mp4
v2.0 and v2.1 keep a file for each:
    meta/info.json, meta/tasks.jsonl, meta/episodes.jsonl
    data/chunk-000/episode_000000.parquet, videos/chunk-000/KEY/episode_000000.mp4
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from handi.core.errors import InputError
from handi.core.kinds import named
from handi.core.reading import read_json, read_jsonl
from handi.data.sources.common import SPLITS, Clip, SourceClips, check_split, clip_id

INFO = "meta/info.json"
JOINTS = "observation.hands.joints"  # what `handi export --to lerobot` calls the joints of both hands
EGO = re.compile(r"ego|head|first.?person|fpv", re.I)  # in the key of a camera at a person's or robot's eyes
NUMBERS = 42 * 2  # of the joints of a frame


@dataclass(frozen=True)
class EpisodeHands:
    """The 2-D joints of an episode: a feature of 84 numbers per frame."""

    path: Path  # the table that holds them
    episode: int
    key: str
    start: float  # s, when its video shows the episode's first frame
    fps: float

    def at(self, times: Sequence[float]) -> np.ndarray:
        """F×42×2, see `handi.data.known_hands.HandTrack`. Raises: InputError."""
        rows = _columns(self.path, ["frame_index", self.key], self.episode)
        values = dict(zip(rows["frame_index"], rows[self.key], strict=True))
        wanted = [round((time - self.start) * self.fps) for time in times]
        if missing := [number for number in wanted if number not in values]:
            raise InputError(f"has no row for frame {missing[0]} of episode {self.episode}", where=self.path)
        joints = np.array([np.ravel(values[number]) for number in wanted], np.float32)
        if joints.shape[1:] != (NUMBERS,):
            raise InputError(f"{self.key} has {joints.shape[-1]} numbers, not {NUMBERS}", where=self.path)
        if not np.isfinite(joints).all():
            raise InputError(f"{self.key} of episode {self.episode} is not finite", where=self.path)
        return joints.reshape(-1, 42, 2)


@dataclass(frozen=True)
class _Episode:
    """Where an episode lies."""

    number: int
    tasks: list[str]
    length: int  # frames
    data: Path | None  # None: the file is not there
    video: Path | None
    start: float  # s in that video


class _Dataset:
    """What meta/info.json says, with the camera that was chosen."""

    def __init__(self, root: Path, camera: str | None) -> None:
        self.root = root
        self.info = _info(root)
        self.version = str(self.info.get("codebase_version", ""))
        try:
            self.fps = float(self.info["fps"])
            self.features = dict(self.info["features"])
            self.chunk = int(self.info.get("chunks_size", 1000))
            self.templates = {"data": str(self.info["data_path"]), "video": str(self.info["video_path"])}
            self.camera = _camera(root, self.features, camera)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _damaged(root / INFO, error) from error
        if not self.fps > 0:
            raise InputError(f"says {self.fps:g} frames per second", where=root / INFO)

    def episodes(self) -> Iterator[_Episode]:
        """All episodes, in order. Raises: InputError."""
        read = self._version_3 if self.version.startswith("v3") else self._version_2
        try:
            yield from read()
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise _damaged(self.root / "meta", error) from error

    def _version_3(self) -> Iterator[_Episode]:
        videos = f"videos/{self.camera}/"
        places = [f"{videos}chunk_index", f"{videos}file_index", f"{videos}from_timestamp"]
        names = ["episode_index", "tasks", "length", "data/chunk_index", "data/file_index", *places]
        tables = sorted((self.root / "meta/episodes").glob("*/*.parquet"))
        if not tables:
            raise InputError("holds no tables of episodes", where=self.root / "meta/episodes")
        for table in tables:
            columns = _columns(table, names)
            for number, tasks, length, *place, start in zip(*(columns[n] for n in names), strict=True):
                data, video = (
                    self._file(kind, video_key=self.camera, chunk_index=int(chunk), file_index=int(file))
                    for kind, chunk, file in (("data", *place[:2]), ("video", *place[2:]))
                )
                yield _Episode(int(number), list(tasks), int(length), data, video, float(start))

    def _version_2(self) -> Iterator[_Episode]:
        for _, row in read_jsonl(self.root / "meta/episodes.jsonl"):
            if isinstance(row, InputError):
                raise row
            number = int(row["episode_index"])
            facts = {"episode_chunk": number // self.chunk, "episode_index": number, "video_key": self.camera}
            data, video = (self._file(kind, **facts) for kind in ("data", "video"))
            yield _Episode(number, list(row["tasks"]), int(row["length"]), data, video, 0.0)

    def _file(self, kind: str, **facts: Any) -> Path | None:
        return named(self.root, self.templates[kind].format(**facts))

    def task_names(self) -> dict[int, str]:
        """The sentences by the number that tables call them by. Raises: InputError."""
        if self.version.startswith("v3"):
            columns = _columns(self.root / "meta/tasks.parquet")
            words = next(values for name, values in columns.items() if name != "task_index")
            return dict(zip(map(int, columns["task_index"]), map(str, words), strict=True))
        rows = [row for _, row in read_jsonl(self.root / "meta/tasks.jsonl")]
        return {int(row["task_index"]): str(row["task"]) for row in rows if isinstance(row, dict)}


def read_lerobot(root: Path, camera: str | None = None, hands: str | None = None) -> SourceClips:
    """The clips of a LeRobot dataset: its episodes, cut where their task changes.

    camera: the key of the videos to take; without it the only one, or the only one that looks from the eyes.
    hands: the key of 2-D joints. Raises: InputError.
    """
    dataset = _Dataset(root, camera)
    joints = hands_key(root, hands)
    splits = _splits(dataset.info)
    clips: list[Clip] = []
    recordings: dict[str, str] = {}
    tasks: dict[int, str] | None = None
    for episode in dataset.episodes():
        name = f"episode_{episode.number:06d}"
        runs, problem = [(0, episode.length, episode.tasks[0] if episode.tasks else "")], None
        if episode.video is None:
            problem = f"there is no video of {dataset.camera} for episode {episode.number}"
        elif episode.length < 1:
            problem = "has no frames"
        elif len(episode.tasks) > 1:
            tasks = dataset.task_names() if tasks is None else tasks
            try:
                runs = _runs(episode, tasks)
            except (InputError, KeyError, TypeError, ValueError) as error:
                problem = f"its tasks cannot be read ({error})"
        for order, (first, after, words) in enumerate(runs):
            track = None
            if joints is not None and episode.data is not None:
                track = EpisodeHands(episode.data, episode.number, joints, episode.start, dataset.fps)
            text = " ".join(str(words).split())
            clip = Clip(
                clip_id(f"{name}.{order}" if len(runs) > 1 else name),
                episode.video,
                episode.start + first / dataset.fps,
                episode.start + (after - 1) / dataset.fps,
                text,
                split=splits(episode.number) if splits else "train",
                problem=problem or (None if text else "has no task"),
                hands=track,
            )
            recordings[clip.id] = name
            clips.append(clip)
    notes = [f"videos of {dataset.camera}"] + ([f"hands of {joints}"] if joints else [])
    return SourceClips(clips, notes, has_splits=splits is not None, recordings=recordings)


def hands_key(root: Path, asked: str | None) -> str | None:
    """The feature that holds 2-D joints: the one asked for, or what handi writes; None where there is none.

    Raises: InputError for a feature that is not there, or holds something else.
    """
    features = _info(root).get("features") or {}
    key = asked or (JOINTS if JOINTS in features else None)
    if key is None:
        return None
    if key not in features:
        raise InputError(f"has no feature {key}", where=root / INFO, hint=f"use {', '.join(features)}")
    shape = [int(side) for side in features[key].get("shape") or ()]
    if int(np.prod(shape)) != NUMBERS:
        raise InputError(
            f"{key} has the shape {shape}; the 2-D joints of two hands are 42×2 numbers",
            where=root / INFO,
            hint="leave --hands-key out: then hands are detected",
        )
    return key


def _info(root: Path) -> dict[str, Any]:
    if not (root / INFO).is_file():
        raise InputError("is no LeRobot dataset", where=root, hint=f"name the folder that holds {INFO}")
    info = read_json(root / INFO)
    version = str(info.get("codebase_version", "")) if isinstance(info, dict) else ""
    if not version.startswith(("v3.", "v2.")):
        raise InputError(
            f"has the version {version or 'none'}; v3 and v2 can be read",
            where=root / INFO,
            hint="convert it with the scripts of lerobot",
        )
    return dict(info)


def _camera(root: Path, features: dict[str, Any], asked: str | None) -> str:
    """The key of the videos to take. Raises: InputError with the keys that there are."""
    videos = [key for key, feature in features.items() if feature.get("dtype") == "video"]
    keys = ", ".join(videos)
    if not videos:
        pictures = any(feature.get("dtype") == "image" for feature in features.values())
        what = "keeps its pictures in tables, not in videos" if pictures else "has no videos"
        raise InputError(what, where=root / INFO)
    if asked is not None:
        if asked not in videos:
            raise InputError(f"has no videos of {asked}", where=root / INFO, hint=f"use one of {keys}")
        return asked
    likely = videos if len(videos) == 1 else [key for key in videos if EGO.search(key)]
    if len(likely) != 1:
        raise InputError(
            f"has videos of {len(videos)} cameras", where=root / INFO, hint=f"--camera-key: one of {keys}"
        )
    return likely[0]


def _splits(info: dict[str, Any]) -> Any:
    """A function from an episode's number to its split; None where all are in one."""
    ranges = []
    for name, text in (info.get("splits") or {}).items():
        found = re.fullmatch(r"(\d+):(\d+)", str(text))
        if found is None or name.lower() not in (*SPLITS, "validation"):
            return None
        ranges.append((check_split(name), range(int(found[1]), int(found[2]))))
    if len(ranges) < 2:
        return None
    return lambda number: next((name for name, numbers in ranges if number in numbers), "train")


def _runs(episode: _Episode, names: dict[int, str]) -> list[tuple[int, int, str]]:
    """(first frame, frame after the last, task) of each stretch of an episode with one task."""
    if episode.data is None:
        raise InputError("its table is not there")
    rows = _columns(episode.data, ["frame_index", "task_index"], episode.number)
    pairs = sorted(zip(rows["frame_index"], rows["task_index"], strict=True))
    stretches = [list(group) for _, group in itertools.groupby(pairs, key=lambda pair: pair[1])]
    return [(group[0][0], group[-1][0] + 1, names[group[0][1]]) for group in stretches]


def _columns(path: Path, names: list[str] | None = None, episode: int | None = None) -> dict[str, list[Any]]:
    """Columns of a table by name; of one episode. Raises: InputError."""
    import pyarrow
    import pyarrow.parquet

    filters = None if episode is None else [("episode_index", "=", episode)]
    try:
        table = pyarrow.parquet.read_table(path, columns=names, filters=filters)
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise InputError(f"cannot be read ({error})", where=path, hint="download it again") from error
    if missing := [name for name in names or () if name not in table.column_names]:
        raise InputError(f"has no column {', '.join(missing)}", where=path)
    return {name: table[name].to_pylist() for name in table.column_names}


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(f"is damaged ({type(error).__name__}: {error})", where=path, hint="download it again")
