"""Autoencoder and stage 2 of `score.py`: pixels, hands, state and background, with floor and ceiling."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from experiments.estimates import pooled_psnr, table
from experiments.mini.clips import Row, column
from experiments.mini.measures import (
    Bench,
    found,
    found_again,
    found_anywhere,
    hand_count,
    joint_error,
    mean_state,
    psnr_in_area,
    score_videos,
    squared_error,
    unpack,
)
from experiments.mini.model import ghost, restored, smear, still
from experiments.mini.stage1 import own_areas
from handi.method.area import clean_area
from handi.world import WorldClip

STEPS = (1, 2, 4, 8, 16)
PIECE = 24  # clips that are measured between two looks at the disk
GUIDANCE = (1.0, 1.5, 2.0)
POSE_GUIDANCE = (1.0, 1.5, 2.0, 3.0)
OVERLAPS = (0.0, 0.5, 0.8, 0.9, 1.0)


# ------------------------------------------------------------------------------------- autoencoder


def original_rows(bench: Bench) -> list[Row]:
    """The true clips themselves."""
    seeds = [clip.seed for clip in bench.clips]
    return bench.store.rows("truth", seeds, lambda: score_videos(bench, bench.clips, _truth), any_model=True)


def control_rows(bench: Bench) -> dict[str, list[Row]]:
    """What needs no model and moves nothing: the context image, a smear, a ghost."""
    clips = bench.clips
    result = {}
    for name, make in {"still": still, "smear": smear, "ghost": ghost}.items():

        def compute(name: str = name, make: Callable = make) -> list[Row]:
            return score_videos(bench, clips, lambda part, _: make(part), hands=name == "still")

        result[name] = bench.store.rows(name, [clip.seed for clip in clips], compute, any_model=True)
    return result


def reconstruction_rows(bench: Bench) -> list[Row]:
    """The true clips through the autoencoder, background restored outside the true area; and the errors of
    the decoded frames before that, on all pixels and on the moving ones."""

    def compute() -> list[Row]:
        plain: list[Row] = []

        def make(clips: list[WorldClip], _: slice) -> np.ndarray:
            frames = bench.model.reconstruct(clips)
            for clip, one in zip(clips, frames, strict=True):
                everywhere, pixels = squared_error(one, clip.frames)
                moving, moving_pixels = squared_error(one, clip.frames, clip.area_moved)
                plain.append(
                    {
                        "plain_error": everywhere,
                        "plain_count": pixels,
                        "moving_error": moving,
                        "moving_count": moving_pixels,
                    }
                )
            return restored(frames, clips, true_areas(clips))

        rows = score_videos(bench, bench.clips, make)
        return [row | more for row, more in zip(rows, plain, strict=True)]

    return bench.store.rows("reconstruction", [clip.seed for clip in bench.clips], compute)


def true_areas(clips: Sequence[WorldClip]) -> np.ndarray:
    """N×H×W."""
    return np.stack([clip.area_moved for clip in clips])


def true_poses(clips: Sequence[WorldClip]) -> np.ndarray:
    """N×F×42×2."""
    return np.stack([clip.joints2d for clip in clips])


def _truth(clips: list[WorldClip], _: slice) -> np.ndarray:
    return np.stack([clip.frames for clip in clips])


def autoencoder(bench: Bench) -> str:
    """The section's table."""
    truth, rebuilt = original_rows(bench), reconstruction_rows(bench)
    n, hands = len(rebuilt), hand_count(truth, acting=False)
    everywhere = pooled_psnr(column(rebuilt, "plain_error"), column(rebuilt, "plain_count"))
    moving = pooled_psnr(column(rebuilt, "moving_error"), column(rebuilt, "moving_count"))
    rows = [
        ["PSNR, all pixels of the frames", everywhere.text(2, unit=" dB"), f"{n} clips"],
        ["PSNR, moving pixels", moving.text(2, unit=" dB"), f"{n} clips"],
    ]
    for name, scored in (("originals", truth), ("reconstructions", rebuilt)):
        rows.append(
            [f"hands that Υ finds in the {name}", found(scored, acting=False).percent, f"{hands} hands"]
        )
    for name, acting in (("of the originals' hands, found again", False), ("the same, acting hands", True)):
        again = found_again(rebuilt, truth, acting=acting)
        rows.append([name, again.percent, f"{hand_count(truth, acting=acting, found=True)} hands"])
    title = "Autoencoder (PSNR before, hands after the background is restored; 95 % interval):\n\n"
    return title + table(["what", "figure", "of"], rows)


