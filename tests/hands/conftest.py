"""The hand models, and pictures with hands that the project itself rendered."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from handi.core.errors import ModelError
from handi.core.images import read_image
from handi.hands import HandDetector
from handi.hands.weights import HandWeights, load_hand_weights

PICTURES = Path(__file__).parents[1] / "pictures" / "hands"


@pytest.fixture(scope="session")
def weights() -> HandWeights:
    """MediaPipe's networks, fetched once into the user cache; where they cannot be had, tests are skipped."""
    try:
        return load_hand_weights()
    except ModelError as error:
        pytest.skip(f"hand models: {error}")


@pytest.fixture(scope="session")
def detector(weights) -> HandDetector:
    """In torch, which is everywhere."""
    return HandDetector(weights, backend="torch", threads=1)


@pytest.fixture(scope="session")
def clips() -> dict[str, np.ndarray]:
    """Rendered frames, F×H×W×3: two hands that cut, four frames; one hand that reaches, two frames."""
    strips = json.loads((PICTURES / "strips.json").read_text())
    pictures = {name: read_image(PICTURES / f"{name}.png") for name in strips}
    return {name: strip.reshape(strips[name], -1, *strip.shape[1:]) for name, strip in pictures.items()}


@pytest.fixture(scope="session")
def native() -> dict:
    """What native MediaPipe says of those frames: clip → mode → frame → hands."""
    return json.loads((PICTURES / "native.json").read_text())["clips"]
