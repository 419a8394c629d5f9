"""Stage 1 of `mini.py`: the motion area against the true one, baselines, step counts, actions."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from estimates import mean, mean_difference, table
from mini_data import Row, column, shuffled
from mini_model import NULL
from mini_scores import Bench, iou

from handi.images import read_image
from handi.world import WorldClip, require_training
from handi.world.files import MOVED_BIT, read_record

STEPS = (1, 2, 4, 8, 15)
BAR = 0.80


def area_rows(
    bench: Bench, name: str, clips: Sequence[WorldClip], prompts: Sequence[str], steps: int | None = None
) -> list[Row]:
    """Stage 1 on clips: IoU of the binary area and of the raw soft mask above one half; the area itself."""
    steps = steps or bench.model.steps[0]

    def compute() -> list[Row]:
        soft, binary = bench.model.areas(clips, prompts, steps)
        return [
            {
                "seed": clip.seed,
                "action": clip.action,
                "iou": iou(area, clip.area_moved),
                "iou_raw": iou(mask > 0.5, clip.area_moved),
                "area": base64.b64encode(np.packbits(area)).decode(),
            }
            for clip, mask, area in zip(clips, soft, binary, strict=True)
        ]

    return bench.store.rows(name, [clip.seed for clip in clips], compute, steps=steps)


def unpack(row: Row, size: int) -> np.ndarray:
    """The binary area of a row, H×W."""
    bits = np.frombuffer(base64.b64decode(row["area"]), np.uint8)
    return np.unpackbits(bits, count=size * size).reshape(size, size).astype(bool)


def own_areas(bench: Bench) -> list[Row]:
    """Stage 1 on every clip with its own prompt and the card's steps."""
    return area_rows(bench, "stage1", bench.clips, [clip.text for clip in bench.clips])


def wrong_prompts(bench: Bench) -> dict[str, list[Row]]:
    """Stage 1 on some of the clips without a prompt, and with another clip's."""
    few = bench.few
    return {
        "null": area_rows(bench, "stage1 null", few, [NULL] * len(few)),
        "shuffled": area_rows(bench, "stage1 shuffled", few, shuffled(bench.clips)[: len(few)]),
    }


def stage1(bench: Bench, train: Path | None) -> str:
    """The section's tables."""
    own = own_areas(bench)
    few, n = own[: bench.some], min(bench.some, len(own))
    wrong = wrong_prompts(bench)
    best = mean(column(own, "iou"))
    rows = [
        ["**stage 1, cleaned area**", best.text(3), "", len(own)],
        ["stage 1, soft mask > 0.5", mean(column(own, "iou_raw")).text(3), "", len(own)],
    ]
    for name, other in wrong.items():
        gap = mean_difference(column(few, "iou"), column(other, "iou"))
        rows.append([f"{name} prompt", mean(column(other, "iou")).text(3), gap.text(3), n])
    for name, ious in baselines(bench.clips, train).items():
        gap = mean_difference(column(own, "iou"), ious)
        rows.append([name, mean(ious).text(3), gap.text(3), len(ious)])
    text = f"Motion area against the true one ({bench.model.steps[0]} steps), mIoU (95 % interval):\n\n"
    text += table(["area", "mIoU", "stage 1 better by (paired)", "clips"], rows)

    rows, reached = [], None
    for steps in STEPS:
        if steps == bench.model.steps[0]:
            some = few
        else:
            some = area_rows(bench, f"stage1 steps {steps}", bench.few, [c.text for c in bench.few], steps)
        score = mean(column(some, "iou"))
        reached = steps if reached is None and score.value >= BAR else reached
        rows.append([steps, score.text(3), mean(column(some, "iou_raw")).text(3), n])
    text += "\nBy the number of steps:\n\n" + table(["steps", "mIoU", "soft mask > 0.5", "clips"], rows)
    text += f"\nFewest steps that reach {BAR}: {reached or 'none of these'}.\n"

    rows = []
    for action in sorted({row["action"] for row in own}):
        part = [row for row in own if row["action"] == action]
        rows.append([action, mean(column(part, "iou")).text(2), len(part)])
    return text + "\nBy action:\n\n" + table(["action", "mIoU", "clips"], rows)


# --------------------------------------------------------------------------------------- baselines


def baselines(clips: Sequence[WorldClip], train: Path | None) -> dict[str, list[float]]:
    """IoU of areas that look at no picture: mean masks of training clips, and the whole frame.

    The thresholds of the mean masks are those that are best on the training clips.
    """
    result = {}
    if train is not None:
        actions, areas = training_areas(train)
        everywhere = best_cut(areas)
        result["mean area of the action, which it is told"] = [
            iou(_by_action(clip.action, actions, areas, everywhere), clip.area_moved) for clip in clips
        ]
        result["mean area of all"] = [iou(everywhere, clip.area_moved) for clip in clips]
    whole = np.ones_like(clips[0].area_moved)
    result["the whole frame"] = [iou(whole, clip.area_moved) for clip in clips]
    return result


def training_areas(folder: Path, limit: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    """Actions N and moved areas N×H×W of training clips. Raises: InputError for a seed of another split."""
    actions, areas = [], []
    for path in sorted(folder.glob("[0-9]*.json"))[:limit]:
        record = read_record(path)
        require_training([record["seed"]])
        actions.append(record["action"])
        areas.append((read_image(path.with_suffix(".area.png"))[..., 0] & MOVED_BIT) > 0)
    if not areas:
        raise SystemExit(f"{folder}: no clips in it")
    return np.array(actions), np.stack(areas)


def best_cut(areas: np.ndarray) -> np.ndarray:
    """The mean of N×H×W areas above the threshold that gives the best mIoU against them."""
    prior = areas.mean(0)
    flat = areas.reshape(len(areas), -1).astype(np.float32)
    cuts = np.stack([prior.reshape(-1) > t for t in np.arange(0.05, 0.96, 0.05)]).astype(np.float32)
    both = flat @ cuts.T  # N×thresholds
    either = flat.sum(1)[:, None] + cuts.sum(1)[None] - both
    best = (both / np.maximum(either, 1)).mean(0).argmax()
    return cuts[best].reshape(prior.shape) > 0


def _by_action(action: str, actions: np.ndarray, areas: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    own = areas[actions == action]
    return best_cut(own) if len(own) else otherwise
