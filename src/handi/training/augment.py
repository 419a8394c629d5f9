"""What a run changes about its samples on the device: zoom, colour, and the poses that stage 2 is given.

A batch comes with the clips as they are; here it becomes what the step sees. All chance comes from the
generator, so that a resumed run has the same samples.
"""

from __future__ import annotations

import re
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from handi.method.poses import present
from handi.training.batch import Batch
from handi.training.recipe import DataRecipe, PoseRecipe

READABLE = 11  # joints of a hand in the picture, for it to be read


def augmented(batch: Batch, recipe: DataRecipe, generator: torch.Generator) -> Batch:
    """A training batch with the recipe's zoom and colour, and its poses noised and dropped.

    Raises: ValueError for cached latents, which are those of the frames as they were.
    """
    if (recipe.zoom or recipe.colour) and batch.latents is not None:
        raise ValueError("data.zoom and data.colour need frames, not cached latents")
    if recipe.zoom:
        batch = zoomed(batch, recipe.zoom, generator)
    if recipe.colour:
        batch = coloured(batch, recipe.colour, generator)
    return replace(batch, poses=given_poses(batch.joints, recipe.poses, generator))


def held_out(batch: Batch) -> Batch:
    """A validation batch: its clips as they are, with their true poses."""
    return replace(batch, poses=batch.joints)


def zoomed(batch: Batch, most: float, generator: torch.Generator) -> Batch:
    """Half of the samples cut to a square part of at least 1 - `most` of the side, and enlarged to the size
    they had. Frames, areas, referents, joints, regions and visibility are all those of the part."""
    count, device = len(batch), batch.frames.device
    height, width = batch.frames.shape[2:4]
    half, share, left, top = torch.rand((4, count), generator=generator, device=generator.device).to(device)
    side = torch.where(half < 0.5, 1 - most * share, 1.0)
    left, top = left * (1 - side), top * (1 - side)
    theta = torch.zeros(count, 2, 3, device=device)
    theta[:, 0, 0] = theta[:, 1, 1] = side
    theta[:, 0, 2], theta[:, 1, 2] = 2 * left + side - 1, 2 * top + side - 1
    grid = F.affine_grid(theta, [count, 1, height, width], align_corners=False)

    def cut(pictures: Tensor, mode: str) -> Tensor:  # B×C×H×W
        return F.grid_sample(pictures, grid, mode, padding_mode="border", align_corners=False)

    frames = batch.frames.permute(0, 1, 4, 2, 3).flatten(1, 2).float()
    frames = cut(frames, "bilinear").round().to(torch.uint8).unflatten(1, (-1, 3)).permute(0, 1, 3, 4, 2)
    corner = torch.stack([left, top], -1)[:, None, None]
    half_pixel = 0.5 / torch.tensor([width, height], device=device)
    scale = side[:, None, None, None]

    def enlarged(joints: Tensor) -> Tensor:
        moved = (joints + half_pixel - corner) / scale - half_pixel
        return torch.where(present(joints).repeat_interleave(21, -1)[..., None], moved, 0)

    joints = enlarged(batch.joints)
    inside = ((joints >= 0) & (joints < 1)).all(-1).unflatten(-1, (2, 21)).sum(-1)
    centre, side_px, angle = batch.rois.split([2, 1, 1], -1)
    pixels = torch.tensor([width, height], device=device)
    centre = (centre + 0.5 - corner * pixels) / scale - 0.5
    rois = torch.cat([centre, side_px / scale, angle], -1) * (side_px > 0)
    referents = None if batch.referents is None else cut(batch.referents, "nearest")
    generated = None if batch.generated is None else cut(batch.generated[:, None], "nearest")[:, 0]
    return replace(
        batch,
        frames=frames,
        area=cut(batch.area[:, None], "nearest")[:, 0],
        joints=joints,
        visible=batch.visible & (inside >= READABLE),
        rois=rois,
        referents=referents,
        generated=generated,
        way=None if batch.way is None else enlarged(batch.way),
    )


def coloured(batch: Batch, most: float, generator: torch.Generator) -> Batch:
    """The samples in other light: each channel scaled by up to `most`, and the brightness bent as much."""
    draws = torch.rand((4, len(batch)), generator=generator, device=generator.device).to(batch.frames.device)
    draws = 1 + most * (2 * draws - 1)
    gain, bend = draws[:3].T[:, None, None, None], draws[3].view(-1, 1, 1, 1, 1)
    light = (batch.frames.float() / 255).pow(bend) * gain
    return replace(batch, frames=(255 * light.clamp(0, 1)).round().to(torch.uint8))


