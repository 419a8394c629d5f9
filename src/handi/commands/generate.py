"""`handi generate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from handi.commands.options import USUAL, Switch, Work, optional, say, usage


def _model_default(metavar: str) -> Any:
    """How an option is shown that is left to the model's card."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="(default: the model's own)")


_Int = Annotated[int | None, _model_default("INT")]
_Float = Annotated[float | None, _model_default("FLOAT")]


def generate(
    out: Path,
    image: Annotated[str | None, optional("FILE")] = None,
    prompt: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, optional("TEXT")] = (),
    batch: Annotated[Path | None, optional("FILE.jsonl")] = None,
    model: str = "mini",
    base: Annotated[str | None, optional("FOLDER_OR_HUB_ID")] = None,
    mask: Annotated[str | None, optional("FILE")] = None,
    poses: Annotated[str | None, optional("FILE")] = None,
    area_from: Literal["mask", "poses"] = "mask",
    pose_steps: int = 1,
    pose_guidance: _Float = None,
    seed: int = 0,
    steps: _Int = None,
    guidance: _Float = None,
    area_steps: _Int = None,
    area_guidance: _Float = None,
    guidance_interval: tuple[float, float] = (0.0, 1.0),
    frames: _Int = None,
    size: Annotated[str | None, optional("HxW")] = None,
    motion: _Float = None,
    background: Literal["restore", "generate"] = "restore",
    save_frames: Switch = False,
    batch_size: int = 1,
    work: Work = USUAL,
    device: str = "auto",
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto",
    offload: Switch = False,
    variant: Annotated[str | None, optional("NAME")] = None,
    lora: Annotated[str | None, optional("FILE")] = None,
    enrich: Annotated[str | None, optional("MODEL|URL")] = None,
    enrich_model: Annotated[str | None, optional("NAME")] = None,
) -> int:
    """Make a video from a picture and a sentence, or many from a batch file.

    Writes video.mp4 (H.264), motion_area.png, motion_area_soft.png, motion_flow.png, last_frame.png and
    run.json to --out, and poses.json and poses.png where the model says how the hands will move.

    One clip:
        handi generate --image kitchen.jpg --prompt "Julienne carrot." --out out/carrot

    With your own motion area, painted white on black, or the one of an earlier run, edited:
        handi generate --image kitchen.jpg --prompt "Julienne carrot." --mask area.png --out out/carrot

    Moving as your own hands do, or as an edited poses.json says (docs/poses.md):
        handi generate --image kitchen.jpg --prompt "Julienne carrot." --poses my_hands.mp4 --out out/carrot

    Several actions, one after the other: each clip starts from the last frame of the one before. --out gets
    the video of all, and clips/1, clips/2 and so on. Stopped, it resumes:
        handi generate --image kitchen.jpg --prompt "Pick up the knife." --prompt "Cut the carrot." \\
            --out out/meal

    Many clips, one per line: {"image": ..., "prompt": ..., "mask"?, "poses"?, "seed"?, "motion"?, "id"?}.
    Stopped, it resumes when it is run again; ledger.jsonl has a line for each. On four GPUs, or on a cluster
    (docs/cluster.md), each worker loads the model once:
        handi generate --batch clips.jsonl --out out/clips
        handi generate --batch clips.jsonl --workers 4 --out out/clips

    Args:
        out: Folder for the results; with --batch, the parent of one folder per clip.
        image: The context image: a scene with a hand or hands ready to act. "example" is a picture that
            ships with handi.
        prompt: The action, as a short sentence. Given several times, it is a sequence.
        batch: File of requests, one JSON object per line. Relative paths in it count from its own folder.
        model: A model folder (handi's, AnimateAnything's, HANDI/IVG's, a folder of adapters, Wan's or LTX's
            of diffusers), a hub id "owner/name", or
            "mini": the small model that ships with handi, 128×128, trained on a synthetic kitchen table
            (docs/mini.md). "random": the same kind of thing untrained; its pixels mean nothing.
        base: Of a folder of adapters (docs/backbones.md): the model of diffusers that they are for, where it
            is not where handi.json says.
        mask: Motion area to use instead of stage 1's: a picture, bright where things may move, or "full".
            In a sequence it counts for every clip.
        poses: How the hands move, for models that take poses: a poses.json, such as an earlier run's,
            edited, or a video of hands, whose movement is put into the picture.
        area_from: If no mask is given: the motion area is stage 1's, or the hulls of the hands' poses.
        pose_steps: Denoising steps of the poses. One gives their mean; with more, the
            seed chooses among them.
        pose_guidance: Guidance of stage 2 on the hands' poses; above 1 follows them more closely.
        seed: Same seed, same clip. In a batch file it is the seed of lines without one.
        steps: Denoising steps of stage 2, the video.
        guidance: Classifier-free guidance of stage 2; 1 or less turns it off.
        area_steps: Denoising steps of stage 1, the motion area.
        area_guidance: Classifier-free guidance of stage 1.
        guidance_interval: From which to which share of the steps guidance acts, in both stages. The others
            are half the work: 0 0.5 saves a quarter of it, and gives another clip (docs/speed.md).
        frames: Frames of the clip, the context image included.
        size: Exact size in pixels, e.g. 256x448; the picture is cropped to its aspect. Without it: the
            picture's own aspect at the area that the model was trained at.
        motion: AnimateAnything's motion strength.
        background: What stands outside the motion area: the context image itself, or what was generated.
        save_frames: Write frames/*.png too (lossless).
        batch_size: Clips of a batch file that are generated together.
        device: auto, cpu, cuda, cuda:1, mps; auto gives each process a GPU in turn.
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
    if (batch is None) == (image is None):
        usage("generate", "give --image and --prompt, or --batch")
    if batch is None and not prompt:
        usage("generate", "--image needs a --prompt")
    if len(prompt) > 1 and poses is not None:
        usage("generate", "--poses is the movement of one clip, and there are several prompts")
    if batch is not None and (prompt, mask, poses) != ((), None, None):
        usage("generate", "with --batch, prompts, masks and poses stand in the file")
    if batch is None and work != USUAL:
        usage("generate", "workers are for a --batch of clips")
    if batch_size < 1:
        usage("generate", f"--batch-size {batch_size}: use 1 or more")
    if enrich_model is not None and enrich is None:
        usage("generate", "--enrich-model needs --enrich")
    # torch and diffusers take seconds to import: wrong usage does not wait for them.
    from handi.core.inputs import parse_size
    from handi.generation.batch import run_batch
    from handi.generation.requests import ClipRequest, GenerationSettings, read_batch
    from handi.generation.run import run_one
    from handi.generation.sequence import run_sequence

    height, width = (None, None) if size is None else parse_size(size)
    settings = GenerationSettings(
        model=model,
        base=base,
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
        pose_guidance=pose_guidance,
        guidance_from=guidance_interval[0],
        guidance_until=guidance_interval[1],
        restore_background=background == "restore",
        save_frames=save_frames,
        device=device,
        dtype=dtype,
        offload=offload,
        enrich=enrich,
        enrich_model=enrich_model,
    )
    if batch is None:
        request = ClipRequest(str(image), prompt[0], mask=mask, poses=poses, seed=seed, motion=motion)
        if len(prompt) > 1:
            run_sequence(request, prompt, settings, out, say=say)
            say(f"wrote {out / 'video.mp4'}")
            return 0
        for note in run_one(request, settings, out, say=say).notes:
            say(f"note: {note}")
        say(f"wrote {out / 'video.mp4'}")
        return 0
    requests, bad_lines = read_batch(batch, seed=seed)
    executor = work.open("generate")
    made = run_batch(requests, settings, out, batch_size=batch_size, say=say, executor=executor)
    failures = [*bad_lines, *made]
    for failure in failures:
        say(f"error: {failure}")
    done = len(requests) + len(bad_lines) - len(failures)
    say(f"{done} of {len(requests) + len(bad_lines)} clips are in {out}")
    return 1 if failures else 0
