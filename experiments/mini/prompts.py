"""Does the sentence matter? Null and shuffled prompts, and other actions from the same first frame."""

from __future__ import annotations

import numpy as np

from experiments.estimates import mean, mean_difference, psnr_difference, table
from experiments.mini.clips import Row, column, shuffled
from experiments.mini.measures import Bench, mean_state, psnr_in_area, unpack
from experiments.mini.model import NULL
from experiments.mini.siblings import clip_table
from experiments.mini.stage1 import own_areas, wrong_prompts
from experiments.mini.stage2 import generated_rows, used_areas, video_rows


def prompts(bench: Bench) -> str:
    """The section's tables."""
    return _wrong(bench) + "\n" + clip_table(bench)


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
        areas = np.stack([unpack(row["area"], few[0].size) for row in area_rows[: len(few)]])
        rows = video_rows(bench, f"stage2 {name}, both", few, sentences[name], areas, hands=False)
        result[f"{name}, both stages"] = rows
    return result


def _wrong(bench: Bench) -> str:
    k = len(bench.few)
    own_area, own, wrong_area = own_areas(bench)[:k], generated_rows(bench)[:k], wrong_prompts(bench)
    best = mean(column(own_area, "iou")).text(3)
    lines = [["own", best, "", psnr_in_area(own).text(2), "", mean_state(own).text(2), "", k]]
    for name, rows in wrong_videos(bench).items():
        area = ["", ""]
        if name.endswith("both stages"):
            ious = column(wrong_area[name.split(",")[0]][:k], "iou")
            area = [mean(ious).text(3), mean_difference(column(own_area, "iou"), ious).text(3)]
        gap = psnr_difference(column(own, "error"), column(rows, "error"), column(own, "count"))
        state = mean_difference(column(own, "state"), column(rows, "state"))
        video = [psnr_in_area(rows).text(2), gap.text(2), mean_state(rows).text(2), state.text(2)]
        lines.append([name, *area, *video, k])
    header = [
        "prompt", "mIoU of the area", "own better by", "PSNR in the true area, dB", "own better by, dB",
        "state change", "own better by", "clips",
    ]  # fmt: skip
    return "Wrong prompts (differences paired by clip; 95 % interval):\n\n" + table(header, lines)
