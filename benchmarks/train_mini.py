"""Render, train and bundle mini: all that makes the model which ships with handi, on a CPU or on one GPU.

    python benchmarks/train_mini.py --out out/train --scenes 8000 --bundle out/mini
    python benchmarks/train_mini.py --out out/train --scenes 8000 --beside --minutes 2 2 4 5 --bundle out/mini

Run it again and it goes on where it stopped, in every part. The parts are the autoencoder, stage 1, and stage
2 with five of a clip's frames and with all. With --go-on MODEL they are the last two, from a trained model:

    python benchmarks/train_mini.py --out out/more --go-on mini --train-steps 3000 3000 --bundle out/mini

--minutes are those of each part; what a piece does not finish the next one does, and the model is bundled
from what there is. --train-steps are each part's, and its schedule's; by default its recipe's. --beside
renders while it trains: every part takes the clips that there are when it begins. Further options of all
recipes stand after "--", such as `-- --optim.lr 5e-4`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from handi.models import checkpoint
from handi.training.setup import write_model

ALL_FRAMES = ("--data.frames", "16", "--optim.accumulate", "6", "--run.accept_changes", "true")
TRAINED = ("--model.from_stage1", "false")  # its own weights are better than stage 1's
ON_A_GPU = ("--data.resident", "true")


@dataclass(frozen=True)
class Part:
    """A training: of which recipe, and what is changed in it."""

    recipe: str
    changes: tuple[str, ...] = ()
    clips: int | None = None  # of a step on a GPU, all in one pass


FROM_NOTHING = (
    Part("mini_vae"),
    Part("mini_stage1"),
    Part("mini_stage2", clips=256),
    Part("mini_stage2", ALL_FRAMES, clips=96),
)
GOING_ON = (
    Part("mini_stage2", TRAINED, clips=256),
    Part("mini_stage2", (*ALL_FRAMES, *TRAINED), clips=96),
)
TRAINING_SEED, VALIDATION_SEED, VALIDATION_CLIPS = 0, 800_000, 64
SIBLINGS = 3  # training clips of a scene: where the picture gives the action away, words are not learned
ENOUGH = 512  # clips to begin with, where rendering goes on beside the training


def handi(*arguments: str) -> None:
    """Run the command; its failure is ours."""
    print("handi", *arguments, flush=True)
    code = subprocess.run([sys.executable, "-m", "handi", *arguments]).returncode
    if code:
        sys.exit(code)


def rendering(folder: Path, seed: int, scenes: int, siblings: int, workers: int) -> list[str]:
    """Arguments of `handi world` for a folder of clips."""
    return [
        "world", "--clips", str(scenes), "--siblings", str(siblings), "--seed", str(seed), "--size", "128",
        "--workers", str(workers), "--pictures", "png", "--out", str(folder),
    ]  # fmt: skip


@contextmanager
def rendered_beside(world: Path, arguments: list[str]):
    """Within the block the training clips are being rendered; it begins once there are some."""
    process = subprocess.Popen(["nice", "-n", "19", sys.executable, "-m", "handi", *arguments])
    try:
        while process.poll() is None and sum(1 for _ in world.glob("[0-9]*.json")) < ENOUGH:
            time.sleep(1)
        yield
    finally:
        process.terminate()
        process.wait()


def train(arguments: argparse.Namespace, parts: Sequence[Part], options: Sequence[str]) -> None:
    """The parts one after another, each from the model of the one before."""
    out, model = arguments.out, arguments.go_on
    fast = ON_A_GPU if torch.cuda.is_available() else ()
    for number, part in enumerate(parts):
        run = out / part.recipe
        given = ["train", part.recipe, "--run.out", str(run)]
        given += ["--data.path", str(out / "world/train"), "--data.validation", str(out / "world/val")]
        if model is not None:
            given += ["--model.init", str(model)]
        if arguments.minutes is not None:
            given += ["--minutes", str(arguments.minutes[number])]
        if arguments.train_steps is not None:
            given += ["--run.steps", str(arguments.train_steps[number])]
        given += part.changes
        if fast and part.clips:
            given += ["--optim.batch", str(part.clips), "--optim.accumulate", "1"]
        handi(*given, *fast, *options)
        if number + 1 < len(parts) and parts[number + 1].recipe != part.recipe:
            model = run / "model"


def bundle(vae: Path | str, stage1: Path | str, stage2: Path, target: Path, steps: tuple[int, int]) -> None:
    """One folder of 16-bit weights: each network from the run that trained it last.

    The autoencoder's encoder is fitted before anything is trained, so its decoder may be trained longer than
    the run that the other two started from. steps: of sampling, for the model card.
    """
    parts = checkpoint.load(stage2)
    area = checkpoint.load(stage1)
    autoencoder = checkpoint.load(vae).vae
    if not torch.equal(autoencoder.basis.components, parts.vae.basis.components):
        sys.exit(f"{vae} and {stage2} have encoders of different fits: their latents are not the same")
    same = all(
        torch.equal(one, other)
        for one, other in zip(
            area.text_encoder.state_dict().values(), parts.text_encoder.state_dict().values(), strict=True
        )
    )
    if not same:
        sys.exit(f"{stage1} and {stage2} have different text encoders")
    card = replace(
        parts.card,
        stage1=replace(area.card.stage1, steps=steps[0]),
        stage2=replace(parts.card.stage2, steps=steps[1]),
    )
    parts = replace(parts, vae=autoencoder, area_unet=area.area_unet, prior_mask=area.prior_mask, card=card)
    for network in (parts.vae, parts.unet, parts.area_unet, parts.text_encoder):
        network.to(torch.float16)
    write_model(parts, target)
    for path in target.glob("*/config.json"):  # diffusers notes where a network came from, on this machine
        config = json.loads(path.read_text())
        if config.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    print(f"{target}: {size / 2**20:.1f} MiB, {checkpoint.fingerprint(checkpoint.load(target))}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the clips and the runs")
    parser.add_argument("--scenes", type=int, default=4000, help="to train on, about three clips each")
    parser.add_argument("--workers", type=int, default=2, help="processes that render")
    parser.add_argument("--beside", action="store_true", help="render while training")
    parser.add_argument("--go-on", metavar="MODEL", help="train a model's stages on")
    parser.add_argument("--minutes", type=float, nargs="+", help="of each part, in this piece")
    parser.add_argument("--train-steps", type=int, nargs="+", help="of each part")
    parser.add_argument("--bundle", type=Path, help="folder for the finished model")
    parser.add_argument("--only-bundle", action="store_true", help="of runs that there are already")
    parser.add_argument("--steps", type=int, nargs=2, default=(1, 4), help="of sampling, both stages")
    split = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    arguments = parser.parse_args(sys.argv[1:split])
    parts = FROM_NOTHING if arguments.go_on is None else GOING_ON
    for given in (arguments.minutes, arguments.train_steps):
        if given is not None and len(given) != len(parts):
            parser.error(
                f"there are {len(parts)} parts, not {len(given)}: {', '.join(p.recipe for p in parts)}"
            )
    if not arguments.only_bundle:
        world = arguments.out / "world"
        held_out = min(arguments.scenes, VALIDATION_CLIPS)
        handi(*rendering(world / "val", VALIDATION_SEED, held_out, 1, arguments.workers))
        clips = rendering(world / "train", TRAINING_SEED, arguments.scenes, SIBLINGS, arguments.workers)
        if not arguments.beside:
            handi(*clips)
        with rendered_beside(world / "train", clips) if arguments.beside else nullcontext():
            train(arguments, parts, sys.argv[split + 1 :])
    if arguments.bundle:
        vae, stage1, stage2 = (
            arguments.out / f"mini_{part}" / "model" for part in ("vae", "stage1", "stage2")
        )
        if arguments.go_on is not None:
            vae = stage1 = arguments.go_on
        bundle(vae, stage1, stage2, arguments.bundle, tuple(arguments.steps))


if __name__ == "__main__":
    main()
