"""Whether a photo looks like the pictures that mini was trained on: it draws little else.

A picture is described by its colours in 4×4 fields, and by how strong its structures of each size are. Its
distance from the world's mean is Mahalanobis', per number of the description: about 1 for first frames of the
world. `python -m experiments.mini.world_pictures` makes the statistics, and prints distances.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from importlib.resources import files
from itertools import pairwise

import cv2
import numpy as np

from handi.core.images import cover, read_image
from handi.core.types import Picture
from handi.generation.requests import ClipRequest, GenerationSettings

SIDE = 128  # px; mini's own
BANDS = 8  # of spatial frequency, from one and a half waves a picture to the finest
LIMIT = 2.1  # 250 held-out first frames reach 1.83, the paper's six published photos begin at 2.40
ASSET = "world_pictures.npz"  # mean and scale of each number, inverse of their correlations


def description(picture: Picture) -> np.ndarray:
    """81 numbers of the middle of a picture H×W×3: what it is compared by."""
    lab = cv2.cvtColor(cover(picture, SIDE, SIDE), cv2.COLOR_RGB2LAB).astype(np.float32)
    fields = cv2.resize(lab, (4, 4), interpolation=cv2.INTER_AREA)
    detail = np.abs(lab - cv2.GaussianBlur(lab, (0, 0), 1.5)).reshape(-1, 3)
    numbers = [
        fields.ravel(),
        *(_strengths(lab[..., channel]) for channel in range(3)),
        np.log1p(np.percentile(detail, [50, 90, 99], axis=0)).ravel(),
    ]
    return np.concatenate(numbers)


def _strengths(channel: np.ndarray) -> np.ndarray:
    """Log of the mean power of an H×W channel in each band of spatial frequency."""
    power = np.abs(np.fft.fft2(channel - channel.mean())) ** 2
    across, down = np.meshgrid(np.fft.fftfreq(SIDE), np.fft.fftfreq(SIDE))
    frequency = np.hypot(across, down)
    edges = np.geomspace(1.5 / SIDE, 0.5, BANDS + 1)
    bands = [power[(frequency >= low) & (frequency < high)].mean() for low, high in pairwise(edges)]
    return np.log(np.array(bands) + 1e-3)


def statistics(descriptions: np.ndarray) -> dict[str, np.ndarray]:
    """Mean and scale of N×81 descriptions, and the inverse of their correlations."""
    mean, scale = descriptions.mean(axis=0), descriptions.std(axis=0)
    correlations = np.cov(((descriptions - mean) / scale).T)
    inverse = np.linalg.inv(correlations + 0.01 * np.eye(len(correlations)))
    return {"mean": mean, "scale": scale, "inverse": inverse}


def distance(picture: Picture) -> float:
    """How far a picture H×W×3 is from the world's: about 1 for its own."""
    world = _world()
    away = (description(picture) - world["mean"]) / world["scale"]
    return float(np.sqrt(away @ world["inverse"] @ away / len(away)))


@cache
def _world() -> dict[str, np.ndarray]:
    with (files("handi.assets") / ASSET).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)


def warning(picture: Picture, model: str, name: str = "the photo") -> str | None:
    """A line for whoever gives mini a picture that is not of its world, or None."""
    if model != "mini" or (far := distance(picture)) <= LIMIT:
        return None
    return (
        f"{name} is not of the synthetic kitchen that mini was trained on (distance {far:.1f}, its own are "
        f"below {LIMIT}): expect smears; AnimateAnything's or HANDI's weights as --model would serve, or a "
        "model that you train on such footage"
    )


def warn(requests: Iterable[ClipRequest], settings: GenerationSettings, say: Callable[[str], None]) -> None:
    """Say it of the first request whose image is of another world, and of how many others."""
    if settings.model != "mini":
        return
    found = [
        line
        for request in requests
        if (line := warning(read_image(request.image_file), "mini", request.image)) is not None
    ]
    if found:
        more = f" (and {len(found) - 1} more pictures)" if len(found) > 1 else ""
        say(f"note: {found[0]}{more}")
