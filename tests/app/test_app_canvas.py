"""What the brush is given and what it gives, and what a session keeps; without a browser."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from handi.app.canvas import canvas, canvas_size, mask_of, painted
from handi.core.errors import InputError

PNG = "data:image/png;base64,"


def decoded(source: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.removeprefix(PNG)))))


def encoded(picture: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return PNG + base64.b64encode(buffer.getvalue()).decode()


def test_small_photos_are_enlarged_by_whole_factors_and_large_ones_fit():
    assert canvas_size(128, 128) == (640, 640)
    assert canvas_size(96, 128) == (480, 640)
    assert canvas_size(256, 448) == (256, 448)
    assert canvas_size(3000, 4000) == (480, 640)


def test_an_area_that_is_not_touched_comes_back_as_it_was():
    photo = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    area = np.zeros((64, 64), bool)
    area[16:40, 8:56] = True
    value = canvas(photo, area)
    assert decoded(value["photo"]).shape == (640, 640, 3)
    mask = painted(value, photo)
    assert mask is not None
    assert np.array_equal(mask_of(mask, photo) >= 128, area)


def test_nothing_painted_is_no_mask():
    photo = np.zeros((64, 64, 3), np.uint8)
    assert painted(None, photo) is None
    assert painted(canvas(photo), photo) is None
    assert painted({"mask": None, "area": encoded(np.full((640, 640, 4), 255, np.uint8))}, photo) is None
    assert painted({"mask": encoded(np.zeros((640, 640, 4), np.uint8))}, photo) is None


@pytest.mark.parametrize(
    "sent",
    [7, "data:image/png;base64,####", PNG + base64.b64encode(b"no picture").decode(),
     encoded(np.full((5, 5, 4), 255, np.uint8)), encoded(np.full((640, 640, 3), 255, np.uint8))],
)  # fmt: skip
def test_what_no_brush_sends_is_refused(sent):
    with pytest.raises(InputError, match="paint it again"):
        painted({"mask": sent}, np.zeros((64, 64, 3), np.uint8))


def test_without_gradio_the_command_says_what_to_install(handi, monkeypatch, tmp_path):
    import sys

    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "handi.app.page", raising=False)
    code, _, err = handi("app", "--out", tmp_path)
    assert code == 1
    assert 'pip install "handi[app]"' in err
