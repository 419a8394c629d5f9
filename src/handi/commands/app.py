"""The `handi` command: thin; what it does lies in the modules that it calls."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, Union

import tyro

from handi.commands.compare import ablate, bench, gallery
from handi.commands.data import areas, prepare, report
from handi.core.errors import HandiError, InputError, expected, item_failure


def _model_default(metavar: str) -> Any:
    """How an option is shown that is left to the model's card."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="(default: the model's own)")


_Int = Annotated[int | None, _model_default("INT")]
_Float = Annotated[float | None, _model_default("FLOAT")]
_Switch = Annotated[bool, tyro.conf.FlagCreatePairsOff]


def _optional(metavar: str) -> Any:
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="")


def generate(
    out: Path,
    image: Annotated[str | None, _optional("FILE")] = None,
    prompt: Annotated[str | None, _optional("TEXT")] = None,
    batch: Annotated[Path | None, _optional("FILE.jsonl")] = None,
    model: str = "mini",
    mask: Annotated[str | None, _optional("FILE")] = None,
    poses: Annotated[str | None, _optional("FILE")] = None,
    area_from: Literal["mask", "poses"] = "mask",
    pose_steps: int = 1,
    seed: int = 0,
    steps: _Int = None,
    guidance: _Float = None,
    area_steps: _Int = None,
    area_guidance: _Float = None,
    frames: _Int = None,
    size: Annotated[str | None, _optional("HxW")] = None,
    motion: _Float = None,
    background: Literal["restore", "generate"] = "restore",
    save_frames: _Switch = False,
    batch_size: int = 1,
    device: str = "auto",
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto",
    offload: _Switch = False,
    variant: Annotated[str | None, _optional("NAME")] = None,
    lora: Annotated[str | None, _optional("FILE")] = None,
    enrich: Annotated[str | None, _optional("MODEL|URL")] = None,
    enrich_model: Annotated[str | None, _optional("NAME")] = None,
) -> int:
    """Make a video from a picture and a sentence, or many from a batch file.

    Writes video.mp4 (H.264), motion_area.png, motion_area_soft.png, motion_flow.png and run.json to --out,
    and poses.json and poses.png where the model says how the hands will move.

    One clip:
        handi generate --image kitchen.jpg --prompt "Julienne carrot." --out out/carrot

    With your own motion area, painted white on black, or the one of an earlier run, edited:
        handi generate --image kitchen.jpg --prompt "Julienne carrot." --mask area.png --out out/carrot

    Moving as your own hands do, or as an edited poses.json says (docs/poses.md):
        handi generate --image kitchen.jpg --prompt "Julienne carrot." --poses my_hands.mp4 --out out/carrot

    Many; a line of the file is {"image": ..., "prompt": ..., "mask"?, "poses"?, "seed"?, "motion"?, "id"?}.
    Run it again and it goes on where it stopped:
        handi generate --batch clips.jsonl --out out/clips

    Args:
        out: Folder for the results; with --batch, the parent of one folder a clip.
        image: The context image: a scene with a hand or hands ready to act. "example" is a picture that
            ships with handi.
        prompt: The action, as a short sentence.
        batch: File of requests, one JSON object a line. Relative paths in it count from its own folder.
        model: A model folder (handi's, AnimateAnything's, HANDI/IVG's), a hub id "owner/name", or
            "mini": the small model that ships with handi, 128×128, trained on a synthetic kitchen table
            (docs/mini.md). "random": the same kind of thing untrained; its pixels mean nothing.
        mask: Motion area to use instead of stage 1's: a picture, bright where things may move, or "full".
        poses: How the hands move, for models that can be told: a poses.json, such as an earlier run's,
            edited, or a video of hands, whose movement is put into the picture.
        area_from: Where no mask is given, the motion area is stage 1's, or the hulls of the hands' poses.
        pose_steps: Denoising steps of the poses. One gives the middle of what may happen, with more the seed
            chooses.
        seed: Same seed, same clip. In a batch file it counts for the lines that name none.
        steps: Denoising steps of stage 2, the video.
        guidance: Classifier-free guidance of stage 2; at 1 or less there is none.
        area_steps: Denoising steps of stage 1, the motion area.
        area_guidance: Classifier-free guidance of stage 1.
        frames: Frames of the clip, the context image included.
        size: Exact size in pixels, e.g. 256x448; the picture is cropped to its aspect. Without it: the
            picture's own aspect at the area that the model was trained at.
        motion: AnimateAnything's motion strength.
        background: What stands outside the motion area: the context image itself, or what was generated.
        save_frames: Write frames/*.png too (lossless).
        batch_size: Clips of a batch file that are generated together.
        device: auto, cpu, cuda, cuda:1, mps.
        dtype: Precision; auto is bfloat16 on a GPU, float32 on a CPU.
        offload: Keep only the network that runs on the GPU: slower, and less memory.
        variant: Which of the model's weight files to load, e.g. fp16 for *.fp16.safetensors.
        lora: A LoRA file for the model, as training writes them (lora.safetensors), or a folder or hub id.
        enrich: Have a vision-language model look at the picture and write the prompt out in full first: a
            folder or hub id of an image-text-to-text model, or an OpenAI-compatible address such as
            http://localhost:8000/v1, whose key is read from the environment variable HANDI_ENRICH_KEY. Its
            answers are cached and stand in run.json.
        enrich_model: The model's name at that address.
    """
    from handi.generation.generate import Request, Settings, read_batch, run_batch, run_one

    if (batch is None) == (image is None):
        _usage("give --image and --prompt, or --batch")
    if batch is None and prompt is None:
        _usage("--image needs a --prompt")
    if batch is not None and (prompt, mask, poses) != (None, None, None):
        _usage("with --batch, prompts, masks and poses stand in the file")
    if batch_size < 1:
        _usage(f"--batch-size {batch_size}: use 1 or more")
    if enrich_model is not None and enrich is None:
        _usage("--enrich-model needs --enrich")
    height, width = _parse_size(size)
    settings = Settings(
        model=model,
        variant=variant,
        lora=lora,
        frames=frames,
        height=height,
        width=width,
        steps=steps,
        guidance=guidance,
        area_steps=area_steps,
        area_guidance=area_guidance,
        area_from=area_from,
        pose_steps=pose_steps,
        restore_background=background == "restore",
        save_frames=save_frames,
        device=device,
        dtype=dtype,
        offload=offload,
        enrich=enrich,
        enrich_model=enrich_model,
    )
    if batch is None:
        request = Request(
            image=str(image), prompt=str(prompt), mask=mask, poses=poses, seed=seed, motion=motion
        )
        for note in run_one(request, settings, out).notes:
            _say(f"note: {note}")
        _say(f"wrote {out / 'video.mp4'}")
        return 0
    requests, bad_lines = read_batch(batch, seed=seed)
    failures = [*bad_lines, *run_batch(requests, settings, out, batch_size=batch_size, say=_say)]
    for failure in failures:
        _say(f"error: {failure}")
    done = len(requests) + len(bad_lines) - len(failures)
    _say(f"{done} of {len(requests) + len(bad_lines)} clips are in {out}")
    return 1 if failures else 0


