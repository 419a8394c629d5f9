"""Table 3 with poses: motion area × hand loss × poses, at equal steps, seeds, clips and noise.

    python -m experiments.hand_loss.table3 mini_stage2 --init MODEL --world TEST_CLIPS --out OUT \\
        --steps 40 --seeds 0 1 2 --clips 24

Every row is a stage 2 that was trained on from one model with the area and the poses that it is sampled with:
the whole frame (none), the prior, stage 1's or the true area; no poses, or those that the model predicts
(trained with the true ones, noised). Rows of stage 1's areas share the training with true areas.
`--masks`, `--poses` and `--hands` choose rows; recipe entries for all rows: `--set data.path=FOLDER`.

Seed by seed, so that a run that was stopped has whole comparisons; started again it resumes. OUT/table3.md
has the tables with 95 % intervals over seeds and clips, OUT/table3.json every number.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from experiments.estimates import table
from experiments.hand_loss.figures import FIGURES, Rows, compare, lines_of, summarise
from experiments.hand_loss.figures import cell as cell_text
from experiments.hand_loss.train import ARMS as HAND_LOSSES
from experiments.hand_loss.train import (
    BASE,
    Plan,
    add_options,
    bench_of,
    entries,
    measure,
    reconstruction,
    train_arm,
)
from experiments.mini.clips import load_clips
from experiments.mini.model import PipelineModel
from handi.core.files import replacing
from handi.method.area import prior_area
from handi.method.latents import area_at
from handi.world import WorldClip

MASKS = ("none", "prior", "stage 1", "true")
POSES = ("none", "predicted")
# What `data.mask` calls the area that a row is trained with.
TRAINED_WITH = {"none": "full", "prior": "prior", "stage 1": "true", "true": "true"}
KINDS = ("true", "generated", "prior", "full")


@dataclass(frozen=True)
class Cell:
    """A row of the table."""

    mask: str
    poses: str
    hand: str

    @property
    def arm(self) -> str:
        """Of the training behind it."""
        return f"{TRAINED_WITH[self.mask]} area, poses {self.poses}, {self.hand}"

    @property
    def entries(self) -> dict[str, Any]:
        """Of the recipe, for that training."""
        area = {f"data.mask.{kind}": float(kind == TRAINED_WITH[self.mask]) for kind in KINDS}
        poses = {} if self.poses == "predicted" else {"data.poses.share": 0.0}
        return {**area, **poses, **HAND_LOSSES[self.hand]}


def areas_of(mask: str, model: PipelineModel, clips: Sequence[WorldClip]) -> np.ndarray:
    """The motion areas N×H×W that a row is sampled in."""
    true = np.stack([clip.area_moved for clip in clips])
    if mask == "none":
        return np.ones_like(true)
    if mask == "prior":
        prior = model.pipe.prior_mask
        assert prior is not None
        like = torch.empty(1, *true.shape[1:])  # as in training
        return np.broadcast_to(prior_area(area_at(prior.cpu(), like)[0].numpy()), true.shape)
    if mask == "stage 1":
        return model.areas(clips, [clip.text for clip in clips])[1]
    return true


def report(cells: Sequence[Cell], runs: Mapping[Cell, list[Rows]], reference: Rows) -> str:
    """The table, and each hand loss and the poses against the row without."""
    rows = []
    for cell in cells:
        figures = summarise(runs[cell], reference)
        rows.append([cell.mask, cell.poses, cell.hand, *(cell_text(name, figures[name]) for name in FIGURES)])
    text = table(["mask", "poses", "hand loss", *FIGURES], rows)
    for title, base_of in (
        ("Against the same row without a hand loss", lambda c: Cell(c.mask, c.poses, BASE)),
        ("Against the same row without poses", lambda c: Cell(c.mask, "none", c.hand)),
    ):
        rows = []
        for cell in cells:
            base = base_of(cell)
            if base != cell and base in runs:
                differences = compare(runs[cell], runs[base], reference)
                rows += [[cell.mask, cell.poses, cell.hand, *line] for line in lines_of(differences)]
        if rows:
            header = ["mask", "poses", "hand loss", "figure", "difference", "each seed", "excludes 0"]
            text += f"\n{title}, same seeds and clips:\n\n" + table(header, rows)
    return text


def main(arguments: Sequence[str] | None = None) -> str:
    """The command line; prints and returns the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser, clips=24, steps=40)
    parser.add_argument("--masks", nargs="+", choices=MASKS, default=MASKS)
    parser.add_argument("--poses", nargs="+", choices=POSES, default=POSES)
    parser.add_argument("--hands", nargs="+", choices=list(HAND_LOSSES), default=list(HAND_LOSSES))
    given = parser.parse_args(arguments)
    cells = [Cell(*choice) for choice in itertools.product(given.masks, given.poses, given.hands)]
    arms = {cell.arm: cell.entries for cell in cells}
    plan = Plan(
        given.recipe, given.init, given.out, given.steps, tuple(given.seeds), arms, entries(given.set)
    )  # fmt: skip
    plan.out.mkdir(parents=True, exist_ok=True)
    start = PipelineModel(plan.init, device=given.device)
    if "predicted" in given.poses and start.pipe.pose_net is None:
        raise SystemExit(f"{plan.init} has no pose_net: use --poses none")
    clips = load_clips(given.world, given.clips, start.pipe.card.height)
    reference = reconstruction(bench_of(start, plan, clips))
    areas = {mask: areas_of(mask, start, clips) for mask in given.masks}
    nowhere = np.zeros((len(clips), len(clips[0].frames), 42, 2), np.float32)
    runs: dict[Cell, list[Rows]] = {cell: [] for cell in cells}
    text = ""
    for number, seed in enumerate(plan.seeds, 1):
        for cell in cells:
            model = PipelineModel(str(train_arm(plan, cell.arm, seed)), device=given.device)
            poses = nowhere if cell.poses == "none" and start.reads_poses else None
            name = f"{cell.mask} {cell.arm} {seed}"
            rows = measure(bench_of(model, plan, clips), name, None, areas=areas[cell.mask], poses=poses)
            runs[cell].append(rows)
        text = (
            f"{plan.steps} steps from {plan.init}, seeds {', '.join(map(str, plan.seeds[:number]))}, "
            f"{len(clips)} test clips, acting hands. In brackets: 95 % interval, bootstrap over seeds and "
            f"clips.\n\n{report(cells, runs, reference)}"
        )
        with replacing(plan.out / "table3.md") as temporary:
            temporary.write_text(text)
        numbers = [asdict(cell) | {"runs": runs[cell]} for cell in cells]
        with replacing(plan.out / "table3.json") as temporary:
            temporary.write_text(json.dumps(numbers))
    print(text)
    return text


if __name__ == "__main__":
    main()
