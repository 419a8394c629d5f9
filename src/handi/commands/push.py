"""`handi push`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from handi.commands.options import Switch, optional, say


def push(
    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")],
    repo: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OWNER/NAME")],
    scores: Annotated[Path | None, optional("FILE")] = None,
    licence: str = "apache-2.0",
    private: Switch = False,
    dry_run: Switch = False,
) -> int:
    """Upload a model folder to the Hugging Face Hub, with a model card made from its run and its scores.

    `--model OWNER/NAME` and `HandiPipeline.from_pretrained("OWNER/NAME")` then load it. Log in first, with
    `hf auth login`.

        handi push runs/mini_stage2/model me/kitchen-hands --scores out/scores/results.json

    Read the card before anything is uploaded:
        handi push runs/mini_stage2/model me/kitchen-hands --dry-run

    Args:
        folder: A model folder, such as RUN/model. The recipe and the last sample sheets of the run go along.
        repo: The repository, made if it is not there.
        scores: What `handi evaluate` wrote of this model.
        licence: Of the weights, as the Hub names it.
        private: Make a new repository private.
        dry_run: Print the card and the files, and upload nothing.
    """
    from handi.evaluation.publish import push as upload

    card, files = upload(folder, repo, licence=licence, scores=scores, private=private, dry_run=dry_run)
    if dry_run:
        print(card)
        say(f"would upload {len(files)} files to {repo}: {', '.join(files)}")
    else:
        say(f"{repo} has {len(files)} files; load it with --model {repo}")
    return 0
