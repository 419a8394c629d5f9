"""CogVideoX as the training scripts of diffusers read it: a list of prompts, a list of videos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from handi.core.files import write_text
from handi.export.clips import ClipSource
from handi.export.listing import Listing, Row


def _write(folder: Path, rows: Sequence[Row], clips: ClipSource) -> None:
    write_text(folder / "prompts.txt", "".join(f"{row.text}\n" for row in rows))
    write_text(folder / "videos.txt", "".join(f"{row.video}\n" for row in rows))


FORMAT = Listing(
    project="https://github.com/huggingface/diffusers",
    revision="documentation, training/cogvideox",
    video="videos/{number:06d}.mp4",
    write_list=_write,
    command="""
accelerate launch examples/cogvideo/train_cogvideox_image_to_video_lora.py \\
  --pretrained_model_name_or_path THUDM/CogVideoX-5b-I2V --instance_data_root {train} \\
  --caption_column prompts.txt --video_column videos.txt \\
  --height {height} --width {width} --fps {fps} --max_num_frames {frames} \\
  --train_batch_size 1 --gradient_accumulation_steps 16 --max_train_steps 200000 \\
  --mixed_precision bf16 --gradient_checkpointing --output_dir runs/clips
""",
    notes="""
Its autoencoder takes 1 + 4k frames, and the published models were trained on 49 at 8 per second: prepare
with `--frames 49 --fps 8 --size 480x720`.
""",
    chunk=4,
    multiple=16,
)
