"""`handi ablate`: table 3 from one recipe: trains what the grid needs, generates, scores; can be stopped.

    OUT/train/MASK-HRL/           one training run each
    OUT/videos/DATA/MASK-HRL/     the test clips of each row
    OUT/results/DATA/MASK-HRL/    and their scores
    OUT/table3.{md,tex,csv}, table3_more.{md,tex,csv}

MASK is true, generated, prior or full, as in recipes. Every row is trained with the mask that it is sampled
with, except generated: it is trained with the recipe's `data.mask`. If that is the true area alone, rows
"stage 1" and "ground truth" are one training, sampled with either area. A row that cannot be trained or
sampled is lost: that is reported, the others are made, and the exit code is 1.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from handi.core.errors import HandiError, InputError, OutputError, failure
from handi.core.reading import read_yaml
from handi.evaluation import paper
from handi.evaluation.methods import Spec
from handi.evaluation.run import EvaluationConfig
from handi.evaluation.study import Study
from handi.evaluation.tables import cell_name, table3, write_tables
from handi.evaluation.videos import TextKind, kinds_of_area
from handi.training.loop import FREE, train
from handi.training.recipe import MaskRecipe, Recipe
from handi.training.setup import kind_of_area
from handi.training.state import MANIFEST, recipe_changes

Say = Callable[[str], None]
TRUE_AREA = MaskRecipe(true=1.0)


@dataclass(frozen=True)
class Grid:
    """What is trained and compared."""

    recipe: Recipe  # of stage 2; its model has the stage 1 that all rows share
    data: tuple[str, Path]  # name and place of the true test videos
    out: Path
    cells: tuple[tuple[str, str], ...] = paper.CELLS  # (mask, HRL)
    hand_weight: float = 0.1  # η of Eq. 7 where HRL is on
    scopes: tuple[str, ...] = ("area-mask", "full")
    seed: int = 0  # of sampling
    text: TextKind = "enriched"  # that test clips are sampled with, if they have one
    minutes: float | None = None  # of training in this call

    def check(self) -> None:
        """Raises: InputError."""
        if self.recipe.stage != "stage2":
            what, hint = f"is a recipe for {self.recipe.stage}", "the ablation needs one for stage2"
            raise InputError(what, where=self.recipe.name, hint=hint)
        if not self.hand_weight > 0:
            hint = "use a number above 0: off is the other row"
            raise InputError(f"--hand-weight {self.hand_weight}", hint=hint)
        if not self.cells:
            raise InputError("no row of table 3 is left to train", hint="name masks and hrl")

    def runs(self) -> dict[str, Recipe]:
        """The recipes of the trainings that the cells need, by name."""
        return {self.run_name(*cell): self._recipe_of(*cell) for cell in self.cells}

    def mask_of(self, mask: str) -> MaskRecipe:
        """The masks that a row's stage 2 is trained with."""
        return self.recipe.data.mask if mask == "generated" else MaskRecipe(**{mask: 1.0})

    def run_name(self, mask: str, hrl: str) -> str:
        """The training behind a row: "true-on"."""
        return cell_name("true" if self.mask_of(mask) == TRUE_AREA else mask, hrl)

    def _recipe_of(self, mask: str, hrl: str) -> Recipe:
        recipe, name = self.recipe, self.run_name(mask, hrl)
        hand = replace(recipe.loss.hand, weight=self.hand_weight if hrl == "on" else 0.0)
        return replace(
            recipe,
            name=name,
            data=replace(recipe.data, mask=self.mask_of(mask)),
            loss=replace(recipe.loss, hand=hand),
            run=replace(recipe.run, out=str(self.out / "train" / name)),
        )

    def specs(self) -> list[Spec]:
        """The rows of table 3 as methods."""
        return [
            Spec(
                cell_name(mask, hrl),
                "handi",
                {"model": str(self.out / "train" / self.run_name(mask, hrl) / "model"), "mask": mask},
            )
            for mask, hrl in self.cells
        ]

    def notes(self) -> list[str]:
        """How the rows were made."""
        recipe = self.recipe
        clips = recipe.optim.batch * recipe.optim.accumulate
        start = recipe.model.init if recipe.model.init is not None else f"preset {recipe.model.preset}"
        shares = {name: share for name, share in asdict(self.mask_of("generated")).items() if share}
        text = ", ".join(f"{share:.0%} {name}" for name, share in shares.items())
        shared = (
            "Rows Stage 1 and GT share one training with the true area."
            if set(shares) == {"true"}
            else f"Rows Stage 1 have learned with these areas: {text}."
        )
        return [
            f"Each stage 2: recipe {recipe.name}, {recipe.run.steps} steps of {clips} clips "
            f"({recipe.run.steps * clips} samples), seed {recipe.run.seed}, from {Path(start).name}; one "
            "training a row, so the intervals say nothing about another seed.",
            f"HRL: {recipe.loss.hand.form} form, η = {self.hand_weight:g}. All rows share one stage 1. "
            + shared,
        ]


