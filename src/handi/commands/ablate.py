"""`handi ablate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from handi.commands.options import Entries, Several, optional, say


def ablate(
    recipe: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RECIPE")],
    data: Annotated[str, tyro.conf.arg(metavar="NAME=FOLDER")],
    out: Path,
    masks: tuple[Literal["true", "generated", "prior", "full"], ...] = ("true", "generated", "prior", "full"),
    hrl: tuple[Literal["off", "on"], ...] = ("off", "on"),
    hand_weight: float = 0.1,
    scopes: tuple[Literal["full", "area-mask", "area-crop"], ...] = ("area-mask", "full"),
    metrics: Several = (),
    limit: Annotated[int | None, optional("N")] = None,
    seed: int = 0,
    text: Literal["short", "enriched"] = "enriched",
    minutes: Annotated[float | None, optional("N")] = None,
    device: str = "cpu",
    entries: Entries = (),
) -> int:
    """Train and score the grid of the paper's table 3 from one recipe: masks × Hand Refinement Loss × scope.

    Every row is one training of stage 2, from the same model with the same steps and seed. It is trained with
    the mask that it is sampled with: the true area, the prior, or the full frame. Rows with generated areas
    are trained with the recipe's data.mask; if that is the true area alone, two rows share a training. It can
    be stopped; run again, it resumes.

        handi world --clips 200 --seed 900000 --out data/world/test
        handi ablate mini_stage2 --model.init mini --model.from_stage1 false --data world=data/world/test \\
            --out out/ablation

    One hour at a time; only two rows; a shorter training:
        handi ablate mini_stage2 --data world=data/world/test --out out/ablation --minutes 60
        handi ablate mini_stage2 --data world=data/world/test --out out/short --masks true --run.steps 500

    Args:
        recipe: A stage-2 recipe, a YAML file or the name of one that ships with handi. Its model.init has the
            stage 1 that all rows share.
        data: The true test videos, a folder or manifest as `handi evaluate --ref` takes it.
        out: Folder for the trainings, videos, results and the table.
        masks: Rows: true, generated (by stage 1), prior (mean of the training areas), full (the whole frame).
        hrl: Rows: without and with the Hand Refinement Loss.
        hand_weight: The loss's weight η in the rows that have it.
        scopes: Full frames, and the true motion area: what lies outside is black (area-mask) or cut off.
        metrics: Only these, as `handi evaluate --metrics`.
        limit: Only the first N test clips.
        seed: Seed of the sampling.
        text: What test clips are sampled with: the enriched text if a clip has one, or the short action.
        minutes: Stop training after so many minutes in all; run it again to continue.
        device: For the metrics.
        entries: Any entry of the recipe, such as --run.steps 500.
    """
    from handi.evaluation import ablate as ablation
    from handi.evaluation.run import EvaluationConfig
    from handi.evaluation.study import parse_data
    from handi.recipes import find_recipe
    from handi.training.recipe import load_recipe, parse_overrides

    loaded = load_recipe(find_recipe(recipe), parse_overrides(entries))
    ((name, place),) = parse_data((data,)).items()
    grid = ablation.Grid(
        loaded, (name, place), out, ablation.cells_of(masks, hrl), hand_weight=hand_weight,
        scopes=scopes, seed=seed, text=text, minutes=minutes,
    )  # fmt: skip
    return ablation.ablate(grid, EvaluationConfig(metrics=metrics, device=device, limit=limit), say=say)
