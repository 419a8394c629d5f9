"""What one GPU does at full size: a table of seconds, memory and frames per second, as JSON and Markdown.

    python -m benchmarks.gpu --out out/gpu          # 16 frames of 256×448, 25 steps, bfloat16, random weights
    python -m benchmarks.gpu --out out/gpu --small    # the same sections in miniature, on any machine

Every section is a process with a time limit of its own, so that one that fails or hangs leaves the others'
figures alone. `benchmarks/gpu.sh` puts the needed packages in place first.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

LIMITS = {"generate": 150, "compile": 120, "train": 120, "detector": 60}  # seconds of each section
Rows = dict[str, Any]  # what was measured → its figure, with the unit in the name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/gpu"))
    parser.add_argument("--small", action="store_true", help="a small model; on the CPU if need be")
    parser.add_argument("--sections", nargs="+", choices=LIMITS, default=list(LIMITS))
    parser.add_argument("--section", choices=LIMITS, help=argparse.SUPPRESS)  # the process of one section
    given = parser.parse_args()
    if given.section is not None:
        print(json.dumps(SECTIONS[given.section](given.small)))
        return
    given.out.mkdir(parents=True, exist_ok=True)
    report: dict[str, Rows] = {}
    for name in given.sections:
        report[name] = run_section(name, given.small)
        write(report, given.out)  # after each: a machine may be taken away at any time
    print((given.out / "gpu.md").read_text())


def run_section(name: str, small: bool) -> Rows:
    """A section's figures; where it fails, the end of what it said."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--section", name, *(["--small"] if small else [])]
    begin = time.perf_counter()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMITS[name])
        rows = {"failed": tail(done.stderr)}
        if done.returncode == 0:
            rows = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        rows = {"failed": f"not done within {LIMITS[name]} s"}
    return rows | {"section, s": round(time.perf_counter() - begin, 1)}


def tail(text: str) -> str:
    return " ".join(text.split())[-300:]


def write(report: dict[str, Rows], out: Path) -> None:
    (out / "gpu.json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    lines = ["| section | what | figure |", "|---|---|---|"]
    for section, rows in report.items():
        lines += [f"| {section} | {what} | {figure} |" for what, figure in rows.items()]
    (out / "gpu.md").write_text("\n".join(lines) + "\n")


# ---------------------------------------------------------------------------------------- sections


def device_of(small: bool) -> str:
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if not small:
        raise SystemExit("there is no GPU here; --small runs on a CPU")
    return "cpu"


def model(small: bool, device: str) -> Any:
    """A checkpoint of both stages with random weights: in bfloat16, or in miniature."""
    import torch

    from handi.models.fresh import published_shapes, random_checkpoint
    from handi.models.parts import StageSettings

    if small:
        return random_checkpoint(width=32, size=32)
    torch.set_default_dtype(torch.bfloat16)
    try:
        first, second = published_shapes(device), published_shapes(device)
    finally:
        torch.set_default_dtype(torch.float32)
    prior = torch.full((256, 448), 0.5)
    card = replace(second.card, stage1=StageSettings(), weights="random")
    return replace(second, area_unet=first.unet, prior_mask=prior, card=card)


@contextmanager
def clock(device: str, rows: Rows, name: str) -> Iterator[None]:
    """Record the wall seconds of a block, with what it started on the GPU."""
    import torch

    def now() -> float:
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    begin = now()
    yield
    rows[name] = round(now() - begin, 4)


def generate(small: bool) -> Rows:
    """Both stages, as `handi generate` runs them; the first clip warms up, the second counts."""
    import numpy as np
    import torch

    from handi import HandiPipeline

    device, rows = device_of(small), {}
    rows["machine"] = "CPU, small model: no figure of a GPU"
    if device == "cuda":
        rows["machine"] = torch.cuda.get_device_name()
    rows["torch"] = torch.__version__
    pipe = HandiPipeline.from_checkpoint(model(small, device)).to(device)
    pipe.set_progress_bar_config(disable=True)
    steps = 2 if small else 25
    picture = np.zeros((pipe.card.height, pipe.card.width, 3), np.uint8)
    for _ in range(2):
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        with clock(device, rows, "both stages with encoding and decoding, s"):
            found = pipe(
                picture,
                "Cut the carrot.",
                num_inference_steps=steps,
                area_inference_steps=steps,
                generator=torch.Generator().manual_seed(0),
            )
    rows |= {f"{name}, s": round(value, 4) for name, value in found.seconds.items()}
    if device == "cuda":
        rows["peak memory, GiB"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
    rows["clip"] = "×".join(map(str, found.frames.shape[1:4])) + f", {steps} steps a stage, guidance"
    return rows


def compiled(small: bool) -> Rows:
    """One guided step of the UNet as it is and compiled, and how long compiling takes."""
    import torch

    device, rows = device_of(small), {}
    parts = model(small, device)
    unet, cells = parts.unet.to(device), (parts.card.height // 8, parts.card.width // 8)
    with torch.device(device):
        given = torch.randn(2, 4, 16, *cells), torch.tensor([999])
        given += (torch.randn(2, 77, unet.config.cross_attention_dim, dtype=unet.dtype),)
        conditions = {
            "condition_latent": torch.randn(2, 4, 1, *cells),
            "mask": torch.rand(2, 1, 1, *cells),
            "motion": torch.tensor([5.0, 5.0]),
        }

    @torch.no_grad()
    def step(name: str) -> None:
        for _ in range(3):
            with clock(device, rows, name):
                unet(*given, **conditions)

    step("a guided step, s")
    if small:
        unet.transformer_in.compile(backend="eager")  # a compiler takes minutes on a CPU
    else:
        unet.compile()
    with torch.no_grad(), clock(device, rows, "compiling and the first step, s"):
        unet(*given, **conditions)
    step("a guided step, compiled, s")
    return rows


def train(small: bool) -> Rows:
    """A training step of stage 2 with and without the hand loss."""
    import tempfile

    from benchmarks.memory import recipe
    from benchmarks.train import seconds
    from handi.models import folder
    from handi.training.recipe import parse_recipe

    rows: Rows = {}
    with tempfile.TemporaryDirectory() as scratch:
        parts = model(small, device_of(small))
        folder.save(parts, parts.scheduler(), Path(scratch) / "model")
        entries: dict[str, Any] = {"model": {"init": str(Path(scratch) / "model")}}
        if small:
            entries |= {"run": {"precision": "no"}, "data": {"frames": 4}}
        for name, weight in (("without", 0.0), ("with", 0.1)):
            what = f"a step of one clip, {name} the hand loss, s"
            rows[what] = round(seconds(parse_recipe(recipe(entries)), weight), 4)
    return rows


def detector(small: bool) -> Rows:
    """Frames per second of the hand detector, on noise at full size."""
    import torch

    from handi.hands import HandDetector

    device, rows = device_of(small), {}
    finder = HandDetector.from_pretrained(backend="torch")
    count = 8 if small else 512
    frames = torch.randint(0, 256, (count, 256, 448, 3), dtype=torch.uint8, device=device)
    finder.detect(frames[:8])
    with clock(device, rows, "seconds"):
        finder.detect(frames)
    return {"frames per second, no hand in them": round(count / rows["seconds"], 1)}


SECTIONS: dict[str, Callable[[bool], Rows]] = {
    "generate": generate, "compile": compiled, "train": train, "detector": detector
}  # fmt: skip

if __name__ == "__main__":
    main()
