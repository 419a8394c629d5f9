"""Does the sentence matter? Null and shuffled prompts, and other actions from the same first frame."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import numpy as np
from estimates import Estimate, mean, mean_difference, psnr_difference, table
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


def wrong_videos(bench: Bench) -> dict[str, list[Row]]:
    """Stage 2 on some of the clips without a prompt and with another clip's: in the areas that the own
    prompts gave, so that only stage 2 is misled, and in those that the wrong prompts gave."""
    few, result = bench.few, {}
    sentences = {"null": [NULL] * len(few), "shuffled": shuffled(bench.clips)[: len(few)]}
    areas = used_areas(bench)[: len(few)]
    for name, texts in sentences.items():
        rows = video_rows(bench, f"stage2 {name}, own area", few, texts, areas, hands=False)
        result[f"{name}, stage 2 only"] = rows
    for name, area_rows in wrong_prompts(bench).items():
        areas = np.stack([unpack(row, few[0].size) for row in area_rows])
        rows = video_rows(bench, f"stage2 {name}, both", few, sentences[name], areas, hands=False)
        result[f"{name}, both stages"] = rows
    return result


def _wrong(bench: Bench) -> str:
    k = len(bench.few)
    own_area, own, wrong_area = own_areas(bench)[:k], generated_rows(bench)[:k], wrong_prompts(bench)
    best = mean(column(own_area, "iou")).text(3)
    lines = [["own", best, "", psnr_in_area(own).text(2), "", mean_state(own).text(2), k]]
    for name, rows in wrong_videos(bench).items():
        area = ["", ""]
        if name.endswith("both stages"):
            ious = column(wrong_area[name.split(",")[0]], "iou")
            area = [mean(ious).text(3), mean_difference(column(own_area, "iou"), ious).text(3)]
        gap = psnr_difference(column(own, "error"), column(rows, "error"), column(own, "count"))
        video = [psnr_in_area(rows).text(2), gap.text(2), mean_state(rows).text(2)]
        lines.append([name, *area, *video, k])
    header = [
        "prompt", "mIoU of the area", "own better by", "PSNR in the true area, dB", "own better by, dB",
        "state change", "clips",
    ]  # fmt: skip
    return "Wrong prompts (differences paired by clip; 95 % interval):\n\n" + table(header, lines)


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
    for name, other in (("all pairs", False), ("pairs that act on different things", True)):
        share, pairs = apart_shares(rows, other_things=other)
        what = f"area nearer to its own truth than to the sibling's, {name}"
        lines.append([what, share.percent, f"{pairs} pairs in {share.n} groups"])
    title = "Other actions from the same first frame (95 % interval over groups):\n\n"
    return title + table(["what", "figure", "of"], lines)


def apart_shares(rows: Sequence[Row], *, other_things: bool) -> tuple[Estimate, int]:
    """Share of sibling pairs whose area is nearer to its own truth (chance is one half), mean over groups,
    and how many pairs; `other_things`: only pairs that act on different things."""
    shares, pairs = [], 0
    for row in rows:
        chosen = [n for n, a in zip(row["nearer"], row["apart"], strict=True) if a or not other_things]
        shares.append(float(np.mean(chosen)) if chosen else np.nan)
        pairs += len(chosen)
    return mean(shares), pairs
