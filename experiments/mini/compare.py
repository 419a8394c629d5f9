"""Two models on the same test clips, paired: what the second is better by, from what `score.py` has kept.

    python -m experiments.mini.compare out/before out/after

The folders are the --out of two runs of `score.py`. What both have measured is compared on the clips that
both have, with 95 % intervals of the paired difference, bootstrapped over clips (over groups for siblings).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.estimates import Estimate, mean, mean_difference, psnr_difference, table
from experiments.mini.clips import Row, column
from experiments.mini.measures import found_again, found_again_difference, mean_state, psnr_in_area
from experiments.mini.siblings import pair_shares

Line = list[object]


def load(folder: Path, condition: str) -> dict[int, Row]:
    """Rows by seed; none where the condition was not measured."""
    path = folder / "scores" / f"{condition.replace(' ', '_')}.json"
    return {row["seed"]: row for row in json.loads(path.read_text())["rows"]} if path.exists() else {}


def compare(before: Path, after: Path) -> str:
    """The table, with a second one by action."""
    lines: list[Line] = []

    def both(condition: str) -> tuple[list[Row], list[Row]]:
        old, new = load(before, condition), load(after, condition)
        seeds = [seed for seed in old if seed in new]
        return [old[seed] for seed in seeds], [new[seed] for seed in seeds]

    def means(name: str, old: Sequence[float], new: Sequence[float], digits: int = 3) -> None:
        difference = mean_difference(new, old)
        lines.append([name, *(e.text(digits) for e in (mean(old), mean(new), difference)), difference.n])

    areas = both("stage1")
    if areas[0]:
        means("mIoU", *(column(rows, "iou") for rows in areas))
        means("mIoU of the soft mask > 0.5", *(column(rows, "iou_raw") for rows in areas))
    groups = both("siblings areas")
    for name, other in (("siblings told apart", False), ("those on different things", True)):
        if groups[0]:
            means(name, *(pair_shares(rows, other_things=other) for rows in groups))
    old, new = both("stage2")
    if old:
        psnr = psnr_difference(column(new, "error"), column(old, "error"), column(new, "count"))
        lines.append(["PSNR in the true area, dB", *_cells(psnr_in_area(old), psnr_in_area(new), psnr)])
        state = mean_difference(column(new, "state"), column(old, "state"))
        lines.append(["state change", *_cells(mean_state(old), mean_state(new), state)])
        reference = load(after, "reconstruction")
        seen = [reference[row["seed"]] for row in new if row["seed"] in reference]
        if len(seen) == len(new):
            for name, acting in (("acting hands found again", True), ("all hands found again", False)):
                parts = [found_again(rows, seen, acting=acting) for rows in (old, new)]
                gain = found_again_difference(new, old, seen, acting=acting)
                lines.append([name, *(part.percent for part in (*parts, gain)), gain.n])
    clips = both("siblings clips")
    if clips[0]:
        means("same context", *(column(rows, "generated") for rows in clips))
    text = table(["figure", "before", "after", "better by (paired)", "clips or groups"], lines)
    return text + ("\n" + _by_action(*areas) if areas[0] else "")


def _cells(before: Estimate, after: Estimate, difference: Estimate) -> Line:
    return [before.text(2), after.text(2), difference.text(2), difference.n]


def _by_action(old: Sequence[Row], new: Sequence[Row]) -> str:
    lines = []
    for action in sorted({row["action"] for row in old}):
        pairs = [(a["iou"], b["iou"]) for a, b in zip(old, new, strict=True) if a["action"] == action]
        before, after = np.array(pairs).T
        lines.append([action, *(f"{x.mean():.2f}" for x in (before, after)),
                      mean_difference(after, before).text(2), len(pairs)])  # fmt: skip
    return table(["action", "mIoU before", "after", "better by (paired)", "clips"], lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    arguments = parser.parse_args()
    print(compare(arguments.before, arguments.after))
