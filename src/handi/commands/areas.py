"""`handi areas`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from handi.commands.options import USUAL, Work, optional, say


def areas(
    model: Annotated[str, tyro.conf.arg(metavar="FOLDER_OR_HUB_ID")],
    data: Annotated[Path, tyro.conf.arg(metavar="DIR")],
    area_steps: Annotated[int | None, optional("INT")] = None,
    area_guidance: Annotated[float | None, optional("FLOAT")] = None,
    batch_size: int = 8,
    seed: int = 0,
    work: Work = USUAL,
    device: str = "auto",
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto",
) -> int:
    """Sample stage 1 over prepared clips: the motion areas that stage 2 learns with (Eq. 3).

    Writes DIR/areas: the soft area of every training clip, and of every clip of the split val, or else test.
    A recipe of stage 2 then gives them to its samples: `data: {mask: {generated: 1}}`. Stopped, it
    resumes at the next shard when it is run again.

        handi areas --model runs/epic_stage1/model --data data/epic
        handi train epic_stage2

    Args:
        model: The model whose stage 1 makes the areas: what stage 2 will be trained from.
        data: What `handi prepare … --out` wrote.
        area_steps: Denoising steps of stage 1; by default the model's own.
        area_guidance: Classifier-free guidance of stage 1; by default the model's own.
        batch_size: Clips that are sampled together.
        seed: Seed of the noise; each clip's noise follows from this number and its id.
        device: auto, cpu, cuda, cuda:1, mps; auto gives each process a GPU in turn.
        dtype: Precision; auto is bfloat16 on a GPU, float32 on a CPU.
    """
    from handi.training.areas import AreaSettings, make_areas

    settings = AreaSettings(area_steps, area_guidance, seed, batch_size, device, dtype)
    made = make_areas(model, data, settings, work.open("areas"))
    kept = made.clips - made.made
    say(f"{made.made} areas made" + (f", {kept} were there" if kept else "") + f": {data / 'areas'}")
    say(f"overlap with the true areas: mean IoU {made.iou:.3f} over {made.clips} clips")
    return 0
