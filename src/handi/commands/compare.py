"""The commands that compare: `handi gallery`, `handi bench`, `handi ablate`. Thin, as cli.py is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from handi.core.errors import InputError


def _optional(metavar: str) -> Any:
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="")


_Several = Annotated[tuple[str, ...], tyro.conf.arg(metavar="…", help_behavior_hint="")]


def gallery(
    methods: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=FOLDER …")],
    out: Path,
    ref: Annotated[Path | None, _optional("FOLDER")] = None,
    results: Annotated[Path | None, _optional("FOLDER")] = None,
    form: Literal["methods", "actions"] = "methods",
    flow: Literal["flow", "authors"] = "flow",
    title: str = "",
    width: int = 448,
    ids: _Several = (),
) -> int:
    """Show methods side by side in one HTML page, all videos in step, as the paper's Figure 6 does.

    The page is one file with everything in it and opens from disk. Space plays and pauses, left and right go
    frame by frame, up and down from sample to sample, a number shows one method alone.

    The videos of two methods, of samples that a folder or manifest describes:
        handi world --clips 4 --seed 900000 --out data/test
        handi bench table2 --data data/test --methods handi=handi:mini static --out out/table2
        handi gallery --ref data/test --methods out/table2/videos/test/handi out/table2/videos/test/static \\
            --out gallery.html

    With scores, of results/handi/results.json and so on, as `handi evaluate --out results/handi` writes them
    (or OUT/results/DATA of `handi bench`):
        handi gallery --ref data/test --methods out/table2/videos/test/handi \\
            --results out/table2/results/test --out gallery.html

    What `handi generate --batch` made; several actions from one context image (appendix D):
        handi gallery --methods out/clips --form actions --out actions.html

    Args:
        methods: Folders of videos (ID.mp4, ID/video.mp4, ID/frames/), shown in this order.
        out: The page, a file.
        ref: What the samples are: a folder or manifest as `handi evaluate --ref` takes it, with texts
            and context images. Not needed where `handi generate --batch` wrote the first method's folder.
        results: Folder of one folder a method, called by the method's name, with its results.json.
        form: methods: a block a sample, a column a method. actions: a block a context image, a column an
            action.
        flow: Motion flow of appendix E, or the picture that the paper's authors publish under that name.
        title: Heading of the page.
        width: Widest that a frame is stored, in pixels.
        ids: Only these samples, in this order.
    """
    from handi.evaluation.gallery import Settings, build_gallery
    from handi.evaluation.shown import read_method, samples_of_runs
    from handi.evaluation.sides import read_side

    if width < 16:
        raise InputError(f"--width {width}", mend="use 16 or more")
    folders = _named(methods)
    shown = []
    for name, folder in folders.items():
        shown.append(read_method(name, folder, None if results is None else _results_of(results / name)))
    if results is not None and not any(method.results for method in shown):
        raise InputError(f"holds no {next(iter(folders))}/results.json or any other method's", where=results)
    samples = samples_of_runs(next(iter(folders.values()))) if ref is None else read_side(ref, _say)
    if ids:
        if unknown := [id for id in ids if id not in samples]:
            raise InputError(f"there is no sample {unknown[0]!r}", where=ref or next(iter(folders.values())))
        samples = {id: samples[id] for id in ids}
    failures = build_gallery(samples, shown, out, Settings(title, form, flow, width))
    for failure in failures:
        _say(f"not shown: {failure}")
    _say(f"wrote {out} ({out.stat().st_size / 2**20:.1f} MiB)")
    return 1 if failures else 0


def bench(
    table: Annotated[Literal["table1", "table2", "table3", "table4"], tyro.conf.Positional],
    data: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=FOLDER …")],
    methods: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=SPEC …")],
    out: Path,
    metrics: _Several = (),
    authors: _Several = (),
    clips: Annotated[int | None, _optional("N")] = None,
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
    study = Study(parse_data(data), specs, out, settings, seed=seed, text=text, say=_say)
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
        _say(f"wrote {one.write(out, stem)[0]}")
    print(made[0].markdown())
    if table != "table1" and not made[0].scored:
        raise InputError("nothing could be scored", where=out, mend="the table's notes have the reasons")
    return 1 if study.lost else 0


def ablate(
    recipe: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RECIPE")],
    data: Annotated[str, tyro.conf.arg(metavar="NAME=FOLDER")],
    out: Path,
    masks: tuple[Literal["true", "generated", "prior", "full"], ...] = ("true", "generated", "prior", "full"),
    hrl: tuple[Literal["off", "on"], ...] = ("off", "on"),
    hand_weight: float = 0.1,
    scopes: tuple[Literal["full", "area-mask", "area-crop"], ...] = ("area-mask", "full"),
    metrics: _Several = (),
    clips: Annotated[int | None, _optional("N")] = None,
    seed: int = 0,
    text: Literal["short", "enriched"] = "enriched",
    minutes: Annotated[float | None, _optional("N")] = None,
    device: str = "cpu",
    entries: Annotated[
        tuple[str, ...],
        tyro.conf.UseAppendAction,
        tyro.conf.arg(name="section.key", metavar="VALUE", help_behavior_hint=""),
    ] = (),
) -> int:
    """Train and score the grid of the paper's table 3 from one recipe: masks × Hand Refinement Loss × scope.

    A training of stage 2 for every row, each from the same model with the same steps and seed: with the true
    area, the prior or the full frame alone, and for the rows with generated areas with what the recipe's
    data.mask says; where that is the true area alone, two rows share a training. Stop it and run it again: it
    goes on where it stopped.

        handi world --clips 200 --seed 900000 --out data/world/test
        handi ablate mini_stage2 --model.init mini --model.from_stage1 false --data world=data/world/test \\
            --out out/ablation

    In pieces of an hour; only two rows; a shorter training:
        handi ablate mini_stage2 --data world=data/world/test --out out/ablation --minutes 60
        handi ablate mini_stage2 --data world=data/world/test --out out/short --masks true --run.steps 500

    Args:
        recipe: A stage-2 recipe, a YAML file or the name of one that ships with handi. Its model.init has the
            stage 1 that all rows share.
        data: The true test videos, a folder or manifest as `handi evaluate --ref` takes it.
        out: Folder for the trainings, videos, results and the table.
        masks: Rows: true, generated (by stage 1), prior (mean of the training areas), full (the whole frame).
        hrl: Rows: without and with the Hand Refinement Loss.
        hand_weight: Its weight η where it is on.
        scopes: Full frames, and the true motion area: what lies outside is black (area-mask) or cut off.
        metrics: Only these, as `handi evaluate --metrics`.
        clips: Only the first N test clips.
        seed: Of sampling.
        text: What test clips are sampled with: the enriched text where a clip has one, or the short action.
        minutes: Stop training after so many minutes in all; what is left goes on with the next piece.
        device: For the metrics.
        entries: Any entry of the recipe, such as --run.steps 500.
    """
    from handi.evaluation import paper
    from handi.evaluation.ablate import Grid
    from handi.evaluation.ablate import ablate as run
    from handi.evaluation.evaluate import Settings
    from handi.evaluation.study import parse_data
    from handi.recipes import find_recipe
    from handi.training.recipe import load_recipe, parse_overrides

    loaded = load_recipe(find_recipe(recipe), parse_overrides([f"--{entry}" for entry in entries]))
    settings = Settings(metrics=metrics, device=device, clips=clips)
    settings.check()
    ((name, place),) = parse_data((data,)).items()
    grid = Grid(
        loaded,
        (name, place),
        out,
        cells=tuple(cell for cell in paper.CELLS if cell[0] in masks and cell[1] in hrl),
        hand_weight=hand_weight,
        scopes=scopes,
        seed=seed,
        text=text,
        minutes=minutes,
    )
    return run(grid, settings, say=_say)


def _results_of(folder: Path) -> Path | None:
    """The results.json of a method: in its folder, or where `handi bench` keeps that of whole frames."""
    places = (folder / "results.json", folder / "full-all" / "results.json")
    return next((place for place in places if place.is_file()), None)


def _named(items: tuple[str, ...]) -> dict[str, Path]:
    """("handi=out/a", "out/b") → name → folder. Raises: InputError."""
    found: dict[str, Path] = {}
    for item in items:
        name, equals, folder = item.partition("=")
        if not equals:
            name, folder = Path(item).name, item
        if name in found:
            raise InputError(f"two methods are called {name!r}", mend="write NAME=FOLDER")
        found[name] = Path(folder).expanduser()
    if not found:
        raise InputError("no method is named", mend="write --methods NAME=FOLDER …")
    return found


def _say(message: str) -> None:
    print(message, file=sys.stderr)