def hands(
    input: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="INPUT")],
    out: Path,
    mode: Literal["auto", "image", "video"] = "auto",
    complexity: Literal["full", "lite"] = "full",
    detection_confidence: float = 0.5,
    presence_confidence: float = 0.5,
    mirrored: _Switch = False,
    hull: Literal["hand", "all"] = "hand",
    flow: bool = True,
    backend: Literal["auto", "torch", "litert"] = "auto",
    models: Annotated[Path | None, _optional("PATH")] = None,
) -> int:
    """Find hands in pictures and videos; measure where they act and what moves.

    Writes joints.json, overlay.mp4 (of a picture: overlay.png), motion_area.png and motion_flow.png to --out,
    or to a folder each in --out where INPUT is several. What is finished is kept; stopped work goes on when
    the command is run again.

        handi hands clip.mp4 --out out/clip
        handi hands frames/%04d.png --out out/frames

    Args:
        input: A picture, a video, a folder of these, or an image sequence: a pattern such as
            frames/%04d.png, or a folder of evenly numbered pictures of one size.
        out: Folder for the results.
        mode: video follows hands from frame to frame, image takes each frame for itself; auto follows them
            in clips.
        complexity: MediaPipe's full networks, or its lite ones: faster, less exact.
        detection_confidence: Palms below it are not looked at.
        presence_confidence: A region below it holds no hand.
        mirrored: The footage is mirrored, as a selfie camera shows it: left and right are swapped.
        hull: The motion area is one hull for each hand, or one over all hands of a frame.
        flow: Measure motion flow too; it takes longer than the hands do.
        backend: litert is the faster on a CPU, and needs `pip install 'handi[litert]'`; auto takes it where
            it is installed.
        models: Folder, wheel or .task file with MediaPipe's networks, instead of what `handi doctor` shows.
    """
    from handi.hands.report import HandSettings, report_hands

    settings = HandSettings(
        mode=mode,
        complexity=complexity,
        detection_confidence=detection_confidence,
        presence_confidence=presence_confidence,
        mirrored=mirrored,
        hull=hull,
        flow=flow,
        backend=backend,
    )
    failures = report_hands(input, out, settings, models=models, say=_say)
    for failure in failures:
        _say(f"error: {failure}")
    return 1 if failures else 0


