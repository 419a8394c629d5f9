"""From palms and landmarks to hand regions: MediaPipe's geometry, to the last bit.

A region is the rectangle that a network reads. All arithmetic is float32 in MediaPipe's order (0.10.21:
tensors_to_detections, non_max_suppression, detection_letterbox_removal, detections_to_rects,
hand_landmarks_to_rect, rect_transformation, landmark_projection). That is not pedantry: where a region is cut
out, source coordinates are rounded to 1/32 px, so one unit in the last place changes a pixel; and in video
mode each frame's region comes from the last frame's landmarks, which makes pixels out of it in ten frames.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

F32 = np.float32

PALM_INPUT = 192  # px, side of the palm network's picture
HAND_INPUT = 224  # px, side of the landmark network's
MAX_HANDS = 2

NMS_IOU = 0.3  # palms that overlap more are one
SAME_HAND_IOU = 0.5  # regions that overlap more are one hand
PALM_SCALE, PALM_SHIFT = F32(2.6), F32(-0.5)  # palm box → hand region; the shift is towards the fingers
TRACK_SCALE, TRACK_SHIFT = F32(2.0), F32(-0.1)  # landmarks' box → region in the next frame
# Landmarks that stay put when fingers bend: wrist, thumb but its tip, the first two of each finger.
STABLE = (0, 1, 2, 3, 5, 6, 9, 10, 13, 14, 17, 18)
WRIST, INDEX_MCP, MIDDLE_MCP, RING_MCP = 0, 5, 9, 13
PALM_WRIST, PALM_MIDDLE = 0, 2  # among the palm's seven key points


@dataclass(frozen=True)
class Region:
    """A rotated rectangle: centre and sides in [0, 1] of the frame, rotation in radians clockwise."""

    x: np.float32
    y: np.float32
    width: np.float32
    height: np.float32
    rotation: np.float32

    def square(self, height: int, width: int) -> np.ndarray:
        """(centre x, centre y, side, rotation) in px of an H×W frame, float32: the square that is cut out."""
        side = max(self.width * F32(width), self.height * F32(height))
        return np.array([self.x * F32(width), self.y * F32(height), side, self.rotation], F32)

    def padding(self, height: int, width: int) -> np.ndarray:
        """(left or right, top or bottom) border that the square adds, as a share of its side."""
        aspect = (self.height * F32(height)) / (self.width * F32(width))
        if aspect < 1:
            return np.array([0, (F32(1) - aspect) / F32(2)], F32)
        return np.array([(F32(1) - F32(1) / aspect) / F32(2), 0], F32)


WHOLE_FRAME = Region(F32(0.5), F32(0.5), F32(1), F32(1), F32(0))


@dataclass(frozen=True)
class Palm:
    """A palm in [0, 1] of the frame, float32."""

    score: float
    box: np.ndarray  # x, y of the top left corner, width, height
    points: np.ndarray  # 7×2


def anchors() -> np.ndarray:
    """2016×2 (x, y) in [0, 1]: centres of 24×24 cells twice and of 12×12 cells six times."""
    layers = []
    for cells, each in ((24, 2), (12, 6)):
        centres = (np.arange(cells, dtype=F32) + F32(0.5)) / F32(cells)
        y, x = np.meshgrid(centres, centres, indexing="ij")
        layers.append(np.stack([x, y], axis=-1).reshape(-1, 2).repeat(each, axis=0))
    return np.concatenate(layers)


ANCHORS = anchors()


def find_palms(
    boxes: np.ndarray, logits: np.ndarray, height: int, width: int, confidence: float
) -> list[Palm]:
    """Decode the palm network (boxes 2016×18, logits 2016): at most two palms, the surest first."""
    scores = F32(1) / (F32(1) + np.exp(-logits.clip(-100, 100).astype(np.float64)).astype(F32))
    keep = np.flatnonzero((scores >= F32(confidence)) & (boxes[:, 2:4] >= 0).all(axis=1))
    keep = keep[np.argsort(-scores[keep], kind="stable")]
    values = boxes[keep] / F32(PALM_INPUT)  # centre, size, 7 points; all but the size from the anchor
    centre, half = values[:, :2] + ANCHORS[keep], values[:, 2:4] / F32(2)
    low, high = centre - half, centre + half
    points = values[:, 4:].reshape(-1, 7, 2) + ANCHORS[keep, None]
    border = WHOLE_FRAME.padding(height, width)  # the network saw a square around the frame
    inside = F32(1) - (border + border)
    return [
        Palm(score, np.concatenate([(corner - border) / inside, size / inside]), (seven - border) / inside)
        for score, corner, size, seven in _weighted_nms(scores[keep], low, high - low, points)
    ]


def _weighted_nms(
    scores: np.ndarray, corners: np.ndarray, sizes: np.ndarray, points: np.ndarray
) -> Iterator[tuple[float, np.ndarray, np.ndarray, np.ndarray]]:
    """Blend each group of overlapping palms by their scores; inputs are sorted, the surest first."""
    for _ in range(MAX_HANDS):
        if not len(scores):
            return
        together = _iou(corners[0], sizes[0], corners, sizes) > NMS_IOU
        if not together.any():  # a box without area overlaps not even itself
            return
        weights = scores[together]
        total = _running_sum(weights)
        low = _running_sum(corners[together] * weights[:, None]) / total
        high = _running_sum((corners[together] + sizes[together]) * weights[:, None]) / total
        yield (
            float(scores[0]),
            low,
            high - low,
            _running_sum(points[together] * weights[:, None, None]) / total,
        )
        scores, corners, sizes, points = (part[~together] for part in (scores, corners, sizes, points))


def _running_sum(values: np.ndarray) -> np.ndarray:
    """Sum over the first axis one after the other; numpy's own sum pairs its terms, and rounds otherwise."""
    return np.add.accumulate(values, axis=0, dtype=F32)[-1]


