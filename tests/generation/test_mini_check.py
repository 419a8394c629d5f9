"""A photo that is not of mini's world is said to be none before anything is made; the world's own are not."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from handi.core.images import read_image, write_image
from handi.generation.mini_check import LIMIT, distance, warning
from handi.generation.requests import ClipRequest

WORLD = Path(__file__).parents[1] / "pictures/world"
RNG = np.random.default_rng(0)


def smooth(shape: tuple[int, int], cells: int) -> np.ndarray:
    """A blurred field of colours."""
    small = RNG.integers(0, 255, (cells, cells, 3), dtype=np.uint8)
    return cv2.resize(small, shape[::-1], interpolation=cv2.INTER_CUBIC)


def stripes() -> np.ndarray:
    picture = np.full((240, 320, 3), 250, np.uint8)
    picture[::12] = picture[1::12] = 20
    return picture


STRANGE = {
    "grey": np.full((256, 256, 3), 128, np.uint8),
    "noise": RNG.integers(0, 255, (256, 448, 3), dtype=np.uint8),
    "bokeh": smooth((256, 256), 6),
    "sky": cv2.resize(np.array([[[90, 150, 230]], [[230, 235, 240]]], np.uint8), (300, 200)),
    "page": stripes(),
    "night": smooth((128, 128), 20) // 12,
}


@pytest.mark.parametrize("name", STRANGE)
def test_pictures_of_other_worlds_are_told_apart(name):
    assert distance(STRANGE[name]) > LIMIT


def test_first_frames_that_the_model_never_saw_are_its_own():
    frames = sorted(WORLD.glob("*.png"))
    assert len(frames) == 4
    for path in [*frames, ClipRequest("example", "Cut.").image_file]:
        assert distance(read_image(path)) < LIMIT
    for path in frames:  # nor does it matter that a photo is large and of another format
        large = cv2.resize(read_image(path), (512, 512), interpolation=cv2.INTER_CUBIC)
        wide = cv2.copyMakeBorder(large, 0, 0, 100, 100, cv2.BORDER_REFLECT)
        assert distance(wide) < LIMIT


def test_only_mini_is_spoken_of():
    line = warning(STRANGE["page"], "mini", "kitchen.jpg")
    assert line is not None
    assert line.startswith("kitchen.jpg is not of the synthetic kitchen")
    assert "\n" not in line
    assert "--model" in line
    assert warning(STRANGE["page"], "runs/mine/model") is None


def test_it_is_one_line_before_the_run_starts(handi, tmp_path):
    write_image(tmp_path / "page.png", STRANGE["page"])
    code, _, err = handi("generate", "--image", tmp_path / "page.png", "--prompt", "Cut the carrot.",
                         "--frames", 2, "--steps", 1, "--out", tmp_path / "out")  # fmt: skip
    assert code == 0, err
    assert err.count("is not of the synthetic kitchen") == 1
    assert err.index("is not of the synthetic kitchen") < err.index("stage 1")
