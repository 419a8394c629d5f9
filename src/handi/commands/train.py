"""`handi train`."""

from __future__ import annotations

from typing import Annotated, Any

import tyro

from handi.commands.options import Entries, Switch, optional, say, usage


def train(
    recipe: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RECIPE")],
    minutes: Annotated[float | None, optional("N")] = None,
    resume: Switch = False,
    fresh: Switch = False,
    estimate: Switch = False,
    explain: Switch = False,
    entries: Entries = (),
) -> int:
    """Train one stage of a model by a recipe; stopped, it resumes when it is run again.

    Writes a run folder (runs/RECIPE, or --run.out DIR): log.jsonl with every loss term, sample sheets, whole
    checkpoints, and a complete model for `handi generate --model RUN/model`. What the next run should train
    on top of is named by --model.init.

    The bundled model's three trainings, on clips that `handi world` renders:
        handi world --clips 4000 --siblings 3 --prepare data/world/train
        handi world --clips 64 --seed 800000 --prepare data/world/val
        handi train mini_vae
        handi train mini_stage1
        handi train mini_stage2

    In pieces of half an hour; the pieces add up to the same run:
        handi train mini_stage2 --minutes 30

    Any entry of a recipe can be set on the command line, as --section.key value:
        handi train mini_stage1 --optim.lr 3e-4 --data.path my/clips --run.out runs/try

    A LoRA of your own footage (videos with a text file of the same name beside each):
        handi prepare folder footage --held-out 0 --out data/footage
        handi train folder_lora --model.init FOLDER_OR_HUB_ID

    Adapters on Wan 2.2 (docs/backbones.md), the second stage after the first:
        handi train wan_stage1
        handi train wan_stage2

    What each entry means, and its value in a recipe:
        handi train mini_stage1 --explain

    What it would cost, measured by a few real steps:
        handi train folder_lora --model.init FOLDER_OR_HUB_ID --estimate

    On several GPUs, as accelerate launches:
        accelerate launch --num_processes 6 -m handi train epic_stage2 --optim.accumulate 1

    Args:
        recipe: A YAML file, or the name of one that ships with handi: mini_vae, mini_stage1, mini_poses,
            mini_stage2, epic_stage1, epic_stage2, ego4d_stage1, ego4d_stage2, epic_animate_anything,
            folder_lora, wan_stage1, wan_stage2, ltx_stage1, ltx_stage2.
        minutes: Stop after so many minutes, with a checkpoint and a model. 0 writes the model of the last
            checkpoint and trains nothing.
        resume: Fail if there is no checkpoint to resume from. Without this, one is used if there is one.
        fresh: Start over; an earlier run in the folder is renamed to RUN.1, RUN.2, …
        estimate: Only say what a step takes in memory and time, and the whole recipe with it.
        explain: Only list every entry of the recipe, with its value and what it means.
        entries: Any entry of the recipe, such as --optim.lr 1e-4 or --run.steps 2000.
    """
    from handi.recipes import find_recipe
    from handi.training.recipe import Recipe, load_recipe, parse_overrides

    if resume and fresh:
        usage("train", "--resume and --fresh exclude each other")
    overrides = parse_overrides(entries)
    if minutes is not None:
        overrides["run.minutes"] = str(minutes)
    loaded = load_recipe(find_recipe(recipe), overrides)
    if explain:
        about = "The entries of this recipe. Commas separate the values of one: --optim.betas 0.9,0.99"
        tyro.cli(  # prints and exits
            Recipe,
            default=loaded,
            args=["--help"],
            prog=f"handi train {recipe}",
            description=about,
            config=(tyro.conf.FlagConversionOff,),
        )
    if estimate:
        return _estimate(loaded)
    from handi.training.loop import train as run

    return run(loaded, resume="resume" if resume else "fresh" if fresh else "auto", say=say)


def _estimate(recipe: Any) -> int:
    """A table for people on stderr, JSON for programs on stdout."""
    import json

    from rich.console import Console

    from handi.training.estimate import estimate
    from handi.training.estimate_table import table

    found = estimate(recipe)
    Console(stderr=True).print(table(found))
    for note in found.notes:
        say(f"note: {note}")
    print(json.dumps(found.as_dict(), indent=2, ensure_ascii=False))
    return 0
