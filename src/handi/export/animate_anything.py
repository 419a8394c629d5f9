"""AnimateAnything's `video_json`: [{"caption", "video"}], and a mask beside each video."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from handi.core.files import write_json
from handi.export.clips import ClipSource
from handi.export.listing import Listing, Row


def _write(folder: Path, rows: Sequence[Row], clips: ClipSource) -> None:
    items = [{"caption": row.text, "video": row.video, "mask": row.area} for row in rows]
    write_json(folder / "clips.json", items, ensure_ascii=False, indent=1)


FORMAT = Listing(
    project="https://github.com/alibaba/animate-anything",
    revision="dca241202348fa2ac68e22e81fca042fe05e3550",
    video="videos/{number:06d}.mp4",
    area="masks/{number:06d}.png",
    write_list=_write,
    command="""
accelerate launch train.py --config example/train_mask_motion.yaml dataset_types="[video_json]" \\
  train_data.video_dir={train} train_data.video_json={train}/clips.json \\
  train_data.n_sample_frames={frames} train_data.fps={fps} \\
  train_data.width={width} train_data.height={height} \\
  train_data.motion_threshold=0 train_batch_size=16 max_train_steps=200000
""",
    notes="""
Its loader makes a mask of its own from what moves and reads `caption` and `video` alone; `mask` names the
motion area for programs that read one. By default it passes over clips with a motion score below 50;
`motion_threshold=0` keeps all.
""",
)
