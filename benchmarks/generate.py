"""Seconds of each stage of generation, peak memory, and our UNet against a plain loop over the same one.

    python -m benchmarks.generate                       # a random model of 64 channels, on this machine
    python -m benchmarks.generate --width 128 --size 256
    python -m benchmarks.generate --model FOLDER        # a real one; bfloat16 and torch.compile on a GPU

The plain loop runs diffusers' own block code as the original did: text and time embedding repeated for
every frame, float32 or the model's precision, no compilation, one frame a decoding call. Both are timed
in turns in the same process; the table gives the medians, the range, and the ratio of the medians.
"""

from __future__ import annotations

import copy
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import psutil
import torch
import tyro
from torch import Tensor

from benchmarks.plain_unet import as_diffusers_built_it, plain_forward
from handi import HandiPipeline
from handi.method.latents import decode
from handi.models.fresh import random_checkpoint


@dataclass(frozen=True)
class Arguments:
    """What to time."""

    model: str | None = None  # a model folder or hub id; None: random weights
    width: int = 64  # of the random model: channels of the first level, a multiple of 32
    size: int = 128  # of the random model: pixels a side
    frames: int = 16
    steps: int = 4
    guidance: float = 9.0
    rounds: int = 3
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    compile: bool = torch.cuda.is_available()


class PeakMemory:
    """Most memory above the start: allocated on the GPU, or resident on the CPU (sampled every 5 ms)."""

    def __init__(self, device: str) -> None:
        self.device, self.bytes = device, 0

    def __enter__(self) -> PeakMemory:
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            self.start = torch.cuda.memory_allocated()
            return self
        process = psutil.Process()
        self.start, self._stop = process.memory_info().rss, threading.Event()

        def watch() -> None:
            while not self._stop.wait(0.005):
                self.bytes = max(self.bytes, process.memory_info().rss - self.start)

        self._thread = threading.Thread(target=watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.device == "cuda":
            self.bytes = torch.cuda.max_memory_allocated() - self.start
        else:
            self._stop.set()
            self._thread.join()


def timed(work: Callable[[], object], device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    begin = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def summary(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):7.3f} s  ({min(seconds):.3f} to {max(seconds):.3f})"


@torch.no_grad()
def compare(pipe: HandiPipeline, args: Arguments) -> None:
    """One guided step and one decoding, ours and plain, in turns."""
    unet, device, dtype = pipe.unet, args.device, pipe.unet.dtype
    plain = as_diffusers_built_it(copy.deepcopy(unet))
    fast = torch.compile(unet) if args.compile else unet
    height, width = (side // pipe.backbone.multiple for side in (pipe.card.height, pipe.card.width))
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device, dtype)

    sample, context = normal(2, 4, args.frames, height, width), normal(2, 4, 1, height, width)
    mask, text = normal(2, 1, 1, height, width).sigmoid(), normal(2, 77, unet.config.cross_attention_dim)
    t, motion = torch.tensor([999], device=device), torch.tensor([5.0], device=device)
    latents = normal(1, 4, args.frames, height, width)
    outputs = {}

    def ours_step() -> None:
        outputs["ours"] = fast(sample, t, text, condition_latent=context, mask=mask, motion=motion)

    def plain_step() -> None:
        outputs["plain"] = plain_forward(plain, sample, t, text, context, mask, motion)

    works = {
        "UNet step, ours": ours_step,
        "UNet step, plain": plain_step,
        "decode, ours": lambda: pipe.decode(latents),
        "decode, plain": lambda: decode(pipe.vae, latents, together=1),
    }
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for work in works.values():
        work()  # warm up, compile
    for _ in range(args.rounds):
        for name, work in works.items():
            seconds[name].append(timed(work, device))
    for name, values in seconds.items():
        print(f"  {name:18} {summary(values)}")
    for what in ("UNet step", "decode"):
        ours, other = (statistics.median(seconds[f"{what}, {which}"]) for which in ("ours", "plain"))
        print(f"  {what}: ours takes {ours / other:.2f} of the plain time")
    difference = (outputs["ours"] - outputs["plain"]).abs().max() / outputs["plain"].std()
    print(f"  largest difference of the two UNets' outputs: {difference:.1e} of their std")


def main() -> None:
    args = tyro.cli(Arguments, description=__doc__)
    if args.model is None:
        pipe = HandiPipeline.from_checkpoint(random_checkpoint(width=args.width, size=args.size))
    else:
        dtype = torch.bfloat16 if args.device == "cuda" else torch.float32
        pipe = HandiPipeline.from_pretrained(args.model, torch_dtype=dtype)
    pipe.to(args.device)
    pipe.set_progress_bar_config(disable=True)
    parameters = sum(p.numel() for p in pipe.unet.parameters()) / 1e6
    where = (
        torch.cuda.get_device_name() if args.device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    )
    print(
        f"{args.model or 'random weights'}: UNet {parameters:.1f} M, {pipe.card.height}×{pipe.card.width}, "
        f"{args.frames} frames, {args.steps} steps a stage, guidance {args.guidance:g}, {pipe.unet.dtype}, "
        f"{where}, torch {torch.__version__}, {args.rounds} rounds"
    )
    picture = np.zeros((pipe.card.height, pipe.card.width, 3), np.uint8)
    stages: dict[str, list[float]] = {}

    def clip() -> dict[str, float]:
        return pipe(
            picture,
            "Cut the carrot.",
            num_frames=args.frames,
            num_inference_steps=args.steps,
            area_inference_steps=args.steps,
            guidance_scale=args.guidance,
            area_guidance_scale=args.guidance,
            generator=torch.Generator().manual_seed(0),
        ).seconds

    with PeakMemory(args.device) as memory:  # of the first clip: what a process has had, it keeps
        clip()
    for _ in range(args.rounds):
        for name, seconds in clip().items():
            stages.setdefault(name, []).append(seconds)
    print("one clip:")
    for name, values in stages.items():
        print(f"  {name:18} {summary(values)}")
    print(f"  peak memory above the weights: {memory.bytes / 2**20:.0f} MiB")
    print("ours against the plain loop:")
    compare(pipe, args)


if __name__ == "__main__":
    main()
