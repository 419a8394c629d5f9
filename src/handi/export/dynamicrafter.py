"""DynamiCrafter's WebVid: videos/PAGE_DIR/VIDEOID.mp4 and a CSV."""

from __future__ import annotations

from handi.export.listing import Listing, webvid_list

FORMAT = Listing(
    project="https://github.com/Doubiiu/DynamiCrafter",
    revision="c453369367122d7fbb0aa38f124e76dc8fe2a91c",
    video="videos/clips/{number:06d}.mp4",
    write_list=webvid_list("clips"),
    command="""
python3 -m torch.distributed.launch --nproc_per_node=8 --nnodes=1 ./main/trainer.py \\
  --base configs/training_512_v1.0/config.yaml --train --name clips --logdir runs --devices 8 \\
  lightning.trainer.num_nodes=1 lightning.trainer.max_steps=200000 data.params.batch_size=2 \\
  data.params.train.params.data_dir={train} data.params.train.params.meta_path={train}/clips.csv \\
  data.params.train.params.video_length={frames} data.params.train.params.frame_stride=1 \\
  data.params.train.params.random_fs=false
""",
    notes="""
The stride is 1: a clip has no more frames than a sample takes. Eight devices with two clips each are a
batch of 16.
""",
)
