"""Open-Sora 2: its scripts/diffusion/inference.py, started by torchrun, once for all clips."""

from __future__ import annotations

import csv
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

PROJECT = "https://github.com/hpcaitech/Open-Sora"
ENTRY = "scripts/diffusion/inference.py"
WEIGHTS = "its diffusion model, Open_Sora_v2.safetensors; the other parts are where its config says"
OUTPUT = "{id}.mp4"
OPTIONS: dict[str, Any] = {
    "config": "configs/diffusion/inference/256px.py",
    "devices": 1,
    "aspect": "16:9",  # or 9:16, 1:1, 3:4, 4:3, 21:9
    "frames": 129,  # 1 + 4k
    "steps": 50,
    "sees": True,  # false: text alone, as in the paper's table
}


def run(requests: list, options: dict, save: Any) -> None:
    """Its videos are compressed, by its own writer."""
    with tempfile.TemporaryDirectory() as folder:
        names = [f"clip_{number:06d}" for number in range(len(requests))]  # its table reads 000001 as 1
        table, out = Path(folder, "requests.csv"), Path(folder, "out")
        with table.open("w", encoding="utf-8", newline="") as file:
            rows = [(r["prompt"], r["image"], name) for r, name in zip(requests, names)]  # noqa: B905
            csv.writer(file).writerows([("text", "ref", "name"), *rows])
        seed = str(requests[0]["seed"])
        words = {
            "cond_type": "i2v_head" if options["sees"] else "t2v",
            "dataset.data-path": str(table),
            "save-dir": str(out),
            "model.from_pretrained": options["weights"],
            "sampling_option.num_frames": str(options["frames"]),
            "sampling_option.num_steps": str(options["steps"]),
            "sampling_option.aspect_ratio": options["aspect"],
            "sampling_option.seed": seed,
            "seed": seed,
        }
        line = [word for name, value in words.items() for word in (f"--{name}", value)]
        launcher = ["torch.distributed.run", "--standalone", "--nproc_per_node", str(options["devices"])]
        subprocess.run([sys.executable, "-m", *launcher, ENTRY, options["config"], *line], check=True)
        for request, name in zip(requests, names):  # noqa: B905
            if made := list(out.glob(f"*/{name}.mp4")):
                save(request, made[0])
