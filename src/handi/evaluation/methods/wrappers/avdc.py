"""AVDC: `GoalGaussianDiffusion` and `Trainer.sample`, as its train_bridge.py builds and calls them.

The script itself reads `args.sample_steps`, which its command line does not have.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

PROJECT = "https://github.com/flow-diffusion/AVDC"
ENTRY = "flowdiffusion/goal_diffusion.py"
WEIGHTS = "its checkpoint, model-NUMBER.pt"
OUTPUT = "{id}"
OPTIONS: dict[str, Any] = {
    "unet": "UnetBridge",  # or UnetMW, UnetThor
    "height": 48,  # UnetMW 128×128, UnetThor 64×64
    "width": 64,
    "frames": 16,  # the published models: Bridge 7, Meta-World and THOR 8
    "steps": 100,
    "guidance": 0,
    "text_encoder": "openai/clip-vit-base-patch32",  # hub id or folder
}


def run(requests: list, options: dict, save: Any) -> None:
    """It generates the frames after the picture, which is put before them."""
    sys.path.insert(0, "flowdiffusion")
    import torch
    import unet
    from goal_diffusion import GoalGaussianDiffusion, Trainer
    from PIL import Image
    from torchvision import transforms
    from transformers import CLIPTextModel, CLIPTokenizer

    size = options["height"], options["width"]
    after = options["frames"] - 1
    diffusion = GoalGaussianDiffusion(
        channels=3 * after,
        model=getattr(unet, options["unet"])(),
        image_size=size,
        timesteps=100,
        sampling_timesteps=options["steps"],
        loss_type="l2",
        objective="pred_v",
        beta_schedule="cosine",
        min_snr_loss_weight=True,
    )
    weights = Path(options["weights"])
    trainer = Trainer(
        diffusion_model=diffusion,
        tokenizer=CLIPTokenizer.from_pretrained(options["text_encoder"], trust_remote_code=False),
        text_encoder=CLIPTextModel.from_pretrained(options["text_encoder"], trust_remote_code=False)
        .requires_grad_(False)
        .eval(),
        train_set=[None],
        valid_set=[None],
        results_folder=weights.parent,
        fp16=False,
        amp=False,
        calculate_fid=False,
    )
    trainer.load(weights.stem.rpartition("-")[2])
    load = transforms.Compose([transforms.Resize(size), transforms.ToTensor()])
    for request in requests:
        torch.manual_seed(request["seed"])
        image = load(Image.open(request["image"]).convert("RGB"))
        made = trainer.sample(image[None], [request["prompt"]], 1, options["guidance"]).cpu()
        frames = torch.cat([image[None], made[0].reshape(after, 3, *size)])
        save(request, (frames.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy())