def world(
    out: Path,
    clips: int = 100,
    seed: int = 0,
    size: int = 128,
    workers: int = 2,
    action: Annotated[str | None, _optional("NAME")] = None,
    motion_blur: _Switch = False,
    handheld: _Switch = False,
    pictures: Literal["png", "mp4"] = "png",
    siblings: int = 1,
    first_frames: _Switch = False,
    area: Literal["moved", "hull"] = "moved",
) -> int:
    """Render clips of the synthetic hand-action world, with exact ground truth.

    Writes four files a clip to --out: the video, id map, motion areas, and a JSON with text, joints, states
    and camera (docs/world.md). Stop it and run it again: it goes on where it stopped.

    A thousand clips to train on:
        handi world --clips 1000 --seed 0 --size 128 --workers 2 --out data/world

    Up to three actions from every first frame, so that only the text tells them apart:
        handi world --clips 1000 --siblings 3 --out data/world

    First frames alone, each with all that can be asked of it, for `handi train mini_grounding`:
        handi world --clips 8000 --first-frames --out data/world/first

    Args:
        out: Folder for the clips.
        clips: How many, one a seed.
        seed: The first seed. 0 to 799999 are for training, 800000 to 899999 for validation, 900000 and up
            for test.
        size: Side of the pictures in pixels.
        workers: Processes that render.
        action: Only this one, e.g. "cut"; seeds whose scene does not afford it are passed over. First frames
            of the seeds that are left come with all their requests, of other actions too.
        motion_blur: Blur what moves, as an open shutter does.
        handheld: Let the camera sway.
        pictures: png, a lossless film strip, or mp4: smaller, and not quite the rendered pictures.
        siblings: Clips of one seed at most, each of another action; --clips then counts the seeds.
        first_frames: No clips but what they begin with, and what the words of every request mean in it.
        area: What the clips' motion area is in training and in all measuring: every pixel that changes, or
            the hulls of the hands as in the paper. Both are stored; world.json says which one counts.
    """
    from handi.world.produce import Settings, produce

    settings = Settings(size, action, motion_blur, handheld, pictures, siblings, first_frames, area)
    failures = produce(out, clips=clips, seed=seed, settings=settings, workers=workers)
    for failure in failures:
        _say(f"error: {failure}")
    what = "first frames" if first_frames else "clips" if siblings == 1 else "seeds"
    _say(f"{clips - len(failures)} of {clips} {what} are in {out}")
    return 1 if failures else 0


