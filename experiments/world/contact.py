"""Clips as one picture, for the eye."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from handi.core.images import resize
from handi.core.types import Frames, Picture
from handi.core.video import even_indices


def contact_sheet(
    clips: list[Frames], *, labels: list[str] | None = None, columns: int = 8, height: int | None = None
) -> Picture:
    """One picture with a row per clip: `columns` frames spread evenly, and a label above each row."""
    rows = []
    for number, clip in enumerate(clips):
        chosen = clip[even_indices(len(clip), columns)]
        if height is not None:
            chosen = resize(chosen, height, round(clip.shape[2] * height / clip.shape[1]))
        strip = np.concatenate(list(chosen), axis=1)
        if labels is not None:
            band = Image.new("RGB", (strip.shape[1], 16), "white")
            ImageDraw.Draw(band).text((3, 2), labels[number], fill="black")
            strip = np.concatenate([np.asarray(band), strip])
        rows.append(strip)
    width = max(row.shape[1] for row in rows)
    return np.concatenate(
        [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    )
