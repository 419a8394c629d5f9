"""Whatever a caller hands in becomes arrays of one size, and every change is said."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from handi.core.errors import InputError
from handi.core.inputs import broadcast, fit_inputs, parse_size

AREA = {"area": 128 * 128, "multiple": 8, "height": None, "width": None}


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)


def test_broadcast():
    lists = broadcast(image="a.png", prompt=["x", "y"], mask=None)
    assert lists == {"image": ["a.png"] * 2, "prompt": ["x", "y"], "mask": [None, None]}
    with pytest.raises(InputError, match="2 of b for a batch of 3"):
        broadcast(a=[1, 2, 3], b=[1, 2])


def test_a_picture_of_the_models_size_is_not_touched():
    source = picture(128, 128)
    pictures, masks, notes = fit_inputs([source], [None], **AREA)
    assert np.array_equal(pictures[0], source)
    assert masks == [None]
    assert notes == []


@pytest.mark.parametrize(("height", "width"), [(720, 1280), (100, 75), (33, 130), (1000, 999)])
def test_any_size_is_brought_near_the_models_area_and_said(height, width):
    pictures, _, notes = fit_inputs([picture(height, width)], [None], **AREA)
    high, wide = pictures.shape[1:3]
    assert high % 8 == wide % 8 == 0
    assert high * wide == pytest.approx(128 * 128, rel=0.15)
    assert notes == [f"the picture: {width}×{height} is resized to {wide}×{high}"]


def test_a_huge_picture(tmp_path):
    path = tmp_path / "huge.png"
    Image.new("L", (12000, 9000), 90).save(path)
    pictures, _, _ = fit_inputs([path], [None], **AREA)
    assert pictures.shape == (1, 112, 144, 3)
    assert (pictures == 90).all()


def test_exact_size_crops_picture_and_mask_alike():
    source = np.zeros((100, 300, 3), np.uint8)
    source[:, 100:200] = 255  # the middle third is what a square crop keeps
    pictures, masks, notes = fit_inputs([source], [source], height=64, width=64, area=1, multiple=8)
    assert (pictures[0] > 240).all()
    assert (masks[0] > 0.5).all()
    assert "cropped and resized to 64×64" in notes[0]


def test_a_mask_of_another_size_is_resized_and_said():
    mask = np.zeros((32, 32), bool)
    mask[:, 16:] = True
    _, masks, notes = fit_inputs([picture(128, 128)], [mask], **AREA)
    assert masks[0].shape == (128, 128)
    assert masks[0][:, 70:].min() > 0.99
    assert masks[0][:, :58].max() < 0.01
    assert any("the mask is 32×32, its picture 128×128: the mask is resized" in note for note in notes)


@pytest.mark.parametrize(
    "mask",
    [
        np.ones((128, 128), bool),
        np.ones((128, 128)),
        np.full((128, 128), 255, np.uint8),
        np.full((128, 128, 3), 255, np.uint8),
        Image.new("RGBA", (128, 128), "white"),
        "full",
    ],
)
def test_masks_of_every_kind(mask):
    _, masks, _ = fit_inputs([picture(128, 128)], [mask], **AREA)
    assert (masks[0] == 1).all()


def test_an_empty_mask_is_refused():
    with pytest.raises(InputError, match="the mask is empty"):
        fit_inputs([picture(128, 128)], [np.zeros((128, 128))], **AREA)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (picture(1, 1), "too small"),
        (picture(64, 400), "too long: at most 4:1; crop it"),
        (np.zeros((64, 64)), "must be H×W×3 uint8"),
        (np.zeros((64, 64, 3)), "must be H×W×3 uint8"),
    ],
)
def test_pictures_that_cannot_be_used(source, message):
    with pytest.raises(InputError, match=message):
        fit_inputs([source], [None], **AREA)


def test_pictures_of_different_shapes_in_one_batch():
    with pytest.raises(InputError, match="different shapes"):
        fit_inputs([picture(64, 64), picture(64, 128)], [None, None], **AREA)


def test_a_pil_image_is_turned_like_its_file(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture(64, 96)).save(tmp_path / "a.png", exif=exif)
    file, _, _ = fit_inputs([tmp_path / "a.png"], [tmp_path / "a.png"], **AREA)
    with Image.open(tmp_path / "a.png") as opened:
        image, _, _ = fit_inputs([opened], [opened], **AREA)
    assert np.array_equal(file, image)
    assert file.shape[1] > file.shape[2]


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("top", [1, 255])
@pytest.mark.parametrize("form", ["HW", "1HW", "HW1", "HWC"])
def test_a_mask_of_numbers_means_what_it_shows(dtype, top, form):
    area = np.zeros((128, 128), bool)
    area[:, 64:] = True
    values = area.astype(dtype) * np.array(top, dtype)
    values = {"HW": values, "1HW": values[None], "HW1": values[..., None]}.get(
        form, np.repeat(values[..., None], 3, axis=2)
    )
    _, (mask,), _ = fit_inputs([picture(128, 128)], [values], **AREA)
    assert np.array_equal(mask, area)


@pytest.mark.parametrize(
    "values", [np.full((9, 9), np.nan), np.zeros((2, 9, 9)), np.array("text"), np.zeros((9, 9), complex)]
)
def test_what_is_no_mask_is_one_error(values):
    with pytest.raises(InputError, match="the mask"):
        fit_inputs([picture(128, 128)], [values], **AREA)


def test_a_size_is_height_by_width():
    assert parse_size("256x448") == parse_size("256×448") == parse_size("256X448") == (256, 448)
    limits = {"least": 16, "most": 4096, "multiple": 8}
    assert parse_size("16x4096", **limits) == (16, 4096)
    for wrong in ("8x16", "16x4104", "16x20", "16", "axb", "16x16x16"):
        with pytest.raises(InputError, match="in multiples of 8, 4096 at most"):
            parse_size(wrong, **limits)
    with pytest.raises(InputError, match=r"write HEIGHTxWIDTH, e\.g\. 256x448"):
        parse_size("256")
