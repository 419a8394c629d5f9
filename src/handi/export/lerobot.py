"""A LeRobot v3.0 dataset of clips, with the joints of both hands and the motion area.

Each clip is an episode, and its sentence the task. `GROUP` episodes share a table and a video of each camera;
their part of meta/episodes is written last, so an export that was stopped makes only what is missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from handi.core.files import replacing, write_json, write_text
from handi.core.progress import Progress
from handi.core.types import Frames
from handi.core.video import write_video
from handi.data.sources.lerobot import JOINTS
from handi.export.clips import ClipSource, Content, ExportClip

VERSION = "v3.0"
CAMERA, AREA = "observation.images.ego", "observation.images.motion_area"
VISIBLE = "observation.hands.visible"
CHUNK = 1000  # files per folder
GROUP = 64  # episodes per file
TABLE = "chunk-{chunk_index:03d}/file-{file_index:03d}"


def write_dataset(clips: ClipSource, out: Path) -> None:
    """Write the dataset; files that are there are kept. Raises: InputError for a clip that cannot be read."""
    episodes = [clip for some in clips.splits().values() for clip in some]
    tasks = list(dict.fromkeys(clip.text for clip in episodes))
    numbers = {task: number for number, task in enumerate(tasks)}
    with Progress("export", len(episodes), "clips") as bar:
        for group, first in enumerate(range(0, len(episodes), GROUP)):
            some = episodes[first : first + GROUP]
            if not _path(out, "meta/episodes", group).is_file():
                _write_group(out, group, first, some, clips, numbers)
            bar.advance(len(some))
    _write_tasks(out, tasks)
    groups = -(-len(episodes) // GROUP)
    write_json(out / "meta/stats.json", _statistics(out, groups), indent=1)
    write_json(out / "meta/info.json", _info(clips, len(episodes), len(tasks)), indent=1)
    write_text(out / "README.md", _readme(clips))


def _path(out: Path, kind: str, group: int, suffix: str = "parquet") -> Path:
    place = TABLE.format(chunk_index=group // CHUNK, file_index=group % CHUNK)
    return out / kind / f"{place}.{suffix}"


def _write_group(
    out: Path, group: int, first: int, some: Sequence[ExportClip], clips: ClipSource, numbers: dict[str, int]
) -> None:
    """The files of one group of episodes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    contents = [clip.read() for clip in some]
    for key, pictures in ((CAMERA, _seen(contents)), (AREA, _areas(contents))):
        path = _path(out, f"videos/{key}", group, "mp4")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, pictures, fps=clips.fps)
    length, rows, episodes = clips.frames, [], []
    places = {"chunk_index": group // CHUNK, "file_index": group % CHUNK}
    for order, (clip, content) in enumerate(zip(some, contents, strict=True)):
        number = first + order
        for frame in range(length):
            rows.append({
                JOINTS: content.joints[frame].tolist(), VISIBLE: content.visible[frame].tolist(),
                "timestamp": frame / clips.fps, "frame_index": frame, "episode_index": number,
                "index": number * length + frame, "task_index": numbers[clip.text],
            })  # fmt: skip
        span = {
            "from_timestamp": order * length / clips.fps,
            "to_timestamp": (order + 1) * length / clips.fps,
        }
        episode: dict[str, Any] = {"episode_index": number, "tasks": [clip.text], "length": length,
                                   "dataset_from_index": number * length,
                                   "dataset_to_index": (number + 1) * length}  # fmt: skip
        for kind in ("data", "meta/episodes"):
            episode |= {f"{kind}/{name}": value for name, value in places.items()}
        for key in (CAMERA, AREA):
            episode |= {f"videos/{key}/{name}": value for name, value in (places | span).items()}
        for key, values in _values(content).items():
            episode |= {f"stats/{key}/{name}": value for name, value in _measured(values).items()}
        episodes.append(episode)
    numbers_schema = [("timestamp", pa.float32())] + [
        (name, pa.int64()) for name in ("frame_index", "episode_index", "index", "task_index")
    ]
    joints = pa.list_(pa.list_(pa.float32()))
    schema = pa.schema([(JOINTS, joints), (VISIBLE, pa.list_(pa.bool_())), *numbers_schema])
    for kind, table in (
        ("data", pa.Table.from_pylist(rows, schema=schema)),
        ("meta/episodes", pa.Table.from_pylist(episodes)),
    ):
        path = _path(out, kind, group)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            pq.write_table(table, temporary)


def _seen(contents: Sequence[Content]) -> Iterator[Frames]:
    for content in contents:
        yield from content.frames


def _areas(contents: Sequence[Content]) -> Iterator[Frames]:
    """The motion area as a grey picture, in every frame of its clip."""
    for content in contents:
        picture = np.repeat(content.area[..., None].astype(np.uint8) * 255, 3, axis=-1)
        yield from [picture] * len(content.frames)


def _values(content: Content) -> dict[str, np.ndarray]:
    """What statistics are made of: N×C×1×1 of pictures in [0, 1], F×42×2 of joints."""
    every = (content.frames[:: max(1, len(content.frames) // 4), ::4, ::4] / 255).reshape(-1, 3)
    area = np.repeat(content.area[::4, ::4].reshape(-1, 1).astype(float), 3, axis=1)
    return {CAMERA: every[..., None, None], AREA: area[..., None, None], JOINTS: content.joints}


def _measured(values: np.ndarray) -> dict[str, Any]:
    made = {"min": values.min(0), "max": values.max(0), "mean": values.mean(0), "std": values.std(0)}
    return {name: value.astype(float).tolist() for name, value in made.items()} | {"count": [len(values)]}


def _statistics(out: Path, groups: int) -> dict[str, Any]:
    """Over all episodes, from those of each."""
    import pyarrow.parquet as pq

    rows = [
        row
        for group in range(groups)
        for row in pq.read_table(_path(out, "meta/episodes", group)).to_pylist()
    ]
    found: dict[str, Any] = {}
    for key in (CAMERA, AREA, JOINTS):
        low, high, mean, std, count = (
            np.array([row[f"stats/{key}/{name}"] for row in rows], float)
            for name in ("min", "max", "mean", "std", "count")
        )
        share = (count / count.sum()).reshape(-1, *[1] * (mean.ndim - 1))
        middle = (share * mean).sum(0)
        spread = np.sqrt((share * (std**2 + (mean - middle) ** 2)).sum(0))
        found[key] = {"min": low.min(0).tolist(), "max": high.max(0).tolist(), "mean": middle.tolist(),
                      "std": spread.tolist(), "count": [int(count.sum())]}  # fmt: skip
    return found


def _write_tasks(out: Path, tasks: Sequence[str]) -> None:
    """meta/tasks.parquet: a pandas table whose index are the sentences."""
    import pandas

    path = out / "meta/tasks.parquet"
    with replacing(path) as temporary:
        pandas.DataFrame({"task_index": range(len(tasks))}, index=list(tasks)).to_parquet(temporary)


def _info(clips: ClipSource, episodes: int, tasks: int) -> dict[str, Any]:
    height, width = clips.size
    picture = {
        "dtype": "video", "shape": [height, width, 3], "names": ["height", "width", "channels"],
        "info": {"video.height": height, "video.width": width, "video.codec": "h264", "video.fps": clips.fps,
                 "video.pix_fmt": "yuv420p", "video.channels": 3, "video.is_depth_map": False,
                 "has_audio": False},
    }  # fmt: skip
    features: dict[str, Any] = {
        CAMERA: picture,
        AREA: picture,
        JOINTS: {"dtype": "float32", "shape": [42, 2], "names": ["joint", "axis"]},
        VISIBLE: {"dtype": "bool", "shape": [2], "names": ["left", "right"]},
        "timestamp": {"dtype": "float32", "shape": [1], "names": None},
    }
    for name in ("frame_index", "episode_index", "index", "task_index"):
        features[name] = {"dtype": "int64", "shape": [1], "names": None}
    splits, first = {}, 0
    for name, some in clips.splits().items():
        splits[name] = f"{first}:{first + len(some)}"
        first += len(some)
    return {
        "codebase_version": VERSION, "robot_type": None, "total_episodes": episodes,
        "total_frames": episodes * clips.frames, "total_tasks": tasks, "chunks_size": CHUNK,
        "data_files_size_in_mb": 100, "video_files_size_in_mb": 200,
        "fps": int(clips.fps) if clips.fps == int(clips.fps) else clips.fps, "splits": splits,
        "data_path": f"data/{TABLE}.parquet", "video_path": f"videos/{{video_key}}/{TABLE}.mp4",
        "features": features,
    }  # fmt: skip


def _readme(clips: ClipSource) -> str:
    height, width = clips.size
    return f"""# Clips as a LeRobot {VERSION} dataset

Written by `handi export --to lerobot`: {len(clips.clips):,} episodes of {clips.frames} frames,
{height}×{width}, {clips.fps:g} per second. `info.json` says which episodes are train, val and test.

- `{CAMERA}`: the clip
- `{AREA}`: where its action happens, white, the same in all its frames
- `{JOINTS}`: 42×2, x and y as shares of the picture's sides, left hand first, 21 joints each in MediaPipe's
  order, zeros for a hand that is not there
- `{VISIBLE}`: whether the left and the right hand are there

```python
from lerobot.datasets.lerobot_dataset import LeRobotDataset

dataset = LeRobotDataset("me/clips", root="THIS_FOLDER")
dataset[0]["{CAMERA}"], dataset[0]["task"]
```

`handi prepare lerobot THIS_FOLDER --out DIR` reads it too, with these hands in the place of the detector's.
"""