def given_poses(joints: Tensor, recipe: PoseRecipe, generator: torch.Generator) -> Tensor:
    """Poses B×F×42×2 as predicted ones are: off by a little, more so later in the clip; all zeros in those
    samples that are given none."""
    count, frames = joints.shape[:2]
    chance = torch.rand((2, count), generator=generator, device=generator.device).to(joints)
    shift = torch.randn((2, count, 1, 2, 1, 2), generator=generator, device=generator.device).to(joints)
    later = torch.linspace(0, 1, frames, device=joints.device).view(1, -1, 1, 1, 1)
    level = (recipe.noise * chance[0]).view(-1, 1, 1, 1, 1)
    moved = joints.unflatten(2, (2, 21)) + level * (0.3 * shift[0] + later * shift[1])
    told = present(joints)[..., None, None] & (chance[1] < recipe.share).view(-1, 1, 1, 1, 1)
    return torch.where(told, moved, 0).flatten(2, 3)


# ---------------------------------------------------------------------------------------- mirroring

_SIDES = {
    "left": "right",
    "right": "left",
    "leftward": "rightward",
    "rightward": "leftward",
    "leftwards": "rightwards",
    "rightwards": "leftwards",
    "clockwise": "anticlockwise",
    "anticlockwise": "clockwise",
    "counterclockwise": "clockwise",
    "counter-clockwise": "clockwise",
    "anti-clockwise": "clockwise",
}
_SIDE_WORD = re.compile(
    r"\b(" + "|".join(sorted(map(re.escape, _SIDES), key=len, reverse=True)) + r")\b", re.IGNORECASE
)


def mirrored_text(text: str) -> str:
    """Left becomes right, clockwise anticlockwise, and back; a capital stays one."""

    def other(match: re.Match[str]) -> str:
        word = match.group()
        swapped = _SIDES[word.lower()]
        return swapped.capitalize() if word[0].isupper() else swapped

    return _SIDE_WORD.sub(other, text)


def mirrored(batch: Batch, rows: Tensor) -> Batch:
    """The batch with some rows (B bool) as a mirror shows them: a left hand becomes a right one and takes its
    slot. Words are mirrored by `mirrored_text`.

    Raises: ValueError for cached latents or embeddings: the mirrored frames and words have others.
    """
    if not rows.any():
        return batch
    if batch.latents is not None or batch.embeddings is not None:
        raise ValueError("cached latents and embeddings cannot be mirrored")
    rows = rows.to(batch.frames.device)
    width = batch.frames.shape[3]
    rois = batch.rois[rows].flip(2)
    across, down, side, angle = rois.unbind(-1)
    across = torch.where(side > 0, width - 1 - across, 0)
    turned = {
        "frames": batch.frames[rows].flip(3),
        "area": batch.area[rows].flip(2),
        "joints": mirrored_joints(batch.joints[rows], width),
        "visible": batch.visible[rows].flip(2),
        "rois": torch.stack([across, down, side, -angle], -1),
    }
    if batch.way is not None:
        turned["way"] = mirrored_joints(batch.way[rows], width)
    for name in ("referents", "generated", "frame_areas"):
        if (array := getattr(batch, name)) is not None:
            turned[name] = array[rows].flip(-1)
    flags = rows.tolist()
    names = [f"{name} mirrored" if flag else name for name, flag in zip(batch.names, flags, strict=True)]
    parts = {name: getattr(batch, name).clone() for name in turned}
    for name, value in turned.items():
        parts[name][rows] = value
    return replace(batch, names=names, **parts)


def mirrored_joints(joints: Tensor, width: int) -> Tensor:
    """Joints …×42×2 of frames `width` px wide as a mirror shows them, the hands in each other's slots."""
    hands = joints.unflatten(-2, (2, 21)).flip(-3)
    there = hands.any(-1).any(-1)[..., None, None]
    # Pixel i is at i/W, so column W - 1 - i is at 1 - 1/W - x.
    x = torch.where(there, 1 - 1 / width - hands[..., :1], 0)
    return torch.cat([x, torch.where(there, hands[..., 1:], 0)], -1).flatten(-3, -2)