def _iou(corner: np.ndarray, size: np.ndarray, corners: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Overlap of one box with N others, in [0, 1]."""
    low, high = np.maximum(corner, corners), np.minimum(corner + size, corners + sizes)
    common = (high - low).clip(0).prod(axis=1)
    return common / np.maximum(size.prod() + sizes.prod(axis=1) - common, F32(1e-12))


def palm_region(palm: Palm, height: int, width: int) -> Region:
    """Where the hand of a palm is: the box turned along wrist → middle finger, shifted and enlarged."""
    frame = np.array([width, height], F32)
    rotation = _upright(palm.points[PALM_MIDDLE] * frame - palm.points[PALM_WRIST] * frame)
    x, y = palm.box[:2] + palm.box[2:] / F32(2)
    box = Region(x, y, palm.box[2], palm.box[3], rotation)
    return _transformed(box, PALM_SCALE, PALM_SHIFT, height, width)


def tracked_region(landmarks: np.ndarray, height: int, width: int) -> Region:
    """Where to look for the same hand in the next frame: from 21×2 landmarks in [0, 1] (video mode)."""
    frame = np.array([width, height], F32)
    knuckles = (landmarks[INDEX_MCP] + landmarks[RING_MCP]) / F32(2)
    knuckles = (knuckles + landmarks[MIDDLE_MCP]) / F32(2)
    rotation = _upright(knuckles * frame - landmarks[WRIST] * frame)
    cos, sin = _cos_sin(_normalised(-rotation))
    points = landmarks[list(STABLE)]
    middle = (points.max(axis=0) + points.min(axis=0)) / F32(2)
    x, y = ((points - middle) * frame).T
    turned = np.stack([x * cos - y * sin, x * sin + y * cos])  # in the axes of the region
    low, high = turned.min(axis=1), turned.max(axis=1)
    across, down = (high + low) / F32(2)
    cos, sin = _cos_sin(rotation)
    centre = np.array([across * cos - down * sin, across * sin + down * cos], F32) + frame * middle
    (x, y), (across, down) = centre / frame, (high - low) / frame
    box = Region(x, y, across, down, rotation)
    return _transformed(box, TRACK_SCALE, TRACK_SHIFT, height, width)


def _transformed(box: Region, scale: np.float32, shift: np.float32, height: int, width: int) -> Region:
    """Shift a box along its own vertical by a share of its height, then make it a larger square."""
    rows, columns = F32(height), F32(width)
    cos, sin = _cos_sin(box.rotation)
    if box.rotation == 0:
        x, y = box.x, box.y + box.height * shift
    else:
        x = box.x + (F32(0) - rows * box.height * shift * sin) / columns
        y = box.y + (rows * box.height * shift * cos) / rows
    side = max(box.width * columns, box.height * rows)
    return Region(x, y, side / columns * scale, side / rows * scale, box.rotation)


def _upright(direction: np.ndarray) -> np.float32:
    """The rotation in [-π, π) that makes a direction (x right, y down; px) point up."""
    return _normalised(F32(math.pi / 2) - np.arctan2(-direction[1], direction[0]))


def _normalised(angle: np.float32) -> np.float32:
    return F32(float(angle) - 2 * math.pi * math.floor((float(angle) + math.pi) / (2 * math.pi)))


def _cos_sin(angle: np.float32) -> tuple[np.float32, np.float32]:
    return F32(math.cos(angle)), F32(math.sin(angle))  # numpy's float32 cosine is off by a unit now and then


def project(landmarks: np.ndarray, region: Region, height: int, width: int) -> np.ndarray:
    """Landmarks of the network (21×2 px of its picture, float32) → 21×2 in [0, 1] of the frame."""
    border = region.padding(height, width)
    points = (landmarks / F32(HAND_INPUT) - border) / (F32(1) - (border + border)) - F32(0.5)
    cos, sin = _cos_sin(region.rotation)
    x = (cos * points[:, 0] - sin * points[:, 1]) * region.width + region.x
    y = (sin * points[:, 0] + cos * points[:, 1]) * region.height + region.y
    return np.stack([x, y], axis=1)


def associate(regions: Sequence[Region]) -> list[Region]:
    """Drop regions that are the same hand: of two that overlap, the later one stays, as in MediaPipe.

    Rotation is ignored. Palms come first and tracked regions last, so that tracking continues undisturbed.
    """
    kept: list[Region] = []
    for region in regions:
        kept = [other for other in kept if _overlap(region, other) <= SAME_HAND_IOU]
        kept.append(region)
    return kept


def _overlap(one: Region, other: Region) -> float:
    (corner, size), (corners, sizes) = (
        (np.array([r.x - r.width / F32(2), r.y - r.height / F32(2)]), np.array([r.width, r.height]))
        for r in (one, other)
    )
    return float(_iou(corner, size, corners[None], sizes[None])[0])
