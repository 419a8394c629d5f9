"""Contact sheets of `score.py`: the first test clips and the first groups of siblings, as they come."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from experiments.mini.measures import Bench
from experiments.mini.model import restored
from experiments.world.contact import contact_sheet
from handi.core.images import write_image
from handi.world import WorldClip

COLUMNS = 8
CLIPS_PER_PAGE = 4


def sheets(bench: Bench, clips: int = 12, groups: int = 4) -> str:
    """Write the PNGs; gives their names as Markdown."""
    chosen, names = bench.clips[:clips], []
    for first in range(0, len(chosen), CLIPS_PER_PAGE):
        part = chosen[first : first + CLIPS_PER_PAGE]
        names.append(_save(bench.out / f"clips_{first // CLIPS_PER_PAGE + 1}.png", clip_page(bench, part)))
    for group in bench.groups[:groups]:
        names.append(_save(bench.out / f"siblings_{group[0].seed}.png", sibling_page(bench, group)))
    return "Sheets, the first of the test seeds, unpicked: " + ", ".join(names) + "\n"


def clip_page(bench: Bench, clips: Sequence[WorldClip]) -> np.ndarray:
    """Three rows per clip: truth, reconstruction and generated, each with an area at its end: the true one,
    stage 1's soft mask, and the area that was used (with the true one's outline in red)."""
    texts = [clip.text for clip in clips]
    soft, areas = bench.model.areas(clips, texts)
    made = bench.model.videos(clips, texts, areas)
    true = np.stack([clip.area_moved for clip in clips])
    rebuilt = restored(bench.model.reconstruct(clips), clips, true)
    rows, labels, ends = [], [], []
    for n, clip in enumerate(clips):
        rows += [clip.frames, rebuilt[n], made[n]]
        labels += [f"{clip.text}   (seed {clip.seed}, truth; true area)", "reconstruction; stage 1, soft"]
        labels += ["generated; area used, true outline"]
        grey = np.rint(soft[n] * 255).astype(np.uint8)
        ends += [_tint(clip.frames[0], clip.area_moved), np.repeat(grey[..., None], 3, axis=-1)]
        ends += [_outline(_tint(clip.frames[0], areas[n]), clip.area_moved)]
    return _with_ends(rows, labels, ends)


def sibling_page(bench: Bench, group: Sequence[WorldClip]) -> np.ndarray:
    """Two rows per sibling, truth and generated, all from one first frame."""
    texts = [clip.text for clip in group]
    _, areas = bench.model.areas(group, texts)
    made = bench.model.videos(group, texts, areas)
    rows, labels, ends = [], [], []
    for n, clip in enumerate(group):
        rows += [clip.frames, made[n]]
        labels += [
            f"{clip.text}   (seed {clip.seed}, truth; true area)",
            "generated; area used, true outline",
        ]
        ends += [_tint(clip.frames[0], clip.area_moved)]
        ends += [_outline(_tint(clip.frames[0], areas[n]), clip.area_moved)]
    return _with_ends(rows, labels, ends)


def _with_ends(rows: list[np.ndarray], labels: list[str], ends: list[np.ndarray]) -> np.ndarray:
    # The last picture of each row is the area, so each row is one clip of COLUMNS + 1 frames.
    columns = np.rint(np.linspace(0, len(rows[0]) - 1, COLUMNS)).astype(int)
    strips = [np.concatenate([row[columns], end[None]]) for row, end in zip(rows, ends, strict=True)]
    return contact_sheet(strips, labels=labels, columns=COLUMNS + 1)


def _tint(picture: np.ndarray, area: np.ndarray) -> np.ndarray:
    """The picture, darker outside the area."""
    return np.where(area[..., None], picture, picture // 3).astype(np.uint8)


def _outline(picture: np.ndarray, area: np.ndarray) -> np.ndarray:
    canvas = np.ascontiguousarray(picture)
    outlines, _ = cv2.findContours(area.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(canvas, outlines, -1, (255, 40, 40), 1)
    return canvas


def _save(path: Path, picture: np.ndarray) -> str:
    write_image(path, picture)
    return path.name