def train(
    recipe: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RECIPE")],
    minutes: Annotated[float | None, _optional("N")] = None,
    resume: _Switch = False,
    fresh: _Switch = False,
    estimate: _Switch = False,
    entries: Annotated[
        tuple[str, ...],
        tyro.conf.UseAppendAction,
        tyro.conf.arg(name="section.key", metavar="VALUE", help_behavior_hint=""),
    ] = (),
) -> int:
    """Train one stage of a model by a recipe; stop it whenever you like, run it again and it goes on.

    Writes a run folder (runs/RECIPE, or --run.out DIR): log.jsonl with every loss term, sample sheets, whole
    checkpoints, and a complete model for `handi generate --model RUN/model`. What the next run should train
    on top of is named by --model.init.

    The bundled model's three trainings, on clips that `handi world` renders:
        handi world --clips 4000 --siblings 3 --out data/world/train
        handi world --clips 64 --seed 800000 --out data/world/val
        handi train mini_vae
        handi train mini_stage1
        handi train mini_stage2

    In pieces of half an hour; the pieces add up to the same run:
        handi train mini_stage2 --minutes 30

    Any entry of a recipe can be set on the command line, as --section.key value:
        handi train mini_stage1 --optim.lr 3e-4 --data.path my/clips --run.out runs/try

    A LoRA of your own footage (videos with a text file of the same name beside each):
        handi train folder_lora --data.path footage --model.init FOLDER_OR_HUB_ID

    What it would cost, measured by a few real steps:
        handi train folder_lora --data.path footage --model.init FOLDER_OR_HUB_ID --estimate

    On several GPUs, as accelerate launches:
        accelerate launch --num_processes 6 -m handi train epic_stage2 --optim.accumulate 1

    Args:
        recipe: A YAML file, or the name of one that ships with handi: mini_vae, mini_grounding, mini_stage1,
            mini_poses, mini_stage2, small_vae, small_stage1, small_stage2, epic_stage1, epic_stage2,
            ego4d_stage1, ego4d_stage2, epic_animate_anything, folder_lora.
        minutes: Stop after so many minutes, with a checkpoint and a model. 0 writes the model of the last
            checkpoint and trains nothing.
        resume: Insist on a checkpoint to go on from. Without it one is used where it is there.
        fresh: Begin anew; an earlier run in the folder is renamed to RUN.1, RUN.2, …
        estimate: Only say what a step takes in memory and time, and the whole recipe with it.
        entries: Any entry of the recipe, such as --optim.lr 1e-4 or --run.steps 2000.
    """
    from handi.recipes import find_recipe
    from handi.training.recipe import load_recipe, parse_overrides

    if resume and fresh:
        _usage("--resume and --fresh exclude each other", "train")
    overrides = parse_overrides([f"--{entry}" for entry in entries])
    if minutes is not None:
        overrides["run.minutes"] = str(minutes)
    loaded = load_recipe(find_recipe(recipe), overrides)
    if estimate:
        return _estimate(loaded)
    from handi.training.loop import train as run

    return run(loaded, resume="resume" if resume else "fresh" if fresh else "auto", say=_say)


def _estimate(recipe: Any) -> int:
    """A table for people on stderr, JSON for programs on stdout."""
    import json

    from rich.console import Console

    from handi.training.estimate import estimate
    from handi.training.estimate_table import table

    found = estimate(recipe)
    Console(stderr=True).print(table(found))
    for note in found.notes:
        _say(f"note: {note}")
    print(json.dumps(found.as_dict(), indent=2, ensure_ascii=False))
    return 0


