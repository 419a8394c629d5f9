"""Sample sheets: what a model in training makes of held-out clips, for the eye.

Of every sample a band with its caption, then strips of frames: the truth, what was generated, and the hands
of both. In front of the strips: the context image, the motion areas (true: green line, stage 1: magenta),
and their agreement. A PNG for a glance, an mp4 of the same in motion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw

from handi.core.images import resize, write_image
from handi.core.types import BinaryMask, Frames, Picture, SoftMask
from handi.core.video import even_indices, write_video
from handi.hands.detector import HandDetector
from handi.hands.joints import draw_hands

TRUE_COLOUR, STAGE1_COLOUR = (64, 224, 96), (255, 64, 224)  # RGB
BAND, GAP = 18, 4  # px: caption above a sample, white below it


@dataclass(frozen=True)
class Sample:
    """One held-out clip and what the model made of it; what is None is not shown."""

    caption: str
    truth: Frames  # F×H×W×3, frame 0 is the context image
    generated: Frames | None = None  # F×H×W×3
    area: BinaryMask | None = None  # H×W, the true motion area
    stage1: SoftMask | None = None  # H×W in [0, 1], the motion area of stage 1
    joints: np.ndarray | None = None  # F×42×2 in [0, 1], of the truth; None: as Υ reads them


def sample_sheet(
    samples: Sequence[Sample],
    path: str | Path,
    *,
    detector: HandDetector | None = None,
    columns: int = 8,
    height: int = 160,
    fps: float = 8.0,
) -> list[Path]:
    """Write `path` with .png and .mp4; gives both.

    detector: Υ, for the skeletons; None: only known joints are drawn. columns: frames of a clip in the PNG.
    height: px that larger frames are shrunk to. Raises: ValueError for no samples, OutputError.
    """
    if not samples:
        raise ValueError("a sheet of no samples")
    path = Path(path)
    rows = [_rows(sample, detector, height) for sample in samples]
    still = [_still(sample, each, columns) for sample, each in zip(samples, rows, strict=True)]
    moving = [_moving(sample, each) for sample, each in zip(samples, rows, strict=True)]
    write_image(path.with_suffix(".png"), np.concatenate(_widened(still)))
    frames = max(len(clip) for clip in moving)
    clips = [clip[np.minimum(np.arange(frames), len(clip) - 1)] for clip in moving]
    write_video(path.with_suffix(".mp4"), np.concatenate(_widened(clips), axis=1), fps=fps)
    return [path.with_suffix(".png"), path.with_suffix(".mp4")]


def draw_area(
    picture: Picture, mask: np.ndarray, colour: tuple[int, int, int], *, tint: float = 0
) -> Picture:
    """A copy of an H×W×3 picture with the outline of an H×W mask (at 0.5), tinted inside by its values."""
    soft = np.asarray(mask, np.float32)[..., None] * tint
    canvas = np.rint(picture * (1 - soft) + np.array(colour, np.float32) * soft).astype(np.uint8)
    outlines, _ = cv2.findContours((mask > 0.5).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(canvas, outlines, -1, colour, 1)


# -------------------------------------------------------------------------------------------- layout


def _rows(sample: Sample, detector: HandDetector | None, height: int) -> list[tuple[str, Frames]]:
    """(label, frames) of each strip."""
    rows = [("truth", _shrunk(sample.truth, height))]
    if sample.generated is not None:
        rows.append(("generated", _shrunk(sample.generated, height)))
    hands = []
    for label, frames in rows:
        joints = sample.joints if label == "truth" else None
        if joints is None and detector is not None:
            original = sample.truth if label == "truth" else sample.generated
            joints = detector.detect(np.ascontiguousarray(original)).joints.cpu().numpy()
        if joints is not None:
            dark = (frames // 2).astype(np.uint8)
            drawn = [draw_hands(frame, hand) for frame, hand in zip(dark, joints, strict=True)]
            hands.append((f"hands, {label}", np.stack(drawn)))
    return rows + hands


def _still(sample: Sample, rows: list[tuple[str, Frames]], columns: int) -> Picture:
    """The PNG's part of one sample: in front of each strip a tile, then frames 1 … F-1 evenly."""
    tiles = _tiles(sample, rows)
    strips = []
    for number, (label, frames) in enumerate(rows):
        blank = np.full_like(frames[0], 255)
        tile_label, tile = tiles[number] if number < len(tiles) else ("", blank)
        moving = frames[1:] if len(frames) > 1 else frames
        chosen = [moving[i] for i in even_indices(len(moving), min(columns, len(moving)))]
        chosen[0] = _labelled(chosen[0], label)
        strips.append(np.concatenate([_labelled(tile, tile_label), *chosen], axis=1))
    for tile_label, tile in tiles[len(rows) :]:  # more tiles than strips: a strip of truth alone
        line = np.full_like(strips[0], 255)
        line[:, : tile.shape[1]] = _labelled(tile, tile_label)
        strips.append(line)
    return _captioned(np.concatenate(strips)[None], sample.caption)[0]


