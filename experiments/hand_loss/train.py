"""Does the Hand Refinement Loss help? Stage 2 trained on with and without it, at equal steps and seeds.

    python -m experiments.hand_loss.train mini_stage2 --init MODEL --world TEST_CLIPS --out OUT \\
        --steps 1000 --seeds 0 1 2 --clips 64

Every arm starts from the same model folder with the same recipe; within a seed all arms see the same clips,
words, timesteps and noise, and differ in the loss alone. Each trained model then makes the test clips in
their true areas. Further arms: `--arm "roi x10" loss.hand.weight=1`; recipe entries for all arms:
`--set data.path=FOLDER`.

Started again after an interruption it resumes where it stopped, and with more seeds or arms it adds them.
OUT/hand_loss.md has the tables, OUT/hand_loss.json every number.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from experiments.estimates import table
from experiments.hand_loss.figures import (
    FIGURES,
    Difference,
    Rows,
    cell,
    compare,
    lines_of,
    summarise,
)
from experiments.mini.clips import Store, load_clips
from experiments.mini.measures import Bench, score_videos
from experiments.mini.model import Model, PipelineModel, restored
from handi.core.files import replacing
from handi.recipes import find_recipe
from handi.training.loop import train
from handi.training.recipe import load_recipe
from handi.training.track import read_log
from handi.world import WorldClip

ETA = 0.1  # of Eq. 7
ARMS: dict[str, dict[str, Any]] = {
    "none": {"loss.hand.weight": 0},
    "literal": {"loss.hand.weight": ETA, "loss.hand.form": "literal", "loss.hand.features": 0},
    "roi": {"loss.hand.weight": ETA, "loss.hand.form": "roi", "loss.hand.features": 0},
    "roi + features": {
        "loss.hand.weight": ETA,
        "loss.hand.form": "roi",
        "loss.hand.features": 1,
        "loss.hand.noise_limit": 1e6,  # features have a gradient where nothing can be read yet
    },
}
BASE = "none"


@dataclass(frozen=True)
class Plan:
    """What is compared."""

    recipe: Path
    init: str
    out: Path
    steps: int
    seeds: tuple[int, ...]
    arms: Mapping[str, Mapping[str, Any]]
    common: Mapping[str, Any]  # entries of the recipe, for every arm
    sampling_steps: int | None = None  # for the test clips; as the model's card says

    def folder(self, arm: str, seed: int) -> Path:
        """Of a run."""
        return self.out / "runs" / f"{arm.replace(' ', '_')}-{seed}"

    def overrides(self, arm: str, seed: int) -> dict[str, Any]:
        """Entries of the recipe that a run changes."""
        return {
            "model.init": self.init,
            "model.preset": None,
            "model.from_stage1": False,
            "run.gradients_every": max(1, self.steps // 20),
            "run.log_every": max(1, self.steps // 50),
            **self.common,
            "run.steps": self.steps,
            "run.seed": seed,
            "run.out": str(self.folder(arm, seed)),
            **self.arms[arm],
        }


def train_arm(plan: Plan, arm: str, seed: int) -> Path:
    """Train one run to its end, from its last checkpoint where there is one; gives its model folder."""
    folder, overrides = plan.folder(arm, seed), plan.overrides(arm, seed)
    marker, key = folder / "trained.json", json.loads(json.dumps(overrides))
    if marker.exists() and json.loads(marker.read_text()) == key:
        return folder / "model"
    print(f"--- {arm}, seed {seed}", flush=True)
    if code := train(load_recipe(plan.recipe, overrides)):
        raise SystemExit(code)  # stopped by a signal: run it again to resume
    with replacing(marker) as temporary:
        temporary.write_text(json.dumps(key))
    return folder / "model"


def measure(
    bench: Bench, name: str, steps: int | None,
    *, areas: np.ndarray | None = None, poses: np.ndarray | None = None,
) -> Rows:  # fmt: skip
    """A row per clip of what `bench.model` generates in areas N×H×W, by default the true ones, told poses
    N×F×42×2, by default those that it predicts."""

    def make(clips: list[WorldClip], place: slice) -> np.ndarray:
        inside = np.stack([clip.area_moved for clip in clips]) if areas is None else areas[place]
        told = None if poses is None else poses[place]
        return bench.model.videos(clips, [clip.text for clip in clips], inside, steps=steps, poses=told)

    seeds = [clip.seed for clip in bench.clips]
    name += f"-{steps}-steps" if steps else ""
    return bench.store.rows(name, seeds, lambda: score_videos(bench, bench.clips, make))


def reconstruction(bench: Bench) -> Rows:
    """The true clips through the autoencoder, background restored: what a perfect stage 2 would give."""

    def make(clips: list[WorldClip], _: slice) -> np.ndarray:
        return restored(bench.model.reconstruct(clips), clips, np.stack([c.area_moved for c in clips]))

    seeds = [clip.seed for clip in bench.clips]
    return bench.store.rows("reconstruction", seeds, lambda: score_videos(bench, bench.clips, make))


def bench_of(model: Model, plan: Plan, clips: list[WorldClip]) -> Bench:
    """The model with the test clips and what was measured on it before."""
    return Bench(model, clips, [], Store(plan.out / "rows", model.sha256), plan.out, len(clips))


# ----------------------------------------------------------------------------------------- reports


# what the log says of a run → heading of its column
TRAINING = {
    "seconds_per_step": "s a step",
    "noise": "noise",
    "hand": "hand",
    "hand_features": "hand_features",
    "_presence": "presence",
    "_hands": "hands per step",
    "_hand_error": "joint error",
}
GRADIENTS = ("noise", "hand", "hand_features")


def training_facts(folder: Path) -> dict[str, float]:
    """Means over the last half of a run's log; NaN for what it does not have."""
    rows = read_log(folder / "log.jsonl", kind="train")
    late = [row for row in rows if row["step"] > rows[-1]["step"] / 2]

    def of(name: str) -> float:
        return _mean([row[name] for row in late if isinstance(row.get(name), (int, float))])

    facts = {name: of(name) for name in TRAINING}
    return facts | {f"gradient_{name}": of(f"gradient/{name}") for name in GRADIENTS}