# ----------------------------------------------------------------------------------------- stage 2


def video_rows(
    bench: Bench, name: str, clips: Sequence[WorldClip], prompts: Sequence[str], areas: np.ndarray,
    steps: int | None = None, guidance: float | None = None, *, hands: bool = True,
    poses: np.ndarray | None = None, pose_guidance: float | None = None,
) -> list[Row]:  # fmt: skip
    """Stage 2 in the given areas, told the given poses, else the model's own, and scored; "outside" counts
    pixels off the area that are not the context's."""
    steps = bench.model.steps[1] if steps is None else steps
    guidance = bench.model.guidance if guidance is None else guidance
    pose_guidance = bench.model.pose_guidance if pose_guidance is None else pose_guidance

    def compute(piece: slice) -> list[Row]:
        outside: list[int] = []
        said, told = prompts[piece], areas[piece]

        def make(part: list[WorldClip], place: slice) -> np.ndarray:
            shown = None if poses is None else poses[piece][place]
            videos = bench.model.videos(part, said[place], told[place], steps, guidance, shown, pose_guidance)
            for clip, video, area in zip(part, videos, told[place], strict=True):
                outside.append(int((video != clip.frames[0]).any(-1)[:, ~area].sum()))
            return videos

        rows = score_videos(bench, clips[piece], make, hands=hands)
        return [row | {"outside": count} for row, count in zip(rows, outside, strict=True)]

    seeds = [clip.seed for clip in clips]
    return bench.store.rows_in_pieces(
        name, seeds, compute, PIECE,
        steps=steps, guidance=guidance, pose_guidance=pose_guidance, hands=hands,
    )  # fmt: skip


def used_areas(bench: Bench) -> np.ndarray:
    """Stage 1's areas of all clips, N×H×W."""
    size = bench.clips[0].size
    return np.stack([unpack(row["area"], size) for row in own_areas(bench)])


def generated_rows(bench: Bench) -> list[Row]:
    """Both stages as `handi generate` runs them."""
    prompts = [clip.text for clip in bench.clips]
    return video_rows(bench, "stage2", bench.clips, prompts, used_areas(bench))


def stage2(bench: Bench) -> str:
    """The section's tables."""
    clips, few = bench.clips, bench.few
    prompts = [clip.text for clip in clips]
    areas, k = used_areas(bench), len(few)
    truth, rebuilt, ours = original_rows(bench), reconstruction_rows(bench), generated_rows(bench)
    told = video_rows(bench, "stage2 true area", few, prompts[:k], true_areas(few))
    grown = np.stack([clean_area(area.astype(np.float32)) for area in true_areas(few)])
    told_grown = video_rows(bench, "stage2 true area, grown", few, prompts[:k], grown)
    shown = video_rows(
        bench, "stage2 true area and poses", few, prompts[:k], true_areas(few), poses=true_poses(few)
    )
    controls = control_rows(bench)
    model = bench.model
    text = (
        f"Stage 2 ({model.steps[1]} steps, guidance {model.guidance:g} on the words and "
        f"{model.pose_guidance:g} on the poses; 95 % interval):\n\n"
    )
    rows = [
        _line("truth", truth, rebuilt),
        _line("through the autoencoder", rebuilt, rebuilt),
        _line("**generated, stage-1 area**", ours, rebuilt),
        _line("generated, stage-1 area, the next line's clips", ours[:k], rebuilt[:k]),
        _line("generated, true area", told, rebuilt[:k]),
        _line("generated, true area and poses", shown, rebuilt[:k]),
        _line("generated, true area grown as stage 1's are", told_grown, rebuilt[:k]),
        _line("still (copy of the context)", controls["still"], rebuilt),
        _line("smear (the area in its mean colour)", controls["smear"], rebuilt),
        _line("ghost (mean of the true frames, standing)", controls["ghost"], rebuilt),
    ]
    text += table(HEADER, rows)
    hands = {acting: hand_count(rebuilt, acting=acting) for acting in (True, False)}
    seen = {acting: found(rebuilt, acting=acting).percent for acting in (True, False)}
    off = sum(row["outside"] for row in ours)
    text += (
        f"\nHands that count in all {len(clips)} clips: {hands[False]}, of which Υ finds {seen[False]} in "
        f"the reconstructions; of acting sides {hands[True]}, of which it finds {seen[True]}.\n"
        f"Pixels outside the area used that differ from the context: {off} of "
        f"{_outside_count(areas, clips)}.\n"
    )

    text += "\nBy how well the area used overlaps with the true one:\n\n" + _by_area(bench, ours, rebuilt)
    rows = []
    for action in sorted({row["action"] for row in ours}):
        part, same = ([r for r in some if r["action"] == action] for some in (ours, rebuilt))
        rows.append([action, *_cells(part, same)])
    return text + "\nBy action:\n\n" + table(["action", *SHORT], rows)


