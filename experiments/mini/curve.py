"""How far one step of stage 2 is from the truth, whatever the sampler: the figure of a training curve.

FVU, the fraction of variance unexplained: squared error of the predicted clean latents in the motion area,
over the error of copying the context. 1 is a still, 0 the truth.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from experiments.estimates import estimate, ratio, table
from experiments.mini.clips import Row, column, shuffled
from experiments.mini.measures import BATCH, Bench
from experiments.mini.model import NULL, PipelineModel
from handi.method import diffusion
from handi.method.losses import predict_x0
from handi.models.backbone import Given
from handi.world import WorldClip

TIMES = (999, 700, 300)


@torch.no_grad()
def step_errors(
    model: PipelineModel, clips: Sequence[WorldClip], prompts: Sequence[str], time: int
) -> list[tuple[float, float]]:
    """For each clip the summed squared error in its true area of one step at `time`, and of the context."""
    pipe = model.pipe
    frames = torch.stack([pipe.encode_images(clip.frames)[:, :, 0] for clip in clips])  # B×F×C×h×w
    truth = frames.transpose(1, 2)  # B×C×F×h×w
    context = truth[:, :, :1]
    area = torch.from_numpy(np.stack([clip.area_moved for clip in clips])).to(truth)  # B×H×W
    cells = F.adaptive_max_pool2d(area[:, None], truth.shape[-2:])[:, :, None]  # B×1×1×h×w
    truth = context * (1 - cells) + truth * cells
    noise = diffusion.clip_noise(truth.shape[1:], [clip.seed for clip in clips], stream=2).to(truth)
    backbone = pipe.backbone
    t = torch.full((len(clips),), time, device=truth.device)
    alpha, sigma = backbone.process.levels(t)
    x_t = alpha.view(-1, 1, 1, 1, 1) * truth + sigma.view(-1, 1, 1, 1, 1) * noise
    motion = torch.full((len(clips),), pipe.card.stage2.motion, device=truth.device)
    given = Given(truth, torch.arange(truth.shape[2]).expand(len(clips), -1), motion=motion)
    layout = backbone.clip(pipe.unet, given, area)
    prediction = backbone.predict(pipe.unet, x_t, t, pipe.encode_text(prompts), layout)
    guess = predict_x0(prediction, x_t, alpha, sigma, backbone.process.kind)
    return [
        (float(ours), float(copy))
        for ours, copy in zip(_total(guess, truth, cells), _total(context, truth, cells), strict=True)
    ]


def _total(guess: Tensor, truth: Tensor, cells: Tensor) -> Tensor:
    """Summed squared error in the cells, frames after the first: B."""
    return ((guess - truth).square() * cells)[:, :, 1:].sum((1, 2, 3, 4))


def curve(bench: Bench) -> str:
    """The section's table."""
    few, model = bench.few, bench.model
    assert isinstance(model, PipelineModel)
    texts = {"own": [clip.text for clip in few], "null": [NULL] * len(few)}
    texts["shuffled"] = shuffled(bench.clips)[: len(few)]
    cells: dict[tuple[str, int], list[Row]] = {}
    for name, time in [("own", time) for time in TIMES] + [("null", TIMES[0]), ("shuffled", TIMES[0])]:

        def compute(name: str = name, time: int = time) -> list[Row]:
            rows: list[Row] = []
            for first in range(0, len(few), BATCH):
                part = slice(first, first + BATCH)
                for clip, (ours, copy) in zip(
                    few[part], step_errors(model, few[part], texts[name][part], time), strict=True
                ):
                    rows.append({"seed": clip.seed, "error": ours, "copy": copy})
            return rows

        seeds = [clip.seed for clip in few]
        cells[name, time] = bench.store.rows(f"curve {name} {time}", seeds, compute)
    rows, own = [], cells["own", TIMES[0]]
    for (name, time), scored in cells.items():
        gap = estimate(
            lambda a, b, c: (a - b) / c, column(scored, "error"), column(own, "error"), column(own, "copy")
        )
        score = ratio(column(scored, "error"), column(scored, "copy")).text(3)
        rows.append([name, time, score, gap.text(3) if name != "own" else "", len(scored)])
    title = "One step of stage 2 in the true area, error over that of copying the context (FVU):\n\n"
    return title + table(["prompt", "t", "FVU", "worse than own by", "clips"], rows)