def cells_of(masks: Collection[str], hrl: Collection[str]) -> tuple[tuple[str, str], ...]:
    """The paper's cells of these masks and these states of the Hand Refinement Loss."""
    return tuple(cell for cell in paper.CELLS if cell[0] in masks and cell[1] in hrl)


def ablate(grid: Grid, config: EvaluationConfig, *, say: Say = print) -> int:
    """Train, generate, score, and write table 3; returns the exit code. Raises: HandiError."""
    grid.check()
    name, place = grid.data
    study = Study({name: place}, [], grid.out, config, seed=grid.seed, text=grid.text, say=say)
    study.check(areas=grid.scopes != ("full",) or any(mask == "true" for mask, _ in grid.cells))
    notes = grid.notes()
    learned, measured = kind_of_area(grid.recipe), kinds_of_area(study.entries(name).values())
    if others := ", ".join(kind for kind in measured if kind not in ("given", learned)):
        notes.append(
            f"Stage 2 has learned with {learned} motion areas; those of the test clips are {others}."
        )
        say(f"note: {notes[-1]}")
    failures: dict[str, HandiError] = {}
    if code := _train_all(grid, say, failures):
        return code
    runs = {name: recipe for name, recipe in grid.runs().items() if name not in failures}
    if not runs:
        raise next(iter(failures.values()))
    if left := [name for name, recipe in runs.items() if not is_trained(recipe)]:
        say(f"out of time; still to train: {', '.join(left)}; run it again to continue")
        return 1 if failures else 0
    for name, error in failures.items():
        study.lose(f"the rows that training {name} is for: {error}")
    trained = tuple(cell for cell in grid.cells if grid.run_name(*cell) in runs)
    study.methods = replace(grid, cells=trained).specs()
    tables = table3(study, scopes=grid.scopes)
    for table in tables:
        table.notes += notes
    write_tables(study, tables, "table3")
    return study.exit_code(scored=tables[0].scored)


def _train_all(grid: Grid, say: Say, failures: dict[str, HandiError]) -> int:
    """Train one run after the other until the minutes are used up; the exit code of one that was stopped.

    What fails is entered in `failures` by name, and the others continue. Raises: OutputError.
    """
    begin = time.monotonic()
    for name, recipe in grid.runs().items():
        if is_trained(recipe):
            say(f"{name}: trained already")
            continue
        if grid.minutes is not None:
            left = grid.minutes - (time.monotonic() - begin) / 60
            if left <= 0:
                return 0
            recipe = replace(recipe, run=replace(recipe.run, minutes=left))
        say(f"{name}: training")
        # Training sets it for the process; no clip may depend on whether its row was trained in this one.
        precision = torch.get_float32_matmul_precision()
        try:
            code = train(recipe, say=say)
        except OutputError:  # a full disk stops them all
            raise
        except Exception as error:
            failures[name] = failure(error)
            say(f"error: {name}: {failures[name]}")
            continue
        finally:
            torch.set_float32_matmul_precision(precision)
        if code:
            return code
    return 0


def is_trained(recipe: Recipe) -> bool:
    """Whether the run of exactly this recipe has finished its last step."""
    folder = recipe.out
    last = folder / "checkpoints" / f"step-{recipe.run.steps:08d}" / MANIFEST
    if not last.is_file() or not (folder / "model" / "handi.json").is_file():
        return False
    try:
        done = read_yaml(folder / "recipe.yaml")
    except InputError:
        return False
    return not recipe_changes(done, recipe.as_dict(), free=FREE)
