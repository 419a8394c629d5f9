"""Other actions from the same first frame: only the sentence says which area and which clip is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import numpy as np

from experiments.estimates import Estimate, mean, table
from experiments.mini.clips import Row, column
from experiments.mini.measures import Bench, iou, pack, unpack
from experiments.mini.model import still
from handi.world import WorldClip, judges

OTHER_ROLES = ("which",)  # entries of a choice that name no prop
PIECE = 8  # groups whose clips are made between two looks at the disk


def area_groups(bench: Bench) -> list[Row]:
    """Stage 1, a row per group: its areas; for each ordered pair of siblings, whether the area made for the
    first overlaps more with its own true area than with the other's (1, 0, a half); and whether the two act
    on different things."""

    def compute() -> list[Row]:
        flat = [clip for group in bench.groups for clip in group]
        _, areas = bench.model.areas(flat, [clip.text for clip in flat])
        rows = []
        for group, place in _places(bench.groups):
            own = areas[place]
            rows.append({"seed": group[0].seed, "areas": [pack(area) for area in own], **_pairs(group, own)})
        return rows

    return bench.store.rows("siblings areas", _seeds(bench), compute)


def _pairs(group: Sequence[WorldClip], areas: np.ndarray) -> Row:
    scores = [[iou(area, clip.area_moved) for clip in group] for area in areas]
    pairs = list(permutations(range(len(group)), 2))
    return {
        "nearer": [(scores[i][i] > scores[i][j]) + 0.5 * (scores[i][i] == scores[i][j]) for i, j in pairs],
        "apart": [on_other_things(group[i], group[j]) for i, j in pairs],
    }


def on_other_things(a: WorldClip, b: WorldClip) -> bool:
    """Whether two clips of a scene have no prop in common that plays a part."""
    props = [{name for role, name in clip.choice.items() if role not in OTHER_ROLES} for clip in (a, b)]
    return not props[0] & props[1]


def clip_groups(bench: Bench) -> list[Row]:
    """Both stages, a row per group: `judges.same_context` of the generated clips, of the truth, of stills."""

    groups, areas = bench.groups, area_groups(bench)

    def compute(piece: slice) -> list[Row]:
        rows = []
        for group, row in zip(groups[piece], areas[piece], strict=True):
            own = np.stack([unpack(area, group[0].size) for area in row["areas"]])
            made = bench.model.videos(group, [clip.text for clip in group], own)
            truths = [clip.frames for clip in group]
            videos = {"generated": list(made), "truth": truths, "still": list(still(group))}
            scores = {name: judges.same_context(clips, truths) for name, clips in videos.items()}
            rows.append({"seed": group[0].seed, "clips": len(group), **scores})
        return rows

    return bench.store.rows_in_pieces("siblings clips", [group[0].seed for group in groups], compute, PIECE)


def _places(groups: Sequence[Sequence[WorldClip]]) -> list[tuple[Sequence[WorldClip], slice]]:
    """Each group, and where its clips are in the list of all."""
    ends = np.cumsum([len(group) for group in groups])
    return [(group, slice(end - len(group), end)) for group, end in zip(groups, ends, strict=True)]


def _seeds(bench: Bench) -> list[int]:
    return [clip.seed for group in bench.groups for clip in group]


# -------------------------------------------------------------------------------------- summaries


def apart_shares(rows: Sequence[Row], *, other_things: bool) -> tuple[Estimate, int]:
    """Share of sibling pairs whose area is nearer to its own truth (chance is one half), mean over groups,
    and how many pairs; `other_things`: only pairs that act on different things."""
    pairs = sum(sum(row["apart"]) if other_things else len(row["apart"]) for row in rows)
    return mean(pair_shares(rows, other_things=other_things)), pairs


def pair_shares(rows: Sequence[Row], *, other_things: bool) -> list[float]:
    """That share, group by group; NaN for one without such pairs."""
    shares = []
    for row in rows:
        chosen = [n for n, a in zip(row["nearer"], row["apart"], strict=True) if a or not other_things]
        shares.append(float(np.mean(chosen)) if chosen else np.nan)
    return shares


def area_table(bench: Bench) -> str:
    """Of stage 1."""
    rows, lines = area_groups(bench), []
    for name, other in (("all pairs", False), ("pairs that act on different things", True)):
        share, pairs = apart_shares(rows, other_things=other)
        lines.append([name, share.percent, f"{pairs} pairs in {share.n} groups"])
    title = "Siblings, area nearer to its own truth than to the other's (95 % interval over groups):\n\n"
    return title + table(["siblings", "share", "of"], lines)


def clip_table(bench: Bench) -> str:
    """Of both stages."""
    rows = clip_groups(bench)
    of = f"{len(rows)} groups, {sum(row['clips'] for row in rows)} clips"
    lines = [
        [name, mean(column(rows, key)).text(3), of]
        for name, key in (
            ("**generated**, each in its stage-1 area", "generated"),
            ("the true clips", "truth"),
            ("stills (chance)", "still"),
        )
    ]
    title = "Siblings, same context and other action (`judges.same_context`; 95 % interval over groups):\n\n"
    return title + table(["clips are", "nearest to their own", "of"], lines)
