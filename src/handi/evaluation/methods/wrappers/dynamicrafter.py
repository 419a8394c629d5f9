"""DynamiCrafter: its scripts/evaluation/inference.py, once for all pictures of one size."""

from __future__ import annotations

import runpy
import sys
import tempfile
from pathlib import Path
from typing import Any

PROJECT = "https://github.com/Doubiiu/DynamiCrafter"
ENTRY = "scripts/evaluation/inference.py"
WEIGHTS = "its checkpoint, model.ckpt"
OUTPUT = "{id}"
OPTIONS: dict[str, Any] = {
    "config": "configs/inference_512_v1.0.yaml",
    "area": 320 * 512,  # pixels that it generates, at the picture's aspect
    "steps": 50,
    "guidance": 7.5,
    "stride": 24,  # of the 512 and 1024 models frames per second, of the 256 model a stride
}


def run(requests: list, options: dict, save: Any) -> None:
    """Its frames are taken where it hands them to the video writer, before they are compressed.

    Pictures are stretched to the size that it generates, else it would crop them.
    """
    import torchvision
    from PIL import Image

    groups: dict = {}
    for request in requests:
        groups.setdefault((_size(request, options["area"]), request["seed"]), []).append(request)
    for ((high, wide), seed), group in groups.items():
        written: list = []
        torchvision.io.write_video = lambda path, frames, *_, into=written, **__: into.append(frames.numpy())
        with tempfile.TemporaryDirectory() as folder:
            for number, request in enumerate(group):
                picture = Image.open(request["image"]).convert("RGB")
                picture = picture.resize((wide, high), Image.Resampling.LANCZOS)
                picture.save(Path(folder, f"{number:06d}.png"))
            text = "".join(request["prompt"] + "\n" for request in group)
            Path(folder, "prompts.txt").write_text(text, encoding="utf-8")
            words = {
                "ckpt_path": options["weights"], "config": options["config"], "prompt_dir": folder,
                "savedir": folder, "seed": seed, "n_samples": 1, "bs": 1, "height": high, "width": wide,
                "unconditional_guidance_scale": options["guidance"], "ddim_steps": options["steps"],
                "ddim_eta": 1.0, "video_length": group[0]["frames"], "frame_stride": options["stride"],
                "timestep_spacing": "uniform_trailing", "guidance_rescale": 0.7,
            }  # fmt: skip
            line = [word for name, value in words.items() for word in (f"--{name}", str(value))]
            sys.argv = [ENTRY, *line, "--text_input", "--perframe_ae"]
            runpy.run_path(ENTRY, run_name="__main__")
        for request, frames in zip(group, written):  # noqa: B905 (in the order of the pictures' names)
            save(request, frames)


def _size(request: dict, area: int) -> tuple:
    """Height and width of about `area` pixels at a picture's aspect, multiples of 16 as it wants them."""
    from PIL import Image

    width, height = Image.open(request["image"]).size
    scale = (area / (width * height)) ** 0.5
    return tuple(max(16, round(side * scale / 16) * 16) for side in (height, width))
