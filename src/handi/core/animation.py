"""Animated pictures as videos: GIF, APNG, WebP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from handi.core.errors import InputError
from handi.core.images import to_rgb
from handi.core.kinds import ANIMATED, is_gif
from handi.core.types import Picture

LEAST = 0.02  # s: a frame that asks for less is shown for `USUAL`, as browsers do
USUAL = 0.1  # s
GIF_END = b";"


def animation_frames(path: Path) -> Iterator[tuple[float, float, Picture]]:
    """(s when shown, s when the next is due, H×W×3 uint8 over white) of each frame. Raises: InputError."""
    if is_gif(path) and not path.read_bytes().rstrip(b"\0\r\n ").endswith(GIF_END):
        raise InputError(
            "breaks off: the animation is damaged", where=path
        )  # PIL would drop frames in silence
    try:
        with Image.open(path, formats=ANIMATED) as image:
            time = 0.0
            for number in range(getattr(image, "n_frames", 1)):
                image.seek(number)
                picture = np.asarray(to_rgb(image))
                if number == 0 and getattr(image, "default_image", False):
                    continue  # an APNG's picture for programs that show no animation
                seconds = float(image.info.get("duration") or 0) / 1000
                until = time + (seconds if seconds >= LEAST else USUAL)
                yield time, until, picture
                time = until
    except InputError:
        raise
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise InputError(f"the animation is damaged ({error})", where=path) from error
