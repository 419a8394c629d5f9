"""`handi bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from handi.commands.options import USUAL, Several, Work, optional, say


def bench(
    table: Annotated[Literal["table1", "table2", "table3", "table4"], tyro.conf.Positional],
    data: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=FOLDER …")],
    methods: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=SPEC …")],
    out: Path,
    metrics: Several = (),
    authors: Several = (),
    limit: Annotated[int | None, optional("N")] = None,
    seed: int = 0,
    text: Literal["short", "enriched"] = "enriched",
    runs: int = 3,
    intensive: bool = True,
    scopes: tuple[Literal["full", "area-mask", "area-crop"], ...] = ("area-mask", "full"),
    device: str = "cpu",
    work: Work = USUAL,
) -> int:
    """Make one of the paper's tables on your data: missing videos, scores, Markdown, LaTeX and CSV.

    table1: parameters and seconds per video, on this machine. table2: methods × metrics × data sets.
    table3: the rows of the ablation. table4: BLIP by model size. The paper's own figures stand beside ours,
    with the reasons why they are not comparable. It can be stopped; run again, it resumes. With --workers
    clips are made and scored by several processes; the seconds of table 1 are always those of one.

        handi bench table2 --data epic-kitchens=data/epic \\
            --methods handi=handi:runs/epic_stage2/model static \\
            aa=animate-anything:runs/epic_animate_anything/model --out out/table2

    Rows of table 3 are called MASK-HRL (true, generated, prior, full; off, on); `handi ablate` makes them:
        handi bench table3 --data world=data/world/test --out out/table3 \\
            --methods generated-on=handi:out/ablation/train/true-on/model

    Args:
        table: table1, table2, table3 or table4.
        data: True videos with texts, folders or manifests as `handi evaluate --ref` takes them. The names
            epic-kitchens and ego4d say that the clips are the paper's.
        methods: What to compare; SPEC is videos:FOLDER, handi:MODEL, animate-anything:FOLDER, pia:FOLDER,
            cogvideox:FOLDER, external:CHECKOUT,weights=PATH (the project of this NAME, by its own code),
            static, flow, or a FILE.yaml with options or a program's command line (docs/baselines.md).
        out: Folder for the table, where its rows come from (TABLE_methods.md), the videos and the results.
        metrics: Only these, as `handi evaluate --metrics`; by default all.
        authors: Methods that run with the authors' own weights, which handi cannot know.
        limit: Only the first N clips of each data set.
        seed: Seed of the generation.
        text: What videos are generated from: the enriched text if a clip has one, as in the paper, or the
            short action. The table says which.
        runs: Clips that table 1 times.
        intensive: Table 2 includes the tenth of the first data set that moves most.
        scopes: Scopes that table 3 shows.
        device: For the metrics; methods choose their own.
    """
    from handi.evaluation.methods import parse_specs
    from handi.evaluation.run import EvaluationConfig
    from handi.evaluation.study import Study, parse_data
    from handi.evaluation.tables import DEFAULT_METRICS, make_tables

    metrics = metrics or DEFAULT_METRICS.get(table, ())
    config = EvaluationConfig(metrics=metrics, device=device, limit=limit)
    study = Study(
        parse_data(data),
        parse_specs(methods),
        out,
        config,
        seed=seed,
        text=text,
        say=say,
        executor=work.open("bench"),
    )
    made = make_tables(study, table, runs=runs, intensive=intensive, scopes=scopes, authors=authors)
    print(made[0].markdown())
    return study.exit_code(scored=table == "table1" or made[0].scored)
