"""Render, train and bundle mini: all that makes the model which ships with handi, on a CPU or on one GPU.

    python -m experiments.mini.train --out out/train --scenes 8000 --first 24000 --bundle out/mini
    python -m experiments.mini.train --out out/more --go-on mini --scenes 9000 --first 6000 --workers 13 \
        --beside --minutes 6 2.3 2.2 3.6 --train-steps 4000 2400 2400 2400 --bundle out/mini

Run it again and every part resumes where it stopped. The parts are the autoencoder, stage 1, the pose
predictor, and stage 2 with five of a clip's frames, once more so with the clips that there are by then, and
with all frames. With --go-on MODEL they are those from the pose predictor on, from a trained model.

--minutes are those of each part; what a piece does not finish the next one does, and the model is bundled
from what there is. --train-steps are each part's, and its schedule's; by default its recipe's. Parts of one
recipe continue one run, so a later part needs more steps than an earlier one, or minutes for both. --beside
renders while it trains: every part takes the clips that there are when it begins, and the pose predictor is
trained beside stage 2, as soon as its first frames are there. Further options of stage 2's recipe stand after
"--", such as `-- --optim.lr 5e-4`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from handi.models import folder as model_folder
from handi.training.setup import write_model

ALL_FRAMES = ("--data.frames", "16", "--data.choice", "even", "--optim.accumulate", "6")
ON_A_GPU = ("--data.resident", "true")


@dataclass(frozen=True)
class Part:
    """A training: of which recipe, what is changed in it, and what it starts from."""

    recipe: str
    changes: tuple[str, ...] = ()
    clips: int | None = None  # of a step on a GPU, all in one pass
    start: str | None = None  # the part whose model it starts from; None: a fresh one
    data: str = "train"  # the folder of its clips; val_… has the held-out ones
    steps: int | None = None  # of the run, where a part continues one that has done its recipe's


CLIPS = (
    Part("mini_stage2", clips=256, start="mini_stage1"),
    Part("mini_stage2", clips=256, start="mini_stage1"),
    Part("mini_stage2", ALL_FRAMES, clips=96, start="mini_stage1", steps=6000),
)
POSES = Part("mini_poses", clips=576, start="mini_stage1", data="first")
FROM_NOTHING = (Part("mini_vae"), Part("mini_stage1", start="mini_vae"), POSES, *CLIPS)
GOING_ON = (POSES, *CLIPS)
TRAINING_SEED, VALIDATION_SEED, VALIDATION_CLIPS = 0, 800_000, 64
FIRST_FRAME_SEED, HELD_OUT_FIRST_FRAMES = 400_000, 100  # scenes that no clip of the training shows
SIBLINGS = 3  # training clips of a scene: where the picture gives the action away, words are not learned
ENOUGH = 900  # scenes to begin with, where rendering continues beside the training


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
        "--workers", str(workers), "--prepare", str(folder),
    ]  # fmt: skip


def first_frames(folder: Path, seed: int, scenes: int, workers: int) -> list[str]:
    """Arguments of `handi world` for a folder of first frames."""
    return [
        "world", "--first-frames", "--clips", str(scenes), "--seed", str(seed), "--size", "128",
        "--workers", str(workers), "--prepare", str(folder),
    ]  # fmt: skip


@contextmanager
def beside(command: list[str], niceness: int = 19):
    """Within the block this command runs, and it is stopped at its end."""
    nice = ["nice", "-n", str(niceness), sys.executable, "-m", "handi"]
    process = subprocess.Popen([*nice, *command], start_new_session=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def wait_for(folder: Path, count: int, process: subprocess.Popen) -> None:
    """Until a folder holds so many prepared clips, or nobody renders any more."""
    while process.poll() is None and clips_in(folder) < count:
        time.sleep(1)


def clips_in(folder: Path) -> int:
    """Clips that a folder of shards holds, finished or not."""
    parts = (folder / "shards").glob("*.jsonl")
    return sum(path.read_bytes().count(b"\n") - 1 for path in parts)  # the first line is of the shard


def training(arguments: argparse.Namespace, number: int, part: Part, options: Sequence[str]) -> list[str]:
    """Arguments of `handi train` for part `number`."""
    out, world = arguments.out, arguments.out / "world"
    given = ["train", part.recipe, "--run.out", str(out / part.recipe), "--run.accept_changes", "true"]
    given += ["--data.path", str(world / part.data), "--data.validation", str(world / f"val_{part.data}")]
    if part.start is not None:
        known = arguments.go_on is not None
        given += ["--model.init", str(arguments.go_on if known else out / part.start / "model")]
        if known and part.recipe == "mini_stage2":
            given += ["--model.from_stage1", "false"]  # its own weights are better than stage 1's
    if arguments.minutes is not None:
        given += ["--minutes", str(arguments.minutes[number])]
    if arguments.train_steps is not None:
        given += ["--run.steps", str(arguments.train_steps[number])]
    elif part.steps is not None and arguments.minutes is None:
        given += ["--run.steps", str(part.steps)]
    if arguments.beside:
        given += ["--data.unfinished", "true"]
    given += part.changes
    if torch.cuda.is_available():
        given += ON_A_GPU
        if part.clips:
            given += ["--optim.batch", str(part.clips), "--optim.accumulate", "1"]
    return [*given, *(options if part.recipe == "mini_stage2" else ())]


def run(arguments: argparse.Namespace, parts: Sequence[Part], options: Sequence[str]) -> None:
    """Render and train, one after another, or side by side."""
    world, workers = arguments.out / "world", arguments.workers
    held_out = min(arguments.scenes, VALIDATION_CLIPS)
    handi(*rendering(world / "val_train", VALIDATION_SEED, held_out, 1, workers))
    few = min(arguments.first, HELD_OUT_FIRST_FRAMES)
    handi(*first_frames(world / "val_first", VALIDATION_SEED, few, workers))
    rest = rendering(world / "train", TRAINING_SEED, arguments.scenes, SIBLINGS, workers)
    first = first_frames(world / "first", FIRST_FRAME_SEED, arguments.first, workers)
    commands = [training(arguments, number, part, options) for number, part in enumerate(parts)]
    if not arguments.beside:
        for command in (rest, first, *commands):
            handi(*command)
        return
    with beside(rest) as renderer, ThreadPoolExecutor(1) as pool:
        wait_for(world / "train", 2 * min(arguments.scenes, ENOUGH), renderer)  # most scenes have three

        def poses(command: list[str]) -> None:
            with beside(first) as renderer:
                renderer.wait()
            handi(*command)

        predictor = None
        for part, command in zip(parts, commands, strict=True):
            if part is POSES:
                predictor = pool.submit(poses, command)
            else:
                handi(*command)
        if predictor is not None:
            predictor.result()


def bundle(
    parts_of: dict[str, Path | str], target: Path, steps: tuple[int, int], pose_guidance: float
) -> None:
    """One folder of 16-bit weights: each network from the run that trained it last.

    parts_of: the model folder that "vae", "stage1", "poses" and "stage2" are taken from. The autoencoder's
    encoder is fitted before anything is trained, so its decoder may be trained longer than the run that the
    others started from. steps, pose_guidance: of sampling, for the model card.
    """
    parts, area = model_folder.load(parts_of["stage2"]), model_folder.load(parts_of["stage1"])
    autoencoder, poses = model_folder.load(parts_of["vae"]).vae, model_folder.load(parts_of["poses"])
    if not torch.equal(autoencoder.basis.components, parts.vae.basis.components):
        sys.exit(f"{parts_of['vae']} and {parts_of['stage2']} have encoders of different fits")
    for other in (parts, poses):
        if not _same(area.text_encoder, other.text_encoder):
            sys.exit(f"{parts_of['stage1']} and {other.source} have different text encoders")
    if not _same(area.area_unet, poses.area_unet):
        sys.exit(f"{parts_of['poses']} has learned from another stage 1 than {parts_of['stage1']}")
    card = replace(
        parts.card,
        stage1=replace(area.card.stage1, steps=steps[0]),
        stage2=replace(parts.card.stage2, steps=steps[1], pose_guidance=pose_guidance),
    )
    parts = replace(
        parts,
        vae=autoencoder,
        area_unet=area.area_unet,
        pose_net=poses.pose_net,
        prior_mask=area.prior_mask,
        card=card,
    )
    for network in (parts.vae, parts.unet, parts.area_unet, parts.pose_net, parts.text_encoder):
        network.to(torch.float16)
    write_model(parts, target)
    for path in target.glob("*/config.json"):  # diffusers notes where a network came from, on this machine
        config = json.loads(path.read_text())
        if config.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    print(f"{target}: {size / 2**20:.1f} MiB, {model_folder.fingerprint(model_folder.load(target))}")


def _same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    """Whether two networks have the same weights."""
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the clips and the runs")
    parser.add_argument("--scenes", type=int, default=4000, help="to train on, about three clips each")
    parser.add_argument("--first", type=int, default=24_000, help="first frames, for the pose predictor")
    parser.add_argument("--workers", type=int, default=2, help="processes that render")
    parser.add_argument("--beside", action="store_true", help="render while training")
    parser.add_argument("--go-on", metavar="MODEL", help="train a model's stages on")
    parser.add_argument("--minutes", type=float, nargs="+", help="of each part, in this piece")
    parser.add_argument("--train-steps", type=int, nargs="+", help="of each part")
    parser.add_argument("--bundle", type=Path, help="folder for the finished model")
    parser.add_argument("--only-bundle", action="store_true", help="of runs that there are already")
    parser.add_argument("--steps", type=int, nargs=2, default=(1, 4), help="of sampling, both stages")
    parser.add_argument(
        "--pose-guidance", type=float, default=2.0, help="of sampling; 1: none, a third faster"
    )
    split = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    arguments = parser.parse_args(sys.argv[1:split])
    parts = FROM_NOTHING if arguments.go_on is None else GOING_ON
    for given in (arguments.minutes, arguments.train_steps):
        if given is not None and len(given) != len(parts):
            parser.error(
                f"there are {len(parts)} parts, not {len(given)}: {', '.join(p.recipe for p in parts)}"
            )
    if not arguments.only_bundle:
        run(arguments, parts, sys.argv[split + 1 :])
    if arguments.bundle:
        folders: dict[str, Path | str] = {
            part: arguments.out / f"mini_{part}" / "model" for part in ("vae", "stage1", "poses", "stage2")
        }
        if arguments.go_on is not None:
            folders |= {"vae": arguments.go_on, "stage1": arguments.go_on}
        bundle(folders, arguments.bundle, tuple(arguments.steps), arguments.pose_guidance)


if __name__ == "__main__":
    main()
