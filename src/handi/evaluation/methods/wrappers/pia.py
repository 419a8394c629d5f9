"""PIA: `I2VPipeline` of its animatediff package, as its inference.py builds and calls it."""

from __future__ import annotations

from typing import Any

PROJECT = "https://github.com/open-mmlab/PIA"
ENTRY = "animatediff/pipelines/i2v_pipeline.py"
WEIGHTS = "its checkpoint, pia.ckpt or one that its train.py wrote"
OUTPUT = "{id}"
OPTIONS: dict[str, Any] = {
    "base": "models/StableDiffusion",  # folder of Stable Diffusion 1.5
    "dreambooth": None,  # a personalised model, .safetensors
    "config": "example/config/base.yaml",
    "longest": 512,  # pixels of the longer side
    "steps": 25,
    "guidance": 7.5,
    "motion": 0,  # 0 small, 1 moderate, 2 large
}


def run(requests: list, options: dict, save: Any) -> None:
    """Its pipeline gives frames in [0, 1], which are kept as they are."""
    import torch
    from animatediff.pipelines import I2VPipeline
    from animatediff.utils.util import preprocess_img
    from omegaconf import OmegaConf

    config = OmegaConf.load(options["config"])
    pipe = I2VPipeline.build_pipeline(config, options["base"], options["weights"], options["dreambooth"])
    for request in requests:
        image, height, width = preprocess_img(request["image"], options["longest"])
        torch.manual_seed(request["seed"])
        video = pipe(
            image=image,
            prompt=request["prompt"],
            generator=torch.Generator(device=pipe.device).manual_seed(request["seed"]),
            video_length=request["frames"],
            height=height,
            width=width,
            num_inference_steps=options["steps"],
            guidance_scale=options["guidance"],
            mask_sim_template_idx=options["motion"],
        ).videos
        frames = torch.as_tensor(video)[0].permute(1, 2, 3, 0)  # of 1×3×F×H×W
        save(request, (frames.clamp(0, 1) * 255).round().to(torch.uint8).numpy())
