"""Stage 1 of `score.py`: the motion area against the true one, baselines, step counts, actions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.estimates import mean, mean_difference, table
from experiments.mini.clips import Row, column, shuffled
from experiments.mini.measures import Bench, iou, pack
from experiments.mini.model import NULL
from experiments.mini.siblings import area_table
from handi.core.images import read_image
from handi.data.sources.world import referents_of
from handi.method.area import clean_area
from handi.world import WorldClip, require_training
from handi.world.clip import either_hand
from handi.world.files import MOVED_BIT, read_record
from handi.world.setting import HAND_IDS, SLEEVE_IDS

STEPS = (1, 2, 4, 8, 15)
BAR = 0.80
LEAST_SHARE = 1 / 8  # of a cell that a thing covers, to be shown by it
STEP_CLIPS = 4  # times as many clips as dearer sweeps have


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
                "area": pack(area),
            }
            for clip, mask, area in zip(clips, soft, binary, strict=True)
        ]

    return bench.store.rows(name, [clip.seed for clip in clips], compute, steps=steps)


def own_areas(bench: Bench) -> list[Row]:
    """Stage 1 on every clip with its own prompt and the card's steps."""
    return area_rows(bench, "stage1", bench.clips, [clip.text for clip in bench.clips])


def wrong_prompts(bench: Bench) -> dict[str, list[Row]]:
    """Stage 1 on every clip without a prompt, and with another clip's."""
    clips = bench.clips
    return {
        "null": area_rows(bench, "stage1 null", clips, [NULL] * len(clips)),
        "shuffled": area_rows(bench, "stage1 shuffled", clips, shuffled(clips)),
    }


def stage1(bench: Bench, train: Path | None) -> str:
    """The section's tables."""
    own, n = own_areas(bench), len(bench.clips)
    ious = column(own, "iou")
    lines = [
        ["**stage 1, cleaned area**", mean(ious).text(3), ""],
        ["stage 1, soft mask > 0.5", mean(column(own, "iou_raw")).text(3), ""],
    ]
    others = {f"{name} prompt": column(rows, "iou") for name, rows in wrong_prompts(bench).items()}
    for name, other in (others | baselines(bench.clips, train)).items():
        lines.append([name, mean(other).text(3), mean_difference(ious, other).text(3)])
    cleaned = [iou(clean_area(clip.area_moved.astype(np.float32)), clip.area_moved) for clip in bench.clips]
    lines.append(["the true area, cleaned as stage 1's is", mean(cleaned).text(3), ""])
    text = f"Motion area against the true one ({bench.model.steps[0]} steps, {n} clips; 95 % interval):\n\n"
    text += table(["area", "mIoU", "stage 1 better by (paired)"], lines)
    found = _found(bench)
    tables = [text, _step_table(bench), _action_table(own, found), _grounding_table(found), area_table(bench)]
    return "\n".join(tables)


def _step_table(bench: Bench) -> str:
    lines, reached = [], None
    some = bench.clips[: STEP_CLIPS * bench.some]
    for steps in STEPS:
        rows = own_areas(bench)[: len(some)]
        if steps != bench.model.steps[0]:
            rows = area_rows(bench, f"stage1 steps {steps}", some, [clip.text for clip in some], steps)
        score = mean(column(rows, "iou"))
        reached = steps if reached is None and score.value >= BAR else reached
        lines.append([steps, score.text(3), mean(column(rows, "iou_raw")).text(3)])
    text = f"By the number of steps ({len(some)} clips):\n\n" + table(
        ["steps", "mIoU", "soft mask > 0.5"], lines
    )
    return text + f"\nFewest steps that reach {BAR}: {reached or 'none of these'}.\n"


def _action_table(own: Sequence[Row], found: Sequence[Found]) -> str:
    lines = []
    for action in sorted({row["action"] for row in own}):
        part = [n for n, row in enumerate(own) if row["action"] == action]
        line = [action, mean([own[n]["iou"] for n in part]).text(2), len(part)]
        if found:
            line += [_hits([found[n].thing for n in part]), _hits([found[n].hand for n in part])]
        lines.append(line)
    header = ["action", "mIoU", "clips", *(["things found", "the right one of two hands"] if found else [])]
    return "By action:\n\n" + table(header, lines)


def _hits(found: Sequence[bool | None]) -> str:
    asked = [one for one in found if one is not None]
    return f"{sum(asked)} of {len(asked)}" if asked else ""


# --------------------------------------------------------------------------------------- grounding


@dataclass(frozen=True)
class Found:
    """What the finder makes of a clip's sentence."""

    thing: bool  # the cell with the highest score shows a thing that is meant
    hand: bool | None  # the acting hand has more than the other; None where not just one of two hands acts
    either: bool  # either hand might have done it


def _found(bench: Bench) -> list[Found]:
    """Of every clip; none for a model without a finder."""
    scores = bench.model.grounding(bench.clips, [clip.text for clip in bench.clips])
    if scores is None:
        return []
    return [grounded(one, clip) for one, clip in zip(scores, bench.clips, strict=True)]


def _grounding_table(found: Sequence[Found]) -> str:
    """How often the cell with the highest score shows what is meant, and the right hand has more."""
    if not found:
        return ""
    hands = [one for one in found if one.hand is not None]
    lines = [
        [name, mean(hits).percent, f"{len(hits)} clips"]
        for name, hits in (
            ("a thing that the words mean has the highest score", [one.thing for one in found]),
            ("the hand that acts has more than the one that waits", [one.hand for one in hands]),
            ("the same, where scene or words tell which", [one.hand for one in hands if not one.either]),
            ("the same, where chance alone chose", [one.hand for one in hands if one.either]),
        )
        if hits
    ]
    return "What the words mean, in the context image (95 % interval):\n\n" + table(
        ["", "share", "of"], lines
    )


def grounded(scores: np.ndarray, clip: WorldClip) -> Found:
    """What scores 2×h×w find in a clip's first frame."""
    things, acting = shares(referents_of(clip), scores.shape[1:])
    best = np.unravel_index(scores[0].argmax(), scores[0].shape)
    both = shares(np.isin(clip.ids[0], [*HAND_IDS.values(), *SLEEVE_IDS.values()])[None], scores.shape[1:])[0]
    waiting = both - acting
    weight = np.exp(scores[1] - scores[1].max())
    one_of_two = acting.sum() > 1 and waiting.sum() > 1
    hand = bool((weight * acting).sum() > (weight * waiting).sum()) if one_of_two else None
    either = either_hand(clip.seed, clip.action, clip.choice)
    return Found(bool(things[best] >= LEAST_SHARE), hand, either)


def shares(masks: np.ndarray, cells: tuple[int, int]) -> np.ndarray:
    """Masks …×H×W → the share of each of h×w cells that they cover."""
    height, width = cells
    tall, wide = masks.shape[-2] // height, masks.shape[-1] // width
    return masks.reshape(*masks.shape[:-2], height, tall, width, wide).mean((-3, -1))


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
