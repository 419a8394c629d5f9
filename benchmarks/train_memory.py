"""Memory and arithmetic of full-size training steps, counted without a GPU: what fits 24 GB, what fits 80 GB?

    python -m benchmarks.train_memory

The figures of `handi train --estimate` for a model of AnimateAnything's size (16 frames 256×448, one clip a
forward pass, bf16 autocast), as Markdown. docs/training_memory.md says what is counted.
"""

from __future__ import annotations

from typing import Any

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


def main() -> None:
    print("| | trained | weights | gradients | optimiser | average | beside them | peak | TFLOP a step |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, changes in CASES.items():
        e = estimate(parse_recipe(recipe(changes)))
        kept = (e.weights_bytes, e.gradients_bytes, e.optimizer_bytes, e.average_bytes, e.work_bytes)
        sizes = " | ".join(f"{size / GIB:.2f}" for size in kept)
        peak, flops = f"**{e.peak_bytes / GIB:.1f} GiB**", f"{e.flops_per_step / 1e12:.1f}"
        print(f"| {name} | {e.trained / 1e6:,.1f} M | {sizes} | {peak} | {flops} |", flush=True)


if __name__ == "__main__":
    main()
