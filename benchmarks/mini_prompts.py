"""Does the sentence matter? Null and shuffled prompts, and other actions from the same first frame."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import numpy as np
from estimates import mean, mean_difference, psnr_difference, table
from mini_data import Row, column, shuffled
from mini_model import NULL, still
from mini_scores import Bench, iou, mean_state, psnr_in_area
from mini_stage1 import own_areas, unpack, wrong_prompts
from mini_stage2 import generated_rows, used_areas, video_rows

from handi.world import WorldClip, judges

OTHER_ROLES = ("which",)  # entries of a choice that name no prop


def prompts(bench: Bench) -> str:
    """The section's tables."""
    return _wrong(bench) + "\n" + _siblings(bench)


# ------------------------------------------------------------------------------------ wrong prompts


def _wrong(bench: Bench) -> str:
    few = bench.few
    k = len(few)
    own_area, own = own_areas(bench)[:k], generated_rows(bench)[:k]
    areas = used_areas(bench)[:k]
    wrong = {"null": [NULL] * k, "shuffled": shuffled(bench.clips)[:k]}
    wrong_area = wrong_prompts(bench)
    rows: list[list[object]] = [
        [
            "own",
            mean(column(own_area, "iou")).text(3),
            "",
            psnr_in_area(own).text(2),
            "",
            mean_state(own).text(2),
            k,
        ]
    ]
    for name, sentences in wrong.items():
        other = video_rows(bench, f"stage2 {name}, own area", few, sentences, areas, hands=False)
        rows.append([f"{name}, stage 2 only", "", "", *_against(own, other), k])
    for name, sentences in wrong.items():
        area_rows = wrong_area[name]
        size = few[0].size
        their = np.stack([unpack(row, size) for row in area_rows])
        other = video_rows(bench, f"stage2 {name}, both", few, sentences, their, hands=False)
        gap = mean_difference(column(own_area, "iou"), column(area_rows, "iou"))
        area = mean(column(area_rows, "iou"))
        rows.append([f"{name}, both stages", area.text(3), gap.text(3), *_against(own, other), k])
    header = [
        "prompt", "mIoU of the area", "own better by", "PSNR in the true area, dB", "own better by, dB",
        "state change", "clips",
    ]  # fmt: skip
    return "Wrong prompts (differences paired by clip; 95 % interval):\n\n" + table(header, rows)


def _against(own: Sequence[Row], other: Sequence[Row]) -> list[object]:
    gap = psnr_difference(column(own, "error"), column(other, "error"), column(own, "count"))
    return [psnr_in_area(other).text(2), gap.text(2), mean_state(other).text(2)]


# ----------------------------------------------------------------------------------------- siblings


def sibling_rows(bench: Bench) -> list[Row]:
    """A row a group: same_context of the generated clips, of the truth and of stills, and for each ordered
    pair of siblings whether the area made for the one lies nearer to its own true area than to the other's
    (1, 0, a half), and whether the two act on different things."""

    def compute() -> list[Row]:
        flat = [clip for group in bench.groups for clip in group]
        texts = [clip.text for clip in flat]
        _, areas = bench.model.areas(flat, texts)
        rows, first = [], 0
        for group in bench.groups:
            place = slice(first, first + len(group))
            first += len(group)
            videos = bench.model.videos(group, texts[place], areas[place])
            rows.append(_group_row(group, videos, areas[place]))
        return rows

    seeds = [clip.seed for group in bench.groups for clip in group]
    return bench.store.rows("siblings", seeds, compute)


def _group_row(group: list[WorldClip], videos: np.ndarray, areas: np.ndarray) -> Row:
    truths = [clip.frames for clip in group]
    scores = np.array([[iou(area, clip.area_moved) for clip in group] for area in areas])
    nearer, apart = [], []
    for i, j in permutations(range(len(group)), 2):
        nearer.append(float((scores[i, i] > scores[i, j]) + 0.5 * (scores[i, i] == scores[i, j])))
        apart.append(_other_things(group[i], group[j]))
    return {
        "seed": group[0].seed,
        "texts": [clip.text for clip in group],
        "generated": judges.same_context(list(videos), truths),
        "truth": judges.same_context(truths, truths),
        "still": judges.same_context(list(still(group)), truths),
        "nearer": nearer,
        "apart": apart,
    }


def _other_things(a: WorldClip, b: WorldClip) -> bool:
    """Whether two clips of a scene have no prop in common that plays a part."""
    props = [{name for role, name in clip.choice.items() if role not in OTHER_ROLES} for clip in (a, b)]
    return not props[0] & props[1]


def _siblings(bench: Bench) -> str:
    rows = sibling_rows(bench)
    groups, clips = len(rows), sum(len(row["texts"]) for row in rows)
    lines = [
        [f"same context, {name}", mean(column(rows, key)).text(3), f"{groups} groups, {clips} clips"]
        for name, key in (
            ("**generated**, each in its stage-1 area", "generated"),
            ("the true clips", "truth"),
            ("stills (chance)", "still"),
        )
    ]
    for name, other in (("all pairs", None), ("pairs that act on different things", True)):
        shares, pairs = [], 0
        for row in rows:
            chosen = [n for n, a in zip(row["nearer"], row["apart"], strict=True) if other is None or a]
            shares.append(float(np.mean(chosen)) if chosen else np.nan)
            pairs += len(chosen)
        of = f"{pairs} pairs in {sum(np.isfinite(shares))} groups"
        lines.append(
            [f"area nearer to its own truth than to the sibling's, {name}", mean(shares).percent, of]
        )
    title = "Other actions from the same first frame (95 % interval over groups):\n\n"
    return title + table(["what", "figure", "of"], lines)