def _mean(values: Sequence[float]) -> float:
    """Of those that are numbers; NaN where none is."""
    numbers = [value for value in values if np.isfinite(value)]
    return float(np.mean(numbers)) if numbers else float("nan")


def report(
    plan: Plan,
    count: int,
    before: Rows,
    reference: Rows,
    runs: Mapping[str, list[Rows]],
    facts: Mapping[str, list[dict[str, float]]],
) -> tuple[str, dict[str, Any]]:
    """Markdown, and the same numbers for JSON."""
    figures = {
        arm: summarise(rows, reference) for arm, rows in {"before (no training)": [before], **runs}.items()
    }
    differences = {arm: compare(rows, runs[BASE], reference) for arm, rows in runs.items() if arm != BASE}
    text = (
        f"{plan.steps} steps from {plan.init}, seeds {', '.join(map(str, plan.seeds))}, {count} test clips, "
        f"true areas, sampling steps: {plan.sampling_steps or 'as the card says'}, acting hands. In "
        "brackets: 95 % interval, bootstrap over seeds and clips.\n\n"
    )
    text += table(
        ["arm", *FIGURES],
        [[arm, *(cell(name, value) for name, value in each.items())] for arm, each in figures.items()],
    )
    text += f"\nDifference to `{BASE}`, same seeds and clips:\n\n" + _difference_table(differences)
    text += "\nIn training (means of the last half; terms with their weights):\n\n" + _training_table(facts)
    results = {
        "figures": {
            arm: {name: asdict(value) for name, value in each.items()} for arm, each in figures.items()
        },
        "differences": {
            arm: {name: asdict(value) for name, value in each.items()} for arm, each in differences.items()
        },
        "training": dict(facts),
    }
    return text, results


