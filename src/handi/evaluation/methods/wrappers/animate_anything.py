"""AnimateAnything: `load_primary_models` and `batch_eval` of its train.py, the whole frame as the mask."""

from __future__ import annotations

import tempfile
from types import SimpleNamespace
from typing import Any

PROJECT = "https://github.com/alibaba/animate-anything"
ENTRY = "train.py"
WEIGHTS = "its model folder: unet, vae, text_encoder, tokenizer, scheduler"
OUTPUT = "{id}"
OPTIONS: dict[str, Any] = {
    "area": 512 * 512,  # pixels that it generates, at the picture's aspect
    "steps": 25,
    "guidance": 9.0,
    "strength": 3,  # of the motion: what its own evaluation begins with
    "device": "cuda",
    "dtype": "float16",
}


def run(requests: list, options: dict, save: Any) -> None:
    """Its frames are taken where it hands them to its GIF writer, before they lose colours."""
    import torch
    import train
    from diffusers.image_processor import VaeImageProcessor
    from omegaconf import OmegaConf

    models = train.load_primary_models(options["weights"], motion_strength=True)
    _, _, text_encoder, vae, unet = models
    parts = [text_encoder, unet, vae]
    train.freeze_models(parts)
    train.handle_memory_attention(False, True, unet)
    vae.enable_slicing()
    train.cast_to_gpu_and_type(parts, torch.device(options["device"]), getattr(torch, options["dtype"]))
    side = round(options["area"] ** 0.5)
    written: list = []
    train.imageio = SimpleNamespace(mimwrite=lambda path, frames, **_: written.append(frames))
    for request in requests:
        data = {
            "prompt": request["prompt"], "prompt_image": request["image"], "num_frames": request["frames"],
            "width": side, "height": side, "num_inference_steps": options["steps"],
            "guidance_scale": options["guidance"], "strength": options["strength"],
        }  # fmt: skip
        train.set_seed(request["seed"])
        with tempfile.TemporaryDirectory() as folder:
            how = {"preview": True, "iters": 1}
            processor = VaeImageProcessor()
            train.batch_eval(
                unet, text_encoder, vae, processor, options["weights"], OmegaConf.create(data), folder, **how
            )
        save(request, written[-1])
