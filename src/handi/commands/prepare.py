"""`handi prepare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from handi.commands.options import CORES, USUAL, Switch, Work, optional, say, say_summary, usage

MAX_SIDE = 4096  # px of a prepared frame


def prepare(
    kind: Annotated[
        Literal[
            "epic-kitchens", "ego4d", "lego", "json", "folder", "lerobot", "egodex", "webdataset", "world"
        ],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="KIND"),
    ],
    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")],
    out: Path,
    videos: Annotated[tuple[Path, ...], optional("DIR [DIR …]")] = (),
    annotations: Annotated[Path | None, optional("PATH")] = None,
    camera_key: Annotated[str | None, optional("KEY")] = None,
    hands_key: Annotated[str | None, optional("KEY")] = None,
    size: Annotated[str | None, tyro.conf.arg(metavar="HxW", help_behavior_hint="(default: 256x448)")] = None,
    frames: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="(default: 16)")] = None,
    fps: Annotated[float | None, optional("FLOAT")] = None,
    pictures: Annotated[Literal["jpg", "png", "none"] | None, optional("{jpg,png,none}")] = None,
    model: Annotated[str | None, optional("FOLDER_OR_HUB_ID")] = None,
    text_states: Switch = False,
    enrich: Annotated[str | None, optional("MODEL|URL")] = None,
    enrich_model: Annotated[str | None, optional("NAME")] = None,
    camera: Annotated[
        Literal["measure", "stabilise", "ignore"] | None, optional("{measure,stabilise,ignore}")
    ] = None,
    hull: Literal["hand", "all"] = "hand",
    truth: Literal["auto", "hull", "moved", "none"] = "auto",
    complexity: Literal["full", "lite"] = "full",
    work: Work = USUAL,
    device: str = "auto",
    clips_per_shard: int = 64,
    limit: Annotated[int | None, optional("INT")] = None,
    held_out: float = 0.05,
) -> int:
    """Make footage ready to train on: cut, find hands and motion areas, cache latents; all in shards.

    KIND is what SOURCE holds: epic-kitchens, ego4d, lego, json (AnimateAnything's list), folder, lerobot
    (v3 or v2), egodex, webdataset (tars of videos and JSON), or world. docs/data.md shows the layout of each,
    and of what is written: tars, an index, and a ledger with one line for every clip, kept or rejected and
    why. It can be stopped at any time and resumes when it is run again. The result is the same to the byte,
    whatever the executor and the number of workers.

    EPIC-KITCHENS-100, with the latents of the model that will be trained:
        handi prepare epic-kitchens EPIC-KITCHENS --model models/animate-anything --out data/epic
        handi train epic_stage1

    Your own videos, each with a text file of the same name, a few of them first:
        handi prepare folder footage --limit 20 --out data/trial

    A LeRobot dataset, seen by the camera on the head; a wrong key is answered with those that there are:
        handi prepare lerobot datasets/kitchen --camera-key observation.images.head --out data/kitchen

    EgoDex, whose own joints take the place of the hand detector's, with the head's motion undone:
        handi prepare egodex EgoDex --camera stabilise --out data/egodex

    Clips of the synthetic world, with their exact hands and motion areas (`handi world --prepare DIR` renders
    them without a folder between):
        handi world --clips 1000 --out data/rendered
        handi prepare world data/rendered --out data/world/train

    Longer clips at a rate of their own, for a backbone of 49 frames:
        handi prepare folder footage --frames 49 --fps 8 --out data/long

    On a Ray cluster, sixteen workers on four GPUs; every machine must see SOURCE and --out:
        handi prepare ego4d ego4d_data --executor ray --ray-address auto --workers 16 --gpus-per-worker 0.25 \
            --out /mnt/data/ego4d

    Args:
        kind: epic-kitchens, ego4d, lego, json, folder, lerobot, egodex, webdataset, world.
        source: The source's folder or list.
        out: Folder for the shards.
        videos: Folders of footage that is not in SOURCE.
        annotations: Folder of EPIC-KITCHENS-100's CSV files, if they are not in SOURCE.
        camera_key: Of lerobot: whose videos to take. Without it those of the only camera, or of the only one
            with ego, head, fpv or "first person" in its key.
        hands_key: Of lerobot: the feature with the 2-D joints of both hands (42×2 numbers per frame, shares
            of the picture's sides) in the place of the detector's. Without it observation.hands.joints, if
            there is such a feature.
        size: Height and width of the frames; they are cropped around their middle to its aspect. Clips of the
            world keep their own without it.
        frames: Frames per clip, the context image included. Clips of the world keep their own number.
        fps: Frames per second, from the clip's start; a clip that is too short is rejected. Without
            it the frames are spread evenly over the whole action.
        pictures: How frames are kept: jpg, or png, which is lossless and what clips of the world are kept as.
            none: latents alone, which needs --model; stage 1 and 2 can be trained on them, by the model that
            made them.
        model: Cache the latents of this model's autoencoder, in float16.
        text_states: Cache its text encoder's states too: 118 kB per sentence at full size, for little gain.
        enrich: Have a vision-language model write out in full what the hands do, where the source has no
            description: a transformers folder or hub id, or the address of an OpenAI-compatible server.
            Answers are kept in OUT/descriptions.
        enrich_model: The model's name at that address.
        camera: measure its motion against the first frame (the default). stabilise: undo it too; what the
            camera did not see is filled from the first frame, and clips whose motion cannot be measured are
            rejected. ignore: neither, as for clips of the world with their exact hands.
        hull: The motion area is one hull for each hand, or one over all hands of a frame.
        truth: For clips of the world: take their exact joints and this exact area; auto: the one that
            world.json says. none: use the hand detector, as for footage. Where another source knows its
            hands, auto takes them and none does not.
        complexity: MediaPipe's full networks, or its lite ones: faster, less exact.
        device: For detector and encoders: auto, cpu, cuda, cuda:1; auto gives each process a GPU in turn.
        clips_per_shard: Clips of the source per shard. A run that is killed loses at most one unfinished
            shard per worker.
        limit: Only so many clips, spread evenly over the source, to try things out.
        held_out: Share of the videos that is kept out of training, as the split val, where SOURCE (a folder
            or list) names no splits: whole videos, chosen by a hash of what they hold. 0: none.
    """
    from handi.core.inputs import parse_size
    from handi.data.prepare import ToolsMaker, prepare_source

    if model is None and pictures == "none":
        usage("prepare", "--pictures none keeps latents alone: say whose, by --model")
    if model is None and text_states:
        usage("prepare", "--text-states needs a --model")
    if enrich_model is not None and enrich is None:
        usage("prepare", "--enrich-model needs --enrich")
    if truth in ("hull", "moved") and kind != "world":
        usage("prepare", f"--truth {truth} is for clips of the synthetic world, not for {kind}")
    if (camera_key or hands_key) and kind != "lerobot":
        usage("prepare", f"--camera-key and --hands-key are for lerobot, not for {kind}")
    asked = {
        "size": None if size is None else parse_size(size, least=16, most=MAX_SIDE, multiple=8),
        "frames": frames, "fps": fps, "hull": hull,
        "pictures": pictures, "camera": camera, "clips_per_shard": clips_per_shard,
    }  # fmt: skip
    summary = prepare_source(
        kind, source, out, asked,
        ToolsMaker(device, complexity, model, text_states, enrich, enrich_model),
        work.open("prepare", CORES),
        truth=truth, videos=videos, annotations=annotations, camera_key=camera_key, hands_key=hands_key,
        limit=limit, held_out=held_out, say=say,
    )  # fmt: skip
    return say_summary(summary, out)
