"""The commands about data: `handi prepare`, `handi report`. Thin, as cli.py is."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import tyro

from handi.core.errors import InputError


def _optional(metavar: str) -> Any:
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="")


MAX_SIDE = 4096  # px of a prepared frame
_Switch = Annotated[bool, tyro.conf.FlagCreatePairsOff]


def prepare(
    kind: Annotated[
        Literal["epic-kitchens", "ego4d", "lego", "json", "folder", "world"],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="KIND"),
    ],
    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")],
    out: Path,
    videos: Annotated[tuple[Path, ...], _optional("DIR [DIR …]")] = (),
    annotations: Annotated[Path | None, _optional("PATH")] = None,
    size: Annotated[str, tyro.conf.arg(metavar="HxW")] = "256x448",
    frames: Literal["jpg", "png", "none"] = "jpg",
    model: Annotated[str | None, _optional("FOLDER_OR_HUB_ID")] = None,
    text_states: _Switch = False,
    enrich: Annotated[str | None, _optional("MODEL|URL")] = None,
    enrich_model: Annotated[str | None, _optional("NAME")] = None,
    camera: Literal["measure", "stabilise", "ignore"] = "measure",
    hull: Literal["hand", "all"] = "hand",
    truth: Annotated[Literal["hull", "moved"] | None, _optional("{hull,moved}")] = None,
    complexity: Literal["full", "lite"] = "full",
    executor: Literal["serial", "processes", "ray"] = "processes",
    workers: Annotated[
        int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="(default: one a core)")
    ] = None,
    ray_address: Annotated[str | None, _optional("ADDRESS")] = None,
    gpus_per_worker: float = 0.0,
    device: str = "auto",
    clips_per_shard: int = 64,
    limit: Annotated[int | None, _optional("INT")] = None,
    held_out: float = 0.05,
) -> int:
    """Make footage ready to train on: cut, find hands and motion areas, cache latents; all in shards.

    KIND is what SOURCE holds: epic-kitchens, ego4d, lego, json (AnimateAnything's list), folder, or world.
    docs/data.md shows the layout of each, and of what is written: tars, an index, and a ledger with one line
    for every clip, kept or rejected and why. Kill it whenever you like; run it again and it goes on, and the
    result is the same to the byte, whatever the executor and the number of workers.

    EPIC-KITCHENS-100, with the latents of the model that will be trained:
        handi prepare epic-kitchens EPIC-KITCHENS --model models/animate-anything --out data/epic
        handi train epic_stage1

    Your own videos, each with a text file of the same name, a few of them first:
        handi prepare folder footage --limit 20 --out data/trial

    On a Ray cluster, sixteen workers on four GPUs; every machine must see SOURCE and --out:
        handi prepare ego4d ego4d_data --executor ray --ray-address auto --workers 16 --gpus-per-worker 0.25 \
            --out /mnt/data/ego4d

    Args:
        kind: epic-kitchens, ego4d, lego, json, folder, world.
        source: The source's folder or list.
        out: Folder for the shards.
        videos: Further folders of footage, where it does not lie in SOURCE.
        annotations: EPIC-KITCHENS-100's CSV files, where they do not lie in SOURCE.
        size: Height and width of the frames; they are cropped around their middle to its aspect.
        frames: How frames are kept. none: latents alone, which needs --model; stage 1 and 2 can be trained
            on them, by the model that made them.
        model: Cache the latents of this model's autoencoder, in float16.
        text_states: Cache its text encoder's states too: 118 kB a sentence at full size, and little gained.
        enrich: Have a vision-language model write out in full what the hands do, where the source has no
            description: a transformers folder or hub id, or the address of an OpenAI-compatible server.
            Answers are kept in OUT/descriptions.
        enrich_model: The model's name at that address.
        camera: Its motion is measured against the first frame, and with stabilise undone: what the camera had
            out of view shows the first frame. Clips in which it cannot be measured are rejected then.
        hull: The motion area is one hull for each hand, or one over all hands of a frame.
        truth: Of world clips: take their exact joints, and this exact area, instead of the detector's.
        complexity: MediaPipe's full networks, or its lite ones: faster, less exact.
        executor: serial: this process. processes: several. ray: Ray Data, `pip install 'handi[ray]'`.
        workers: Processes or actors, with a thread and their own models each.
        ray_address: A cluster's address, or auto; without it Ray runs on this machine.
        gpus_per_worker: Share of a GPU that Ray gives to a worker.
        device: Of detector and encoders: auto, cpu, cuda, cuda:1; auto deals GPUs out to processes in turn.
        clips_per_shard: Of the source. What a killed run loses is a started shard a worker.
        limit: Only so many clips, spread evenly over the source, to try things out.
        held_out: Share of the videos that is kept out of training, as the split val, where SOURCE (a folder
            or list) names no splits: whole videos, chosen by a hash of what they hold. 0: none.
    """
    from handi.data.claim import DESCRIPTIONS
    from handi.data.prepare_run import Models, Settings, Work, prepare_source

    height, width = _parse_size(size)
    if model is None and frames == "none":
        _usage("--frames none keeps latents alone: say whose, by --model")
    if model is None and text_states:
        _usage("--text-states needs a --model")
    if enrich_model is not None and enrich is None:
        _usage("--enrich-model needs --enrich")
    if executor != "ray" and (ray_address is not None or gpus_per_worker):
        _usage("--ray-address and --gpus-per-worker need --executor ray")
    if truth is not None and kind != "world":
        _usage(f"--truth is for clips of the synthetic world, not for {kind}")
    descriptions = out / DESCRIPTIONS if enrich is not None else None
    models = Models(device, complexity, model, text_states, enrich, enrich_model, descriptions)
    settings = Settings(
        size=(height, width),
        camera=camera,
        hull=hull,
        pictures=frames,
        truth=truth,
        clips_per_shard=clips_per_shard,
        models=models.hashes(),
    )
    work = Work(executor, (os.cpu_count() or 1) if workers is None else workers, ray_address, gpus_per_worker)
    summary = prepare_source(
        kind, source, out, settings, models, work,
        videos=videos, annotations=annotations, limit=limit, held_out=held_out, say=_say,
    )  # fmt: skip
    for split, counts in summary["splits"].items():
        size = f"{counts['bytes'] / 1e6:,.1f} MB"
        _say(f"{split}: {counts['kept']:,} of {counts['clips']:,} clips kept, {size}")
        if split == "val" and not counts["kept"]:
            _say("note: not one held-out clip was kept, so training has none to check itself on")
    _say(f"wrote {out}; rejected clips and why: {out / 'ledger.jsonl'}")
    if faults := sum(counts.get("failed", 0) for counts in summary["splits"].values()):
        _say(f"error: handi failed on {faults:,} clips: {out / 'ledger.jsonl'} says on which, and how")
        return 1
    if not any(counts["kept"] for counts in summary["splits"].values()):
        _say(f"error: {out}: not one clip was kept; {out / 'ledger.jsonl'} says why for each")
        return 1
    return 0


def report(
    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")],
    out: Annotated[Path | None, _optional("FILE.html")] = None,
    validate: _Switch = False,
    samples: int = 24,
) -> int:
    """Write the data card of prepared clips: one HTML page that any browser opens.

    Counts per split, why clips were rejected, verbs and nouns, lengths, hands per frame, motion area, camera
    motion, and a page of samples with mask and skeletons, the worst-looking first.

        handi report data/epic

    Read every clip again and fail, with names, where anything is not as it was written:
        handi report data/epic --validate

    Args:
        folder: What `handi prepare … --out` wrote.
        out: Where the page goes; DIR/report.html by default.
        validate: Check every byte: hashes, pictures, arrays, counts. Exit code 1 where something is damaged.
        samples: Clips shown; half of them the worst, the others spread over the rest.
    """
    from handi.data.report import write_report
    from handi.data.validate import validate as read_again

    if samples < 1:
        _usage(f"--samples {samples}: use 1 or more", "report")
    damages = read_again(folder) if validate else None
    for damage in (damages or [])[:50]:
        _say(f"error: {damage}")
    _say(f"wrote {write_report(folder, out, samples=samples, damages=damages)}")
    if damages:
        mend = "delete the shards that are named and run handi prepare again: it makes what is missing"
        _say(f"error: {folder}: {len(damages)} damages; {mend}")
        return 1
    return 0


def areas(
    model: Annotated[str, tyro.conf.arg(metavar="FOLDER_OR_HUB_ID")],
    data: Annotated[Path, tyro.conf.arg(metavar="DIR")],
    steps: Annotated[int | None, _optional("INT")] = None,
    guidance: Annotated[float | None, _optional("FLOAT")] = None,
    batch: int = 8,
    seed: int = 0,
    device: str = "auto",
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto",
) -> int:
    """Sample stage 1 over prepared clips: the motion areas that stage 2 learns with (Eq. 3).

    Writes DIR/areas: the soft area of every training clip, and of every clip of the split val, or else test.
    A recipe of stage 2 then gives them to its samples: `data: {mask: {generated: 1}}`. Kill it whenever you
    like; run it again and it makes what is missing, a shard at a time.

        handi areas --model runs/epic_stage1/model --data data/epic
        handi train epic_stage2

    Args:
        model: The model whose stage 1 makes the areas: what stage 2 will be trained from.
        data: What `handi prepare … --out` wrote.
        steps: Denoising steps; the model's own without it.
        guidance: Classifier-free guidance; the model's own without it.
        batch: Clips that are sampled together.
        seed: Of the noise; each clip has its own, from this number and its id.
        device: auto, cpu, cuda, cuda:1, mps.
        dtype: Precision; auto is bfloat16 on a GPU, float32 on a CPU.
    """
    from handi.training.areas import Settings, make_areas

    made = make_areas(model, data, Settings(steps, guidance, seed, batch, device, dtype))
    kept = made.clips - made.made
    _say(f"{made.made} areas made" + (f", {kept} were there" if kept else "") + f": {data / 'areas'}")
    _say(f"overlap with the true areas: mean IoU {made.iou:.3f} over {made.clips} clips")
    return 0


def _parse_size(size: str) -> tuple[int, int]:
    try:
        height, width = (int(side) for side in size.lower().replace("×", "x").split("x"))
    except ValueError:
        height = width = 0
    if not 16 <= min(height, width) <= max(height, width) <= MAX_SIDE or height % 8 or width % 8:
        mend = f"write HEIGHTxWIDTH in multiples of 8, {MAX_SIDE} at most, e.g. 256x448"
        raise InputError(f"--size {size!r}", mend=mend)
    return height, width


def _usage(message: str, command: str = "prepare") -> NoReturn:
    _say(f"error: {message}; see `handi {command} --help`")
    sys.exit(2)


def _say(message: str) -> None:
    print(message, file=sys.stderr)
