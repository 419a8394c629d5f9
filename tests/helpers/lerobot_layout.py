"""LeRobot datasets as their documentation lays them out, v3.0 and v2.1, with small videos."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from helpers.lossless import lossless

FPS = 10
EGO, WRIST = "observation.images.ego", "observation.images.wrist"


@dataclass
class Episode:
    """Its frames of one brightness, and the task of each."""

    tasks: list[str]
    brightness: int = 200
    size: tuple[int, int] = (48, 64)
    joints: np.ndarray | None = None  # L×42×2
    extra: dict[str, list] = field(default_factory=dict)

    def pictures(self) -> np.ndarray:
        """Frames whose green tells their number."""
        frames = np.full((len(self.tasks), *self.size, 3), self.brightness, np.uint8)
        frames[..., 1] = np.arange(len(frames))[:, None, None] * 6
        return frames


def write_v3(root: Path, episodes: list[Episode], cameras=(EGO,), splits=None, files=1) -> Path:
    """A v3.0 dataset whose episodes lie one after the other in `files` tables and videos."""
    names = list(dict.fromkeys(task for episode in episodes for task in episode.tasks))
    per_file = -(-len(episodes) // files)
    rows, total = [], 0
    for file in range(files):
        part = list(enumerate(episodes))[file * per_file : (file + 1) * per_file]
        seconds, table = 0.0, []
        for number, episode in part:
            length = len(episode.tasks)
            row = {
                "episode_index": number,
                "tasks": list(dict.fromkeys(episode.tasks)),
                "length": length,
                "data/chunk_index": 0,
                "data/file_index": file,
                "dataset_from_index": total,
                "dataset_to_index": total + length,
                "meta/episodes/chunk_index": 0,
                "meta/episodes/file_index": 0,
            }
            for key in cameras:
                row |= {
                    f"videos/{key}/chunk_index": 0,
                    f"videos/{key}/file_index": file,
                    f"videos/{key}/from_timestamp": seconds,
                    f"videos/{key}/to_timestamp": seconds + length / FPS,
                }
            rows.append(row)
            table += _frames(number, episode, names, total)
            seconds, total = seconds + length / FPS, total + length
        write_table(root / f"data/chunk-000/file-{file:03d}.parquet", table)
        for key in cameras:
            frames = np.concatenate([episode.pictures() for _, episode in part])
            lossless(root / f"videos/{key}/chunk-000/file-{file:03d}.mp4", frames, fps=FPS)
    write_table(root / "meta/episodes/chunk-000/file-000.parquet", rows)
    tasks = [{"task_index": number, "__index_level_0__": name} for number, name in enumerate(names)]
    write_table(root / "meta/tasks.parquet", tasks)
    _write_info(root, "v3.0", episodes, cameras, splits, {
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    })  # fmt: skip
    return root


def write_v2(root: Path, episodes: list[Episode], cameras=(EGO,), splits=None) -> Path:
    """A v2.1 dataset, a table and videos for each episode."""
    names = list(dict.fromkeys(task for episode in episodes for task in episode.tasks))
    total = 0
    for number, episode in enumerate(episodes):
        table = _frames(number, episode, names, total)
        write_table(root / f"data/chunk-000/episode_{number:06d}.parquet", table)
        for key in cameras:
            lossless(root / f"videos/chunk-000/{key}/episode_{number:06d}.mp4", episode.pictures(), fps=FPS)
        total += len(episode.tasks)
    _write_lines(root / "meta/tasks.jsonl", [{"task_index": n, "task": name} for n, name in enumerate(names)])
    _write_lines(root / "meta/episodes.jsonl", [
        {"episode_index": n, "tasks": list(dict.fromkeys(e.tasks)), "length": len(e.tasks)}
        for n, e in enumerate(episodes)
    ])  # fmt: skip
    _write_info(root, "v2.1", episodes, cameras, splits, {
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    })  # fmt: skip
    return root


def write_table(path: Path, rows: list[dict]) -> Path:
    """A parquet file of these rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def _frames(number: int, episode: Episode, names: list[str], first: int) -> list[dict]:
    rows = []
    for frame, task in enumerate(episode.tasks):
        row = {
            "timestamp": frame / FPS,
            "frame_index": frame,
            "episode_index": number,
            "index": first + frame,
            "task_index": names.index(task),
        }
        if episode.joints is not None:
            row["observation.hands.joints"] = episode.joints[frame].tolist()
        rows.append(row | {key: values[frame] for key, values in episode.extra.items()})
    return rows


def _write_lines(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _write_info(root: Path, version: str, episodes, cameras, splits, paths: dict[str, str]) -> None:
    features = {key: {"dtype": "video", "shape": [48, 64, 3], "names": None} for key in cameras}
    if episodes[0].joints is not None:
        features["observation.hands.joints"] = {"dtype": "float32", "shape": [42, 2], "names": None}
    features |= {
        key: {"dtype": "float32", "shape": [len(values[0])]} for key, values in episodes[0].extra.items()
    }
    (root / "meta").mkdir(parents=True, exist_ok=True)
    info = {
        "codebase_version": version,
        "robot_type": None,
        "total_episodes": len(episodes),
        "total_frames": sum(len(episode.tasks) for episode in episodes),
        "chunks_size": 1000,
        "fps": FPS,
        "splits": splits or {"train": f"0:{len(episodes)}"},
        "features": features,
        **paths,
    }
    (root / "meta/info.json").write_text(json.dumps(info))
