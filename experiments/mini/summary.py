"""What a good bundled model is asked to reach, and what was measured, in one table."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from experiments.estimates import Estimate, mean, mean_difference, pooled_psnr, psnr_difference, table
from experiments.mini.clips import Row, column
from experiments.mini.measures import Bench, found_again, mean_state, psnr_in_area
from experiments.mini.prompts import wrong_videos
from experiments.mini.siblings import apart_shares, area_groups, clip_groups
from experiments.mini.stage1 import BAR, own_areas, wrong_prompts
from experiments.mini.stage2 import generated_rows, original_rows, reconstruction_rows

SECONDS = 20.0


def summary(bench: Bench, seconds: Sequence[Row]) -> str:
    """The section's table; "> x" is asked of the whole interval, "≥ x" of the figure."""
    truth, rebuilt, ours = original_rows(bench), reconstruction_rows(bench), generated_rows(bench)
    own, siblings = own_areas(bench), clip_groups(bench)
    psnr = {
        name: pooled_psnr(column(rebuilt, f"{name}_error"), column(rebuilt, f"{name}_count"))
        for name in ("plain", "moving")
    }
    lines = [
        _at_least("autoencoder: PSNR of frames, dB", psnr["plain"], 31, 2),
        _at_least("autoencoder: PSNR of moving pixels, dB", psnr["moving"], 31, 2),
        _at_least("autoencoder: hands found again, %", found_again(rebuilt, truth, acting=False), 90, 1),
        _at_least("stage 1: mIoU of the area", mean(column(own, "iou")), BAR, 3),
    ]
    for name, rows in wrong_prompts(bench).items():
        gap = mean_difference(column(own, "iou"), column(rows, "iou"))
        lines.append(_above(f"stage 1: mIoU, own prompt less {name}", gap, 0, 3))
    moves = apart_shares(area_groups(bench), other_things=True)[0]
    lines += [
        _above("stage 1: another thing's prompt moves the area to it, % of pairs", moves, 50, 1),
        _at_least("stage 2: PSNR in the true area, dB", psnr_in_area(ours), 21, 2),
        _at_least("stage 2: acting hands found again, %", found_again(ours, rebuilt, acting=True), 50, 1),
        _at_least("stage 2: all hands found again, %", found_again(ours, rebuilt, acting=False), 50, 1),
        _at_least("stage 2: state change", mean_state(ours), 0.6, 2),
        _at_least("both: same context, other action", mean(column(siblings, "generated")), 0.8, 2),
    ]
    some = ours[: bench.some]
    for name, rows in wrong_videos(bench).items():
        gap = psnr_difference(column(some, "error"), column(rows, "error"), column(some, "count"))
        lines.append(_above(f"PSNR, own prompt less {name}, dB", gap, 0, 2))
    off = sum(row["outside"] for row in ours)
    lines.append(["stage 2: pixels outside the area that changed", off, "0", _yes(off == 0), len(ours)])
    wall = statistics.median(row["in all"] for row in seconds)
    line = ["`handi generate`, seconds (median)", f"{wall:.1f}", f"≤ {SECONDS:g}", _yes(wall <= SECONDS)]
    lines.append([*line, f"{len(seconds)} runs"])
    return table(["what", "figure (95 % interval)", "asked", "reached", "n"], lines)


def _at_least(what: str, figure: Estimate, bar: float, digits: int) -> list[object]:
    scale = 100.0 if "%" in what else 1.0
    reached = _yes(scale * figure.value >= bar)
    return [what, figure.text(digits, scale), f"≥ {bar:g}", reached, figure.n]


def _above(what: str, figure: Estimate, chance: float, digits: int) -> list[object]:
    scale = 100.0 if "%" in what else 1.0
    reached = _yes(scale * figure.low > chance)
    return [what, figure.text(digits, scale), f"> {chance:g}", reached, figure.n]


def _yes(reached: bool) -> str:
    return "yes" if reached else "**no**"