def sweeps(bench: Bench) -> str:
    """Tables of the few clips by steps, guidance on the words and guidance on the poses."""
    few, model = bench.few, bench.model
    prompts, k = [clip.text for clip in few], len(few)
    areas, rebuilt = used_areas(bench), reconstruction_rows(bench)
    rows = []
    for steps in STEPS:
        rows.append(_short(bench, f"stage2 steps {steps}", few, areas[:k], rebuilt[:k], steps=steps))
    text = f"By the number of steps (guidance {model.guidance:g}):\n\n" + table(["steps", *SHORT], rows)
    rows = []
    for scale in GUIDANCE:
        name = f"stage2 guidance {scale:g}"
        rows.append(_short(bench, name, few, areas[:k], rebuilt[:k], guidance=scale))
    text += f"\nBy guidance ({model.steps[1]} steps):\n\n" + table(["guidance", *SHORT], rows)
    if model.reads_poses:
        rows = []
        for scale in POSE_GUIDANCE:
            for kind, area, poses in (
                ("predicted, stage-1 area", areas[:k], None),
                ("true, true area", true_areas(few), true_poses(few)),
            ):
                name = f"stage2 pose guidance {scale:g}, {kind}"
                scored = video_rows(bench, name, few, prompts[:k], area, poses=poses, pose_guidance=scale)
                rows.append([f"{scale:g}", kind, *_cells(scored, rebuilt[:k])])
        text += "\nBy guidance on the poses:\n\n" + table(["guidance", "poses", *SHORT], rows)
    return text


def _by_area(bench: Bench, ours: Sequence[Row], rebuilt: Sequence[Row]) -> str:
    """Where stage 1 is right, what is left is stage 2's: the figures of clips whose areas are alike good."""
    overlap, whole = np.array(column(own_areas(bench), "iou")), sum(column(ours, "error")) or 1
    rows = []
    for least, most in itertools.pairwise(OVERLAPS):
        chosen = np.flatnonzero((overlap >= least) & ((overlap < most) | (most == 1)))
        if len(chosen):
            some, same = ([part[n] for n in chosen] for part in (ours, rebuilt))
            share = f"{100 * sum(column(some, 'error')) / whole:.0f} %"
            rows.append([f"{least:g} to {most:g}", *_cells(some, same), share])
    return table(["IoU", *SHORT, "of the squared error"], rows)


HEADER = (
    "clips are", "PSNR in the true area, dB", "hands found again, acting", "all hands",
    "anywhere in the area", "joint error / box, acting", "state change", "clips",
)  # fmt: skip
SHORT = ("PSNR in the true area, dB", "hands found again, acting", "state change", "clips")


def _line(name: str, rows: Sequence[Row], reference: Sequence[Row]) -> list[object]:
    """A line of the main table; found again: of the hands that Υ finds in the reference."""
    hands = ["", "", "", ""]
    if "hands" in rows[0]:
        hands = [found_again(rows, reference, acting=acting).percent for acting in (True, False)]
        hands.append(found_anywhere(rows, reference).percent)
        hands.append(joint_error(rows, acting=True).text(3))
    return [name, psnr_in_area(rows).text(2), *hands, mean_state(rows).text(2), len(rows)]


def _short(
    bench: Bench, name: str, clips: Sequence[WorldClip], areas: np.ndarray, reference: Sequence[Row],
    *, steps: int | None = None, guidance: float | None = None,
) -> list[object]:  # fmt: skip
    if steps in (None, bench.model.steps[1]) and guidance in (None, bench.model.guidance):
        rows = generated_rows(bench)[: len(clips)]
    else:
        rows = video_rows(bench, name, clips, [clip.text for clip in clips], areas, steps, guidance)
    return [steps if steps is not None else f"{guidance:g}", *_cells(rows, reference)]


def _cells(rows: Sequence[Row], reference: Sequence[Row]) -> list[object]:
    """The cells of SHORT."""
    again = found_again(rows, reference, acting=True)
    return [psnr_in_area(rows).text(1), again.percent, mean_state(rows).text(2), len(rows)]


def _outside_count(areas: np.ndarray, clips: Sequence[WorldClip]) -> int:
    return int((~areas).sum()) * len(clips[0].frames)