def evaluate(
    pred: Path,
    ref: Path,
    out: Path,
    versus: Annotated[Path | None, _optional("DIR")] = None,
    metrics: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME …", help_behavior_hint="")] = (),
    scope: Literal["full", "area-mask", "area-crop"] = "full",
    subset: Literal["all", "motion-intensive"] = "all",
    context_frames: int = 1,
    resamples: int = 1000,
    cache: Annotated[Path | None, _optional("DIR")] = None,
    device: str = "auto",
) -> int:
    """Score generated videos against the true ones: the paper's metrics, with confidence intervals.

    Writes results.json (all figures, per video, n, intervals, what was skipped and why, hashes, versions) and
    results.csv to --out, and prints a table. A metric whose weights are not there is skipped with the reason;
    a video that cannot be scored is named, and the gap in n is stated.

    Both sides are folders, or JSONL manifests; videos are matched by id, the name without its ending. A
    folder holds videos (ID.mp4), arrays (ID.npy, F×H×W×3), what `handi generate --batch` wrote (ID/), frames
    (ID/0000.png …), clips of `handi world` or what `handi prepare` wrote; --ref may also hold
    motion_area/ID.png, context/ID.png, ID.txt and prompts.jsonl:
        handi world --clips 4 --seed 900000 --out data/test
        handi bench table2 --data data/test --methods handi=handi:mini static --out out/table2
        handi evaluate --pred out/table2/videos/test/handi --ref data/test --out out/scores

    Two models on the same videos, with the difference and its interval:
        handi evaluate --pred out/table2/videos/test/handi --versus out/table2/videos/test/static \\
            --ref data/test --out out/both

    Some metrics, inside the motion area alone, on the tenth of the clips with the largest areas:
        handi evaluate --pred out/table2/videos/test/handi --ref data/test --metrics hand pixels \\
            --scope area-mask --subset motion-intensive --out out/inside

    Without true videos (a --ref that holds motion areas and prompts) what needs none is still measured.
    docs/metrics.md defines every figure.

    Args:
        pred: Generated videos. A line of a manifest is {"id", "video"}.
        ref: True videos. A line of a manifest is {"id", "video"?, "area"?, "context"?, "text"?,
            "description"?, "truth"?}; paths count from the manifest's folder.
        out: Folder for the results.
        versus: Other generated videos, to compare with on the videos that both have.
        metrics: Names of metrics; without it all: hand, pixels, motion, world, and with weights that `handi
            doctor` lists fid, kid, fvd, kvd, clip, clip_text, egovlp, egovlp_ego4d, egovlp_stills, blip_base,
            blip_large, blip_base_ego4d, blip_large_ego4d.
        scope: The whole frame, or the true motion area: everything outside it black, or cut off at its box.
        subset: All videos, or the tenth of the true ones with the largest motion areas.
        context_frames: Frames at the start of every video that are given, not generated, and not scored.
        resamples: Of the bootstrap; a twentieth of it for distances between sets (FID, FVD, KID, KVD).
        cache: Folder of features by content, to share between runs; without it OUT/features.
        device: Where the networks run: auto, cpu, cuda, cuda:1, mps.
    """
    from rich.console import Console

    from handi.evaluation.evaluate import Settings
    from handi.evaluation.evaluate import evaluate as run
    from handi.evaluation.show import lines, table

    settings = Settings(metrics, scope, subset, context_frames, resamples, device)
    results = run(pred, ref, out, settings, versus=versus, cache_folder=cache, say=_say)
    Console().print(table(results))
    for line in lines(results):
        _say(line)
    _say(f"wrote {out / 'results.json'}")
    return 1 if results["n"] < results["asked"] else 0


def convert_weights(
    files: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE …")],
    out: Annotated[Path | None, _optional("PATH")] = None,
) -> int:
    """Turn pickled weight files of the metrics (.pth, .pt, .bin) into safetensors, running nothing in them.

    A pickled file is a program; the safetensors one holds numbers alone. Which model a file is, is told by
    its weights; its SHA-256 is checked where the published one is known, and goes into the new file.
    `handi doctor` lists the files, and where each is published.

        handi convert-weights epic_mir_plus.pth egovlp.pth pt_inception-2015-12-05-6726825d.pth

    Args:
        files: Weight files as published. EgoVLP's carry their trainer's settings and optimizer; those are
            left behind.
        out: A folder, or for one file a .safetensors file. Without it: where `handi evaluate` looks; the
            .bin of a transformers folder becomes the model.safetensors beside it.
    """
    from handi.evaluation.metrics.convert import convert

    if not files:
        _usage("name a file", "convert-weights")
    if len(files) > 1 and out is not None and out.suffix == ".safetensors":
        _usage("several files need a folder as --out", "convert-weights")
    failures = 0
    for file in files:
        try:
            target, weights = convert(file, out)
            _say(f"{file} is {weights.name} ({weights.serves}): wrote {target}")
        except Exception as error:
            failures += 1
            _say(f"error: {error if isinstance(error, HandiError) else item_failure(error, str(file))}")
    return 1 if failures else 0


