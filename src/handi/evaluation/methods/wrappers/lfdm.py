"""LFDM: `FlowDiffusion.sample_one_video`, as its demo/demo_mhad.py builds and calls it.

The demo has its paths written into it, so it cannot be started as it is.
"""

from __future__ import annotations

from typing import Any

PROJECT = "https://github.com/nihaomiao/CVPR23_LFDM"
ENTRY = "DM/modules/video_flow_diffusion_model.py"
WEIGHTS = "the checkpoint of its diffusion model, flowdiff….pth"
OUTPUT = "{id}"
OPTIONS: dict[str, Any] = {
    "autoencoder": None,  # the checkpoint of its flow autoencoder, RegionMM….pth
    "config": "config/mhad128.yaml",
    "side": 128,  # pixels; its pictures are square
    "frames": 16,  # the published models: 40
    "steps": 1000,
    "guidance": 1.0,
    "text_encoder": None,  # folder of bert-base-cased; None: it asks torch.hub for it
}


def run(requests: list, options: dict, save: Any) -> None:
    """Pictures are stretched to a square, which is undone when its clips are read."""
    import numpy as np
    import torch
    from DM.modules import text
    from DM.modules.video_flow_diffusion_model import FlowDiffusion
    from PIL import Image

    if options["text_encoder"]:
        from transformers import AutoModel, AutoTokenizer

        text.TOKENIZER = AutoTokenizer.from_pretrained(options["text_encoder"], trust_remote_code=False)
        text.MODEL = AutoModel.from_pretrained(options["text_encoder"], trust_remote_code=False).eval()
        if torch.cuda.is_available():
            text.MODEL.cuda()
    side = options["side"]
    model = FlowDiffusion(
        is_train=False,
        img_size=side // 4,
        num_frames=options["frames"],
        sampling_timesteps=options["steps"],
        pretrained_pth=options["autoencoder"] or "",
        config_pth=options["config"],
    )
    model.cuda()
    model.diffusion.load_state_dict(torch.load(options["weights"], map_location="cpu")["diffusion"])
    model.eval()
    for request in requests:
        torch.manual_seed(request["seed"])
        image = Image.open(request["image"]).convert("RGB").resize((side, side), Image.Resampling.LANCZOS)
        picture = torch.from_numpy(np.asarray(image, np.float32) / 255).permute(2, 0, 1)[None]
        model.set_sample_input(sample_img=picture, sample_text=[request["prompt"]])
        with torch.no_grad():
            model.sample_one_video(cond_scale=options["guidance"])
        frames = model.sample_out_vid[0].permute(1, 2, 3, 0).cpu()  # of 1×3×F×H×W
        save(request, (frames.clamp(0, 1) * 255).round().to(torch.uint8).numpy())
