"""`handi bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from handi.commands.options import Several, optional, say
from handi.core.errors import InputError


def bench(
    table: Annotated[Literal["table1", "table2", "table3", "table4"], tyro.conf.Positional],
    data: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=FOLDER …")],
    methods: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=SPEC …")],
    out: Path,
    metrics: Several = (),
    authors: Several = (),
    clips: Annotated[int | None, optional("N")] = None,
    seed: int = 0,
    text: Literal["short", "enriched"] = "enriched",
    runs: int = 3,
    intensive: bool = True,
    scopes: tuple[Literal["full", "area-mask", "area-crop"], ...] = ("area-mask", "full"),
    device: str = "cpu",
) -> int:
    """Make one of the paper's tables on your data: videos that are missing, scores, Markdown, LaTeX and CSV.

    table1: parameters and seconds a video, on this machine. table2: methods × metrics × data sets.
    table3: the ablation's rows. table4: BLIP by model size. The paper's own figures stand beside ours, with
    what keeps them from being comparable. Stop it and run it again: it goes on where it stopped.

        handi bench table2 --data epic-kitchens=data/epic \\
            --methods handi=handi:runs/epic_stage2/model static \\
            aa=animate-anything:runs/epic_animate_anything/model --out out/table2

    Rows of table 3 are called MASK-HRL (true, generated, prior, full; off, on); `handi ablate` makes them:
        handi bench table3 --data world=data/world/test --out out/table3 \\
            --methods generated-on=handi:out/ablation/train/true-on/model

    Args:
        table: Which one.
        data: True videos with texts, folders or manifests as `handi evaluate --ref` takes them. The names
            epic-kitchens and ego4d say that the clips are the paper's.
        methods: What to compare; SPEC is videos:FOLDER, handi:MODEL, animate-anything:FOLDER, pia:FOLDER,
            cogvideox:FOLDER, static, flow, or a FILE.yaml with a program's command line (docs/baselines.md).
        out: Folder for the table, the videos and the results.
        metrics: Only these, as `handi evaluate --metrics`; all where none is named.
        authors: Methods that run with the authors' own weights (nothing else can tell).
        clips: Only the first N of each data set.
        seed: Of generation.
        text: What videos are generated from: the enriched text where a clip has one, as in the paper, or the
            short action. The table says which.
        runs: Clips that table 1 times.
        intensive: Table 2 has the tenth of the first data set that moves most, too.
        scopes: Of table 3.
        device: For the metrics; methods choose their own.
    """
    from handi.core.inputs import check_seed
    from handi.evaluation import tables
    from handi.evaluation.baselines import parse_spec
    from handi.evaluation.evaluate import Settings
    from handi.evaluation.study import Study, parse_data

    if not 1 <= runs <= 1000:
        raise InputError(f"--runs {runs}", mend="use 1 to 1000")
    check_seed(seed)
    specs = [parse_spec(text) for text in methods]
    for number, spec in enumerate(specs):
        if spec.name in [other.name for other in specs[:number]]:
            raise InputError(f"two methods are called {spec.name!r}", mend="write NAME=SPEC")
    if table == "table4":
        metrics = metrics or ("blip_base", "blip_large")
    settings = Settings(metrics=metrics, device=device, clips=clips)
    settings.check()
    study = Study(parse_data(data), specs, out, settings, seed=seed, text=text, say=say)
    told = any(spec.options.get("mask") == "true" for spec in specs)
    scoped = (table == "table2" and intensive) or (table == "table3" and scopes != ("full",))
    study.check(scores=table != "table1", areas=told or scoped)
    if table == "table1":
        made = [tables.table1(study, runs=runs, authors=authors)]
    elif table == "table2":
        made = tables.table2(study, intensive=intensive, authors=authors)
    elif table == "table3":
        made = tables.table3(study, scopes=scopes, authors=authors)
    else:
        made = [tables.table4(study, authors=authors)]
    for one, stem in zip(made, (table, f"{table}_more"), strict=False):
        say(f"wrote {one.write(out, stem)[0]}")
    print(made[0].markdown())
    if table != "table1" and not made[0].scored:
        raise InputError("nothing could be scored", where=out, mend="the table's notes have the reasons")
    return 1 if study.lost else 0