def doctor() -> int:
    """Show versions, devices, memory and models; name what is missing and the command that mends it."""
    from rich.console import Console
    from rich.table import Table

    from handi.commands.doctor import examine

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column()
    table.add_column(overflow="fold")  # a path that is cut cannot be used
    broken = 0
    for finding in examine():
        mark = "[red]mend[/]" if not finding.ok else "[dim]–[/]" if finding.optional else "[green]ok[/]"
        table.add_row(mark, finding.topic, finding.text)
        if not finding.ok:
            broken += 1
            table.add_row("", "", f"[bold]run: {finding.mend}[/]")
    Console().print(table)
    return 1 if broken else 0


COMMANDS: dict[str, Callable[..., int]] = {
    "generate": generate,
    "hands": hands,
    "world": world,
    "prepare": prepare,
    "report": report,
    "areas": areas,
    "train": train,
    "evaluate": evaluate,
    "convert-weights": convert_weights,
    "bench": bench,
    "ablate": ablate,
    "gallery": gallery,
    "doctor": doctor,
}


def main() -> NoReturn:
    """Entry point. Exit codes: 0 done, 1 failed (one line on stderr), 2 wrong usage."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    if not debug:
        _quiet_libraries()
    try:
        sys.exit(tyro.cli(_parser(arguments), args=_joined(arguments), prog="handi", description=_ABOUT))
    except KeyboardInterrupt:
        _say("stopped")
        sys.exit(130)
    except BrokenPipeError:  # `handi … | head`: the reader has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if debug:
            raise
        if (known := expected(error)) is not None:
            _say(f"error: {known}")
        elif isinstance(error, MemoryError):
            _say("error: there is not enough memory; use smaller sizes or fewer at a time")
        else:
            summary = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            _say(f"error: {summary} (unexpected: run again with --debug and report it)")
        sys.exit(1)


_ABOUT = (
    "Hand-centric video generation: a photo, one sentence, and the hands in it do it. "
    "`handi COMMAND --help` explains a command; --debug shows the traceback of an error."
)


def _parser(arguments: list[str]) -> Any:
    """The subcommands as tyro reads them; in their list each is described by its first line alone."""
    listing = not arguments or arguments[0] not in COMMANDS
    return Union[  # noqa: UP007 (made at run time)
        tuple(
            Annotated[
                int,
                tyro.conf.subcommand(
                    name,
                    constructor=command,
                    description=(command.__doc__ or "").split("\n")[0] if listing else None,
                ),
            ]
            for name, command in COMMANDS.items()
        )
    ]


def _joined(arguments: list[str]) -> list[str]:
    """`handi train`'s --optim.lr 1e-4 as --section.key optim.lr=1e-4, which tyro can read; `ablate`'s too."""
    if arguments[:1] not in (["train"], ["ablate"]):
        return arguments
    joined, rest = arguments[:1], arguments[1:]
    while rest:
        argument = rest.pop(0)
        key, equals, value = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or "." not in key:
            joined.append(argument)
            continue
        if not equals:
            if not rest:
                _usage(f"{argument} has no value", arguments[0])
            value = rest.pop(0)
        joined += ["--section.key", f"{key}={value}"]
    return joined


def _parse_size(size: str | None) -> tuple[int | None, int | None]:
    if size is None:
        return None, None
    try:
        height, width = (int(side) for side in size.lower().replace("×", "x").split("x"))
    except ValueError as error:
        raise InputError(f"--size {size!r}", mend="write HEIGHTxWIDTH, e.g. 256x448") from error
    return height, width


def _usage(message: str, command: str = "generate") -> NoReturn:
    _say(f"error: {message}; see `handi {command} --help`")
    sys.exit(2)


def _say(message: str) -> None:
    print(message, file=sys.stderr)


def _quiet_libraries() -> None:
    """Leave stderr to our own lines: the libraries' bars and advice are for people who call them."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    import warnings

    warnings.filterwarnings("ignore")
