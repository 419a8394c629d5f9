"""DiffSynth-Studio: metadata.csv with a video and a prompt on each line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from handi.export.clips import ClipSource
from handi.export.listing import Listing, Row, write_csv


def _write(folder: Path, rows: Sequence[Row], clips: ClipSource) -> None:
    lines = [{"video": row.video, "prompt": row.text} for row in rows]
    write_csv(folder / "metadata.csv", ("video", "prompt"), lines)


FORMAT = Listing(
    project="https://github.com/modelscope/DiffSynth-Studio",
    revision="fed7b18fac2ed4cb802796eec91970e7659bccde",
    video="videos/{number:06d}.mp4",
    write_list=_write,
    command="""
accelerate launch examples/wanvideo/model_training/train.py \\
  --dataset_base_path {train} --dataset_metadata_path {train}/metadata.csv \\
  --height {height} --width {width} --num_frames {frames} --num_epochs 50 --learning_rate 1e-4 \\
  --model_id_with_origin_paths "Wan-AI/Wan2.2-TI2V-5B:diffusion_pytorch_model*.safetensors,\\
Wan-AI/Wan2.2-TI2V-5B:models_t5_umt5-xxl-enc-bf16.pth,Wan-AI/Wan2.2-TI2V-5B:Wan2.2_VAE.pth" \\
  --remove_prefix_in_ckpt "pipe.dit." --output_path runs/clips --lora_base_model dit \\
  --lora_target_modules "q,k,v,o,ffn.0,ffn.2" --lora_rank 32 --extra_inputs input_image
""",
    notes="""
Wan's autoencoders take 1 + 4k frames, Wan 2.2 TI2V-5B sides that are multiples of 32.
""",
    chunk=4,
    multiple=32,
)
