"""Open-Sora 2: a CSV with the path, the text and the shape of each video."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from handi.export.clips import ClipSource
from handi.export.listing import Listing, Row, write_csv

COLUMNS = ("path", "text", "num_frames", "height", "width", "aspect_ratio", "resolution", "fps")


def _write(folder: Path, rows: Sequence[Row], clips: ClipSource) -> None:
    height, width = clips.size
    shape = {"num_frames": clips.frames, "height": height, "width": width, "aspect_ratio": height / width,
             "resolution": height * width, "fps": f"{clips.fps:g}"}  # fmt: skip
    lines = [{"path": str(folder.absolute() / row.video), "text": row.text, **shape} for row in rows]
    write_csv(folder / "clips.csv", COLUMNS, lines)


FORMAT = Listing(
    project="https://github.com/hpcaitech/Open-Sora",
    revision="7ad6a96a135feb81f755c84fb391818718f6beb2",
    video="videos/{number:06d}.mp4",
    write_list=_write,
    command="""
torchrun --nproc_per_node 8 scripts/diffusion/train.py configs/diffusion/train/stage1_i2v.py \\
  --dataset.data-path {train}/clips.csv
""",
    notes="""
Paths in the CSV are absolute, as in the project's own: export again where the folder has moved. Its
autoencoder takes 1 + 4k frames; prepare with `--frames 17`, and give the buckets of the config a length and
size that your clips have.
""",
    chunk=4,
)
