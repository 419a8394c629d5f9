"""`handi evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from handi.commands.options import USUAL, Switch, Work, optional, say


def evaluate(
    pred: Path,
    ref: Path,
    out: Path,
    versus: Annotated[Path | None, optional("DIR")] = None,
    metrics: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME …", help_behavior_hint="")] = (),
    scope: Literal["full", "area-mask", "area-crop"] = "full",
    subset: Literal["all", "motion-intensive"] = "all",
    context_frames: int = 1,
    resamples: int = 1000,
    cache: Annotated[Path | None, optional("DIR")] = None,
    device: str = "auto",
    work: Work = USUAL,
    json: Switch = False,
) -> int:
    """Score generated videos against the true ones: the paper's metrics, with confidence intervals.

    Writes results.json (all figures, per video, n, intervals, what was skipped and why, hashes, versions),
    results.csv and ledger.jsonl (a line for each video) to --out, and prints a table. A metric without its
    weights is skipped, with the reason; a video that cannot be scored is named, and the gap in n is stated.
    Stopped, it resumes when it is run again, and the figures are the same for any number of workers.

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

    Thousands of videos, by eight processes, each with the networks of its own and one thread:
        handi evaluate --pred out/table2/videos/test/handi --ref data/test --workers 8 --out out/many

    Without true videos (a --ref that holds motion areas and prompts) the metrics that need none still run.
    docs/metrics.md defines every figure.

    Args:
        pred: Generated videos. A line of a manifest is {"id", "video"}.
        ref: True videos. A line of a manifest is {"id", "video"?, "area"?, "context"?, "text"?,
            "description"?, "truth"?}; paths count from the manifest's folder.
        out: Folder for the results.
        versus: Other generated videos, to compare with on the ids that both have.
        metrics: Names of metrics, or FILE.py:CLASS for your own; without it all: hand, pixels, motion, world,
            and with weights that `handi doctor` lists fid, kid, fvd, kvd, clip, clip_text, egovlp,
            egovlp_ego4d, egovlp_stills, blip_base, blip_large, blip_base_ego4d, blip_large_ego4d.
        scope: The whole frame, or the true motion area: everything outside it black, or cut off at its box.
        subset: All videos, or the tenth of the true ones with the largest motion areas.
        context_frames: Frames at the start of every video that are given and so not scored.
        resamples: Bootstrap resamples; a twentieth of them for distances between sets (FID, FVD, KID, KVD).
        cache: Folder of features by content, which runs may share; without it OUT/features.
        device: Where the networks run: auto, cpu, cuda, cuda:1, mps; auto gives each process a GPU in turn.
        json: Print what results.json holds instead of the table.
    """
    from rich.console import Console

    from handi.core.reading import read_text
    from handi.evaluation.results import remarks, results_table
    from handi.evaluation.run import EvaluationConfig
    from handi.evaluation.run import evaluate as run

    config = EvaluationConfig(metrics, scope, subset, context_frames, resamples, device)
    results = run(
        pred, ref, out, config, versus=versus, cache_folder=cache, say=say, executor=work.open("evaluate")
    )
    if json:
        print(read_text(out / "results.json"), end="")
    else:
        Console().print(results_table(results))
    for line in remarks(results):
        say(line)
    say(f"wrote {out / 'results.json'}")
    return 1 if results["n"] < results["asked"] else 0
