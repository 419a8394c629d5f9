"""PIA's WebVid10M: VIDEOID.mp4 in one folder and a CSV."""

from __future__ import annotations

from handi.export.listing import Listing, webvid_list

FORMAT = Listing(
    project="https://github.com/open-mmlab/PIA",
    revision="73f06d741532295046807ac8e4042aa9ce7d4f27",
    video="videos/{number:06d}.mp4",
    write_list=webvid_list(""),
    command="""
torchrun --nnodes=1 --nproc_per_node=4 train.py --config clips.yaml
""",
    notes="""
`clips.yaml` is a copy of its `example/config/train.yaml` with, under `train_data`, `csv_path`: the
`clips.csv` of the folder `train` here, `video_folder`: its `videos`, `sample_stride: 1` (a clip has no more
frames than a sample takes) and `sample_n_frames`: the frames of a clip; and with `train_batch_size: 4`,
`gradient_accumulation_steps: 1`, `max_train_steps: 200000`. Four devices with four clips each are a batch
of 16. Its loader mirrors clips at random, so "left" and "right" in a sentence may be wrong.
""",
)