def _moving(sample: Sample, rows: list[tuple[str, Frames]]) -> Frames:
    """The mp4's part of one sample: the tiles, then each strip as a moving picture, side by side."""
    frames = max(len(clip) for _, clip in rows)
    panels = [
        np.repeat(_labelled(tile, label)[None], frames, axis=0) for label, tile in _tiles(sample, rows)[1:]
    ]
    panels += [
        np.stack([_labelled(clip[min(i, len(clip) - 1)], label) for i in range(frames)])
        for label, clip in rows
    ]
    return _captioned(np.concatenate(panels, axis=2), sample.caption)


def _tiles(sample: Sample, rows: list[tuple[str, Frames]]) -> list[tuple[str, Picture]]:
    """Context image, and the areas drawn on it."""
    context = rows[0][1][0]
    size = context.shape[:2]
    tiles = [("context", context)]
    if sample.area is not None or sample.stage1 is not None:
        picture, labels = context, []
        if sample.stage1 is not None:
            picture = draw_area(picture, resize(sample.stage1, *size), STAGE1_COLOUR, tint=0.5)
            labels.append("stage 1")
        if sample.area is not None:
            picture = draw_area(picture, resize(sample.area.astype(np.float32), *size), TRUE_COLOUR)
            labels.insert(0, "true")
        tiles.append((f"area: {', '.join(labels)}", picture))
        if len(labels) == 2:
            tiles.append((f"area: IoU {_iou(sample.area, sample.stage1):.2f}", _agreement(sample, size)))
    return tiles


def _agreement(sample: Sample, size: tuple[int, int]) -> Picture:
    """The soft area of stage 1 in grey, with the true one's outline."""
    assert sample.stage1 is not None
    assert sample.area is not None
    grey = np.rint(resize(sample.stage1, *size).clip(0, 1) * 255).astype(np.uint8)
    return draw_area(
        np.repeat(grey[..., None], 3, axis=2), resize(sample.area.astype(np.float32), *size), TRUE_COLOUR
    )


def _iou(area: BinaryMask | None, stage1: SoftMask | None) -> float:
    assert area is not None
    assert stage1 is not None
    binary = stage1 >= 0.5
    union = np.logical_or(area, binary).sum()
    return float(np.logical_and(area, binary).sum() / union) if union else 1.0


def _shrunk(frames: Frames, height: int) -> Frames:
    if frames.shape[1] <= height:
        return frames
    return resize(frames, height, round(frames.shape[2] * height / frames.shape[1]))


def _labelled(picture: Picture, label: str) -> Picture:
    """A copy with a small label in its lower left corner, readable on any ground."""
    if not label:
        return picture
    image = Image.fromarray(picture)
    place = (3, picture.shape[0] - 13)
    ImageDraw.Draw(image).text(place, label, fill="white", stroke_width=1, stroke_fill="black")
    return np.asarray(image)


def _captioned(frames: Frames, caption: str) -> Frames:
    """Frames with a white band of the caption above and a gap below."""
    width = frames.shape[2]
    band = Image.new("RGB", (width, BAND), "white")
    draw = ImageDraw.Draw(band)
    while caption and draw.textlength(caption) > width - 6:
        caption = caption[: max(0, len(caption) - 4)].rstrip() + "…" if len(caption) > 4 else ""
    draw.text((3, 3), caption, fill="black")
    top = np.repeat(np.asarray(band)[None], len(frames), axis=0)
    below = np.full((len(frames), GAP, width, 3), 255, np.uint8)
    return np.concatenate([top, frames, below], axis=1)


def _widened(pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
    """…×H×W×3 arrays of equal W, white on the right."""
    width = max(picture.shape[-2] for picture in pictures)
    widths = [[(0, 0)] * (p.ndim - 2) + [(0, width - p.shape[-2]), (0, 0)] for p in pictures]
    return [np.pad(p, each, constant_values=255) for p, each in zip(pictures, widths, strict=True)]
