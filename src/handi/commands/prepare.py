"""`handi prepare`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import tyro

from handi.commands.options import Switch, optional, say, usage

MAX_SIDE = 4096  # px of a prepared frame


def prepare(
    kind: Annotated[
        Literal["epic-kitchens", "ego4d", "lego", "json", "folder", "world"],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="KIND"),
    ],
    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")],
    out: Path,
    videos: Annotated[tuple[Path, ...], optional("DIR [DIR …]")] = (),
    annotations: Annotated[Path | None, optional("PATH")] = None,
    size: Annotated[str, tyro.conf.arg(metavar="HxW")] = "256x448",
    frames: Literal["jpg", "png", "none"] = "jpg",
    model: Annotated[str | None, optional("FOLDER_OR_HUB_ID")] = None,
    text_states: Switch = False,
    enrich: Annotated[str | None, optional("MODEL|URL")] = None,
    enrich_model: Annotated[str | None, optional("NAME")] = None,
    camera: Literal["measure", "stabilise", "ignore"] = "measure",
    hull: Literal["hand", "all"] = "hand",
    truth: Annotated[Literal["hull", "moved"] | None, optional("{hull,moved}")] = None,
    complexity: Literal["full", "lite"] = "full",
    executor: Literal["serial", "processes", "ray"] = "processes",
    workers: Annotated[
        int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="(default: one per core)")
    ] = None,
    ray_address: Annotated[str | None, optional("ADDRESS")] = None,
    gpus_per_worker: float = 0.0,
    device: str = "auto",
    clips_per_shard: int = 64,
    limit: Annotated[int | None, optional("INT")] = None,
    held_out: float = 0.05,
) -> int:
    """Make footage ready to train on: cut, find hands and motion areas, cache latents; all in shards.

    KIND is what SOURCE holds: epic-kitchens, ego4d, lego, json (AnimateAnything's list), folder, or world.
    docs/data.md shows the layout of each, and of what is written: tars, an index, and a ledger with one line
    for every clip, kept or rejected and why. It can be stopped at any time and resumes when it is run again.
    The result is the same to the byte, whatever the executor and the number of workers.

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
        text_states: Cache its text encoder's states too: 118 kB per sentence at full size, and little gained.
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
        clips_per_shard: Of the source. A run that is killed loses at most one unfinished shard per worker.
        limit: Only so many clips, spread evenly over the source, to try things out.
        held_out: Share of the videos that is kept out of training, as the split val, where SOURCE (a folder
            or list) names no splits: whole videos, chosen by a hash of what they hold. 0: none.
    """
    from handi.core.inputs import parse_size
    from handi.data.claim import DESCRIPTIONS
    from handi.data.prepare_run import Models, Settings, Work, prepare_source

    height, width = parse_size(size, least=16, most=MAX_SIDE, multiple=8)
    if model is None and frames == "none":
        usage("prepare", "--frames none keeps latents alone: say whose, by --model")
    if model is None and text_states:
        usage("prepare", "--text-states needs a --model")
    if enrich_model is not None and enrich is None:
        usage("prepare", "--enrich-model needs --enrich")
    if executor != "ray" and (ray_address is not None or gpus_per_worker):
        usage("prepare", "--ray-address and --gpus-per-worker need --executor ray")
    if truth is not None and kind != "world":
        usage("prepare", f"--truth is for clips of the synthetic world, not for {kind}")
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
        videos=videos, annotations=annotations, limit=limit, held_out=held_out, say=say,
    )  # fmt: skip
    for split, counts in summary["splits"].items():
        size = f"{counts['bytes'] / 1e6:,.1f} MB"
        say(f"{split}: {counts['kept']:,} of {counts['clips']:,} clips kept, {size}")
        if split == "val" and not counts["kept"]:
            say("note: not one held-out clip was kept, so training has none to check itself on")
    say(f"wrote {out}; rejected clips and why: {out / 'ledger.jsonl'}")
    if faults := sum(counts.get("failed", 0) for counts in summary["splits"].values()):
        say(f"error: handi failed on {faults:,} clips: {out / 'ledger.jsonl'} says on which, and how")
        return 1
    if not any(counts["kept"] for counts in summary["splits"].values()):
        say(f"error: {out}: not one clip was kept; {out / 'ledger.jsonl'} says why for each")
        return 1
    return 0
