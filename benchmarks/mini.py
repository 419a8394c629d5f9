"""Every figure of docs/mini.md, for a model folder, on clips of the world's test seeds.

    python benchmarks/mini.py all --model mini --out out/mini --train data/world

Sections: autoencoder, stage1, stage2, prompts, curve, sheets, speed. Each prints Markdown; what was measured
is kept in OUT/scores and not measured again for the same weights, clips and settings, so a section can be
run alone, and a run that was stopped goes on. Figures have 95 % intervals, bootstrapped over clips (over
groups for siblings). Clips that are missing are rendered: into OUT/world and OUT/siblings, if not elsewhere.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import mini_data
from estimates import table
from mini_curve import curve
from mini_data import Store
from mini_model import PipelineModel
from mini_prompts import prompts
from mini_scores import Bench
from mini_sheets import sheets
from mini_speed import speed
from mini_stage1 import stage1
from mini_stage2 import autoencoder, stage2

SECTIONS = ("autoencoder", "stage1", "stage2", "prompts", "curve", "sheets", "speed")
WITH_SIBLINGS = {"prompts", "sheets"}


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

    if wanted == ("speed",):
        print(speed(arguments.model, arguments.runs))
        return
    model = PipelineModel(arguments.model, device=arguments.device, batch=arguments.batch)
    size = model.pipe.card.height
    groups = []
    if WITH_SIBLINGS & set(wanted):
        folder = arguments.siblings or arguments.out / "siblings"
        groups = mini_data.sibling_groups(folder, arguments.groups, arguments.siblings_each, size)
    bench = Bench(
        model=model,
        clips=mini_data.load_clips(arguments.world or arguments.out / "world", arguments.clips, size),
        groups=groups,
        store=Store(arguments.out / "scores", model.sha256),
        out=arguments.out,
        some=min(arguments.some, arguments.clips),
    )
    sections = {
        "autoencoder": lambda: autoencoder(bench),
        "stage1": lambda: stage1(bench, arguments.train),
        "stage2": lambda: stage2(bench),
        "prompts": lambda: prompts(bench),
        "curve": lambda: curve(bench),
        "sheets": lambda: sheets(bench),
        "speed": lambda: speed(arguments.model, arguments.runs),
    }
    seeds = f"{bench.clips[0].seed} to {bench.clips[-1].seed}"
    print(f"Model {model.name}, sha256 {model.sha256[:12]}; {len(bench.clips)} test clips, seeds {seeds}.\n")
    for name in wanted:
        text = sections[name]()
        (arguments.out / f"{name}.md").write_text(text)
        print(f"## {name}\n\n{text}", flush=True)
    rows = [[name, f"{seconds:.0f}"] for name, seconds in bench.store.seconds.items()]
    (arguments.out / "cost.md").write_text(table(["condition", "CPU s"], rows))
    print(f"CPU seconds of all that was measured: {sum(bench.store.seconds.values()):.0f} (cost.md)")


if __name__ == "__main__":
    main()
