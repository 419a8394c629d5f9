"""Every figure of docs/mini.md and its log, for a model folder, on clips of the world's test seeds.

    python -m experiments.mini.score all --model mini --out out/mini --train data/world

Sections: autoencoder, stage1, stage2, sweeps, prompts, curve, sheets, speed, summary. Each prints Markdown
and writes it to OUT/SECTION.md; `all` writes OUT/report.md too. What was measured is kept in OUT/scores and
not measured again for the same weights, clips and settings (but for `speed`), so a run that was stopped
resumes. Figures have 95 % intervals, bootstrapped over clips (over groups for siblings). Missing clips
are rendered into OUT/world and OUT/siblings, if not elsewhere.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from experiments.estimates import table
from experiments.mini.clips import Row, Store, load_clips, sibling_groups
from experiments.mini.curve import curve
from experiments.mini.measures import Bench
from experiments.mini.model import PipelineModel
from experiments.mini.prompts import prompts
from experiments.mini.sheets import sheets
from experiments.mini.speed import measure, speed
from experiments.mini.stage1 import stage1
from experiments.mini.stage2 import autoencoder, stage2, sweeps
from experiments.mini.summary import summary

SECTIONS = ("autoencoder", "stage1", "stage2", "sweeps", "prompts", "curve", "sheets", "speed", "summary")
WITH_SIBLINGS = {"stage1", "prompts", "sheets", "summary"}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("section", choices=(*SECTIONS, "all"))
    parser.add_argument("--model", required=True, help="a model folder, or a name that handi knows")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--some", type=int, default=24, help="clips for sweeps and wrong prompts")
    parser.add_argument("--groups", type=int, default=40, help="groups of siblings")
    parser.add_argument("--siblings-each", type=int, default=3, help="clips in a group")
    parser.add_argument("--world", type=Path, help="folder of test clips; default OUT/world")
    parser.add_argument("--siblings", type=Path, help="folder of sibling groups; default OUT/siblings")
    parser.add_argument("--train", type=Path, help="folder of training clips, for the mean-mask baselines")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--runs", type=int, default=5, help="of `speed`")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    wanted = SECTIONS if arguments.section == "all" else (arguments.section,)

    model = PipelineModel(arguments.model, device=arguments.device, batch=arguments.batch)
    size, out = model.pipe.card.height, arguments.out
    clips, groups = [], []
    if wanted != ("speed",):
        clips = load_clips(arguments.world or out / "world", arguments.clips, size)
    if WITH_SIBLINGS & set(wanted):
        folder = arguments.siblings or out / "siblings"
        groups = sibling_groups(folder, arguments.groups, arguments.siblings_each, size)
    store = Store(out / "scores", model.sha256)
    bench = Bench(model, clips, groups, store, out, some=min(arguments.some, arguments.clips))

    def runs(again: bool = False) -> list[Row]:
        count = arguments.runs
        return store.rows("speed", range(count), lambda: measure(arguments.model, count), again=again)

    sections = {
        "autoencoder": lambda: autoencoder(bench),
        "stage1": lambda: stage1(bench, arguments.train),
        "stage2": lambda: stage2(bench),
        "sweeps": lambda: sweeps(bench),
        "prompts": lambda: prompts(bench),
        "curve": lambda: curve(bench),
        "sheets": lambda: sheets(bench),
        "speed": lambda: speed(runs(again=True)),
        "summary": lambda: summary(bench, runs()),
    }
    seeds = f", test seeds {clips[0].seed} to {clips[-1].seed}" if clips else ""
    title = f"Model {model.name}, sha256 {model.sha256[:12]}; {len(clips)} clips{seeds}.\n"
    print(title)
    for name in wanted:
        text = sections[name]()
        (out / f"{name}.md").write_text(text)
        print(f"## {name}\n\n{text}", flush=True)
    if arguments.section == "all":
        parts = (f"## {name}\n\n{(out / f'{name}.md').read_text()}" for name in ("summary", *SECTIONS[:-1]))
        (out / "report.md").write_text("\n".join([title, *parts]))
    rows = [[name, f"{seconds:.0f}"] for name, seconds in store.seconds.items()]
    (out / "cost.md").write_text(table(["condition", "CPU s"], rows))
    print(f"CPU seconds of what was measured here: {sum(store.seconds.values()):.0f} (cost.md)")


if __name__ == "__main__":
    main()
