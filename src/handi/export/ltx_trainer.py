"""LTX-Video-Trainer: a JSON list with a caption and a media path for each video."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from handi.core.files import write_json
from handi.export.clips import ClipSource
from handi.export.listing import Listing, Row


def _write(folder: Path, rows: Sequence[Row], clips: ClipSource) -> None:
    items = [{"caption": row.text, "media_path": row.video} for row in rows]
    write_json(folder / "dataset.json", items, ensure_ascii=False, indent=1)


FORMAT = Listing(
    project="https://github.com/Lightricks/LTX-Video-Trainer",
    revision="31b12733f51cb16b244d23f6552609f369aed883",
    video="videos/{number:06d}.mp4",
    write_list=_write,
    command="""
python scripts/preprocess_dataset.py {train}/dataset.json --resolution-buckets {width}x{height}x{frames} \\
  --caption-column caption --video-column media_path
python scripts/train.py clips.yaml
""",
    notes="""
`clips.yaml` is a copy of its `configs/ltxv_2b_lora.yaml` with `data.preprocessed_data_root`: the folder
`.precomputed` that the first command wrote beside `dataset.json`, `conditioning.first_frame_conditioning_p:
1.0`, `optimization.steps: 200000`, and `batch_size` times `gradient_accumulation_steps` 16. Clips have 1 +
8k frames and sides that are multiples of 32.
""",
    chunk=8,
    multiple=32,
)
