"""Peak memory of generation (does it fit 16 GB?) and of training, at full size and without a GPU.

    python -m benchmarks.memory
    python -m benchmarks.memory --training   # the table of docs/training_memory.md: handi train --estimate

Counts the bytes of live tensors, operation by operation. First a real step on the CPU at reduced width,
counted and run on the meta device too: both counts must agree to the byte. Then the full-size networks
in bfloat16 on the meta device, where shapes are real and nothing is computed. Attention counts as the
fused kernels do it, without the matrix of scores. The driver's context and the libraries' workspaces
(around 1 GiB on a GPU) are not in the count.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from handi.models.fresh import published_shapes
from handi.models.unet import HandiUNet
from handi.training.counting import PeakBytes
from handi.training.estimate import estimate
from handi.training.recipe import parse_recipe

GIB = 2**30
LORA = {"lora_rank": 16, "frozen": "bf16"}
CASES: dict[str, dict[str, Any]] = {
    "stage 1, all weights": {"stage": "stage1"},
    "stage 2, all weights, no hand loss": {"loss": {"hand": {"weight": 0}}},
    "stage 2, all weights, hand loss": {},
    "the same, not checkpointed": {"run": {"checkpointing": False}},
    "stage 2, LoRA, no hand loss": {"model": LORA, "loss": {"hand": {"weight": 0}}},
    "stage 2, LoRA, hand loss": {"model": LORA},
    "the same, 2 clips": {"model": LORA, "optim": {"batch": 2}},
}
SMALL = {"block_out_channels": (64, 128, 256, 256), "cross_attention_dim": 64, "attention_head_dim": 8}


@contextmanager
def fused_attention() -> Iterator[None]:
    """On the meta device PyTorch only knows attention with its matrix of scores; a GPU has no such matrix."""
    real = F.scaled_dot_product_attention

    def attention(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
        return torch.empty_like(query) if query.is_meta else real(query, key, value, **options)

    with mock.patch.object(F, "scaled_dot_product_attention", attention):
        yield


def build(make: Callable[[], nn.Module], device: str, dtype: torch.dtype) -> nn.Module:
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            return make().eval()
    finally:
        torch.set_default_dtype(torch.float32)


@torch.no_grad()
def unet_step(unet: nn.Module, device: str, height: int, width: int) -> int:
    """Peak bytes of one denoising step of 16 frames with guidance, above the weights."""
    with torch.device(device):
        inputs = (
            torch.randn(2, 4, 16, height // 8, width // 8),
            torch.tensor([999]),
            torch.randn(2, 77, unet.config.cross_attention_dim, dtype=unet.dtype),
        )
        conditions = {
            "condition_latent": torch.randn(2, 4, 1, height // 8, width // 8),
            "mask": torch.rand(2, 1, 1, height // 8, width // 8),
            "motion": torch.tensor([5.0, 5.0]),
        }
        with fused_attention(), PeakBytes() as count:
            unet(*inputs, **conditions)
    return count.peak


@torch.no_grad()
def decode_step(vae: nn.Module, device: str, height: int, width: int, frames: int = 4) -> int:
    """Peak bytes of decoding `frames` frames, as the pipeline's chunks do, above the weights."""
    latents = torch.randn(frames, 4, height // 8, width // 8, device=device, dtype=vae.dtype)
    with fused_attention(), PeakBytes() as count:
        vae.decode(latents)
    return count.peak


def weights(module: nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in module.parameters())


def generation() -> None:
    def small() -> HandiUNet:
        return HandiUNet(motion_mask=True, motion_strength=True, **SMALL)

    real, counted = (
        unet_step(build(small, device, torch.float32), device, 128, 224) for device in ("cpu", "meta")
    )
    print(f"reduced width, 16 frames 128×224, float32: real step {real:,} B, meta device {counted:,} B")
    if real != counted:
        raise SystemExit("the two counts differ: the figures below would mean nothing")

    shapes = published_shapes()
    unet, vae, text = (part.to(torch.bfloat16) for part in (shapes.unet, shapes.vae, shapes.text_encoder))
    parts = {"UNet, stage 1": weights(unet), "UNet, stage 2": weights(unet)}
    parts |= {"autoencoder": weights(vae), "text encoder": weights(text)}
    step, decode = unet_step(unet, "meta", 256, 448), decode_step(vae, "meta", 256, 448)
    print("full size, 16 frames 256×448, bfloat16, guidance (two branches a step):")
    for name, size in parts.items():
        print(f"  weights of {name:14} {size / GIB:6.2f} GiB")
    print(f"  one denoising step, above them  {step / GIB:6.2f} GiB")
    print(f"  decoding 4 frames, above them   {decode / GIB:6.2f} GiB")
    everything = sum(parts.values()) + max(step, decode)
    offloaded = max(parts["UNet, stage 2"] + step, parts["autoencoder"] + decode)
    print(f"  peak, everything on the GPU     {everything / GIB:6.2f} GiB")
    print(f"  peak with --offload             {offloaded / GIB:6.2f} GiB")


def recipe(changes: dict[str, Any]) -> dict[str, Any]:
    base: dict[str, Any] = {
        "stage": "stage2",
        "model": {"init": "AnimateAnything"},
        "data": {"path": "-"},
        "optim": {"batch": 1},
        "run": {"precision": "bf16", "checkpointing": True},
    }
    for section, entries in changes.items():
        base[section] = {**base.get(section, {}), **entries} if isinstance(entries, dict) else entries
    return base


def training() -> None:
    """A row per case: what a training step of AnimateAnything's size holds, one clip in a forward pass."""
    print("| | trained | weights | gradients | optimiser | average | beside them | peak | TFLOP a step |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, changes in CASES.items():
        e = estimate(parse_recipe(recipe(changes)))
        kept = (e.weights_bytes, e.gradients_bytes, e.optimizer_bytes, e.average_bytes, e.work_bytes)
        sizes = " | ".join(f"{size / GIB:.2f}" for size in kept)
        peak, flops = f"**{e.peak_bytes / GIB:.1f} GiB**", f"{e.flops_per_step / 1e12:.1f}"
        print(f"| {name} | {e.trained / 1e6:,.1f} M | {sizes} | {peak} | {flops} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--training", action="store_true")
    training() if parser.parse_args().training else generation()


if __name__ == "__main__":
    main()
