"""Pictures with hands that the project itself rendered."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from handi.core.images import read_image

PICTURES = Path(__file__).parents[1] / "pictures" / "hands"


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