def _difference_table(differences: Mapping[str, Mapping[str, Difference]]) -> str:
    lines = [[arm, *line] for arm, each in differences.items() for line in lines_of(each)]
    return table(["arm", "figure", "difference", "each seed", "interval excludes 0"], lines)


def _training_table(facts: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    lines = []
    for arm, each in facts.items():
        mean = {name: _mean([one[name] for one in each]) for name in each[0]}
        share = mean["gradient_hand"] / mean["gradient_noise"]
        lines.append([arm, *(_number(mean[name], ".3g") for name in TRAINING), _number(share, ".3g")])
    return table(["arm", *TRAINING.values(), "gradient, hand/noise"], lines)


def _number(value: float, form: str) -> str:
    return f"{value:{form}}" if np.isfinite(value) else "–"


def entries(pairs: Sequence[str]) -> dict[str, str]:
    """["a.b=1"] → {"a.b": "1"}."""
    if wrong := [pair for pair in pairs if "=" not in pair]:
        raise SystemExit(f"{wrong[0]!r} is not key=value")
    return dict(pair.split("=", 1) for pair in pairs)


def add_options(parser: argparse.ArgumentParser, *, clips: int, steps: int) -> None:
    """What both this command and `table3` are told; clips, steps: the defaults."""
    parser.add_argument("recipe", type=find_recipe, help="of stage 2: a file, or the name of a bundled one")
    parser.add_argument("--init", required=True, help="model folder that every training starts from")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--world", type=Path, default=Path("data/world-test"), help="missing clips are rendered"
    )
    parser.add_argument("--clips", type=int, default=clips)
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="entries for all trainings")
    parser.add_argument("--device", default="cpu", help="for generating the test clips")


def main(arguments: Sequence[str] | None = None) -> str:
    """The command line; prints and returns the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser, clips=64, steps=1000)
    parser.add_argument(
        "--arms", nargs="+", choices=list(ARMS), default=list(ARMS), help="none is always run"
    )
    parser.add_argument("--arm", nargs="+", action="append", default=[], metavar="NAME KEY=VALUE",
                        help="another arm, with its entries of the recipe")  # fmt: skip
    parser.add_argument("--sampling-steps", type=int, help="for the test clips; the model's own by default")
    given = parser.parse_args(arguments)
    arms = {name: ARMS[name] for name in dict.fromkeys([BASE, *given.arms])}
    arms |= {name: entries(pairs) for name, *pairs in given.arm}
    plan = Plan(
        given.recipe,
        given.init,
        given.out,
        given.steps,
        tuple(given.seeds),
        arms,
        entries(given.set),
        given.sampling_steps,
    )
    plan.out.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    start = PipelineModel(plan.init, device=given.device)
    clips = load_clips(given.world, given.clips, start.pipe.card.height)
    bench = bench_of(start, plan, clips)
    before, reference = measure(bench, "before", plan.sampling_steps), reconstruction(bench)
    runs: dict[str, list[Rows]] = {arm: [] for arm in arms}
    facts: dict[str, list[dict[str, float]]] = {arm: [] for arm in arms}
    for number, seed in enumerate(plan.seeds, 1):  # seed by seed: stopped early it has whole comparisons
        for arm in arms:
            model = train_arm(plan, arm, seed)
            bench = bench_of(PipelineModel(str(model), device=given.device), plan, clips)
            runs[arm].append(measure(bench, plan.folder(arm, seed).name, plan.sampling_steps))
            facts[arm].append(training_facts(plan.folder(arm, seed)))
        done = replace(plan, seeds=plan.seeds[:number])
        text, results = report(done, len(clips), before, reference, runs, facts)
        with replacing(plan.out / "hand_loss.json") as temporary:
            temporary.write_text(json.dumps(results, indent=1))
        with replacing(plan.out / "hand_loss.md") as temporary:
            temporary.write_text(text)
    print(text)
    print(f"\n{(time.monotonic() - begin) / 60:.1f} min in this run")
    return text


if __name__ == "__main__":
    main()
