"""What the Hand Refinement Loss adds to the time of a training step of stage 2.

    python -m benchmarks.train                          the bundled model's recipe
    python -m benchmarks.train RECIPE --set model.init=FOLDER

Steps with and without it take turns on one machine, each timed as `handi train --estimate` does: the dearest
step, in which every hand is there and every clip can be read. So a real training pays this or less.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from experiments.hand_loss.train import entries
from handi.recipes import find_recipe
from handi.training.estimate import estimate
from handi.training.recipe import Recipe, load_recipe

LIMIT = 1.25


def seconds(recipe: Recipe, weight: float) -> float:
    """Of a step with the hand loss at this weight. Raises: SystemExit where the machine cannot run it."""
    hand = replace(recipe.loss.hand, weight=weight)
    result = estimate(replace(recipe, loss=replace(recipe.loss, hand=hand)))
    if result.seconds_per_step is None:
        raise SystemExit(f"this machine cannot run a step of {recipe.name}: {'; '.join(result.notes)}")
    return result.seconds_per_step


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; prints the figures as Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", type=find_recipe, nargs="?", default="mini_stage2", help="of stage 2")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="entries of the recipe")
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args(arguments)
    bundled = {"model.init": "mini", "model.from_stage1": False}
    recipe = load_recipe(given.recipe, bundled | entries(given.set))
    hand = recipe.loss.hand
    weight = hand.weight or 0.1  # where the recipe has it off
    plain, loaded = np.array([[seconds(recipe, 0), seconds(recipe, weight)] for _ in range(given.rounds)]).T
    ratio = loaded / plain
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores"
    print(
        f"{recipe.name}, {recipe.optim.batch} clips of {recipe.data.frames} frames; hand loss on "
        f"{hand.frames} of them, {hand.form}, features {hand.features:g}; {where}, {given.rounds} rounds\n"
    )
    print("| | median | least | most |\n|---|---|---|---|")
    rows = {"s a step, no hand loss": plain, "s a step, hand loss": loaded, "ratio": ratio}
    for name, values in rows.items():
        print(f"| {name} | {np.median(values):.3f} | {values.min():.3f} | {values.max():.3f} |")
    verdict = "within" if np.median(ratio) <= LIMIT else "above"
    print(f"\n{verdict} the limit of {LIMIT}")


if __name__ == "__main__":
    main()
