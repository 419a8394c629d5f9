"""Pictures and masks as cameras and editors save them."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from handi.core import images
from handi.core.errors import InputError, OutputError

LEFT_RED = np.zeros((40, 60, 3), np.uint8)
LEFT_RED[:, :30] = (200, 30, 10)


def test_exif_rotation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90° clockwise to see it upright
    Image.fromarray(LEFT_RED).save(tmp_path / "a.png", exif=exif)
    upright = images.read_image(tmp_path / "a.png")
    assert upright.shape == (60, 40, 3)
    assert (upright[:30] == (200, 30, 10)).all()  # left became top
    assert (upright[30:] == 0).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_each_orientation_is_applied_as_pillow_does(orientation):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (4, 6, 3), dtype=np.uint8))
    image.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(np.asarray(images.upright(image, "a")), expected)


def broken_exif(value: bytes) -> bytes:
    """Orientation 6 first, then a rational tag (resolution) of these 8 bytes, or beyond the file's end."""
    head = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2)
    where = 38 if value else 10**6
    return head + struct.pack("<HHIHHHHII", 0x0112, 3, 1, 6, 0, 0x011A, 5, 1, where) + b"\0" * 4 + value


@pytest.mark.parametrize("value", [struct.pack("<ii", -1, 0), b"", b"\xff\xff"])
def test_broken_exif_stops_no_picture(tmp_path, value):
    Image.fromarray(LEFT_RED).save(tmp_path / "a.jpg", exif=broken_exif(value), quality=95)
    assert images.read_image(tmp_path / "a.jpg").shape == (60, 40, 3)


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyError, RecursionError, OverflowError])
def test_whatever_exif_raises_stops_no_picture(monkeypatch, error):
    def broken(self):
        raise error("broken")

    monkeypatch.setattr(Image.Image, "getexif", broken)
    assert images.upright(Image.fromarray(LEFT_RED), "a").size == (60, 40)


def test_pictures_with_broken_exif_are_read_upright():
    for path in sorted((Path(__file__).parents[1] / "pictures/exif").glob("*.jpg")):
        turned = path.name != "exif_badoffset.jpg"  # whose EXIF cannot be read at all
        height, width = images.read_image(path).shape[:2]
        with Image.open(path) as stored:
            assert (height, width) == (stored.size if turned else stored.size[::-1]), path


def test_a_picture_that_breaks_off_is_damaged(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    for name in ("a.png", "a.jpg", "a.webp", "a.gif", "a.tif", "a.bmp"):
        Image.fromarray(noise).save(tmp_path / name)
        data = (tmp_path / name).read_bytes()
        for length in (3, len(data) // 2):
            (tmp_path / name).write_bytes(data[:length])
            with pytest.raises(InputError, match=name):
                images.read_image(tmp_path / name)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "1", "L", "CMYK", "I;16", "F"])
def test_any_mode_becomes_rgb(tmp_path, mode):
    image = Image.fromarray(LEFT_RED)
    if mode == "I;16":
        image = Image.fromarray(LEFT_RED[..., 0].astype(np.uint16) * 257)
    elif mode == "F":
        image = image.convert("L").convert("F")
    else:
        image = image.convert(mode)
    suffix = ".tif" if mode in ("F", "CMYK") else ".png"
    image.save(tmp_path / f"a{suffix}")
    read = images.read_image(tmp_path / f"a{suffix}")
    assert read.shape == (40, 60, 3)
    assert read.dtype == np.uint8
    assert read[20, 5].max() > read[20, 55].max()


def test_transparency_lies_over_white_in_a_picture_and_counts_as_nothing_in_a_mask():
    layer = np.zeros((4, 4, 4), np.uint8)
    layer[:2] = (255, 255, 255, 255)
    picture = np.asarray(images.to_rgb(Image.fromarray(layer)))
    assert (picture == 255).all()
    mask = images.to_mask(Image.fromarray(layer))
    assert (mask[:2] == 1).all()
    assert (mask[2:] == 0).all()


@pytest.mark.parametrize("kind", ["1", "L", "01", "P", "I;16", "I;16 01", "F"])
def test_a_mask_saved_in_any_way_means_what_it_shows(tmp_path, kind):
    area = np.zeros((6, 8), bool)
    area[2:4, 3:] = True
    forms = {
        "1": Image.fromarray(area),
        "L": Image.fromarray(area.astype(np.uint8) * 255),
        "01": Image.fromarray(area.astype(np.uint8)),  # Segment Anything's
        "P": Image.fromarray(area.astype(np.uint8) * 255).convert("P"),
        "I;16": Image.fromarray(area.astype(np.uint16) * 65535),
        "I;16 01": Image.fromarray(area.astype(np.uint16)),
        "F": Image.fromarray(area.astype(np.float32) * 0.7),
    }
    path = tmp_path / ("a.tif" if kind == "F" else "a.png")
    forms[kind].save(path)
    mask = images.to_mask(images.open_image(path))
    assert np.allclose(mask, area * (0.7 if kind == "F" else 1), atol=0.01)


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)])
def test_a_mask_may_be_painted_in_any_colour(colour):
    painted = np.zeros((4, 4, 3), np.uint8)
    painted[1] = colour
    mask = images.to_mask(Image.fromarray(painted))
    assert mask.shape == (4, 4)
    assert np.array_equal(mask > 0.5, painted.any(axis=2))


def damaged(folder, kind):
    path = folder / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 50, 3), dtype=np.uint8)).save(path)
    if kind == "folder":
        path.unlink()
        path.mkdir()
    elif kind == "missing":
        path.unlink()
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("not a picture")
    elif kind == "cut":
        path.write_bytes(path.read_bytes()[:2000])
    elif kind == "video":
        path = path.rename(folder / "a.mp4")
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("folder", "is a folder"),
        ("missing", "no such picture"),
        ("empty", "0 bytes"),
        ("text", "is not a picture"),
        ("cut", "damaged"),
        ("video", "is a video"),
    ],
)
def test_bad_files_are_named(tmp_path, kind, message):
    path = damaged(tmp_path, kind)
    with pytest.raises(InputError, match=message) as error:
        images.read_image(path)
    assert str(path) in str(error.value)


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "bomb.png"
    Image.new("1", (3000, 3000)).save(path)
    monkeypatch.setattr(images, "MAX_PIXELS", 1_000_000)
    with pytest.raises(InputError, match="megapixels"):
        images.read_image(path)


def test_pictures_are_written_whole_or_not_at_all(tmp_path):
    images.write_image(tmp_path / "new" / "a.png", LEFT_RED)
    assert np.array_equal(images.read_image(tmp_path / "new" / "a.png"), LEFT_RED)
    images.write_image(tmp_path / "mask.png", LEFT_RED[..., 0] > 0)
    assert set(np.unique(images.read_image(tmp_path / "mask.png"))) == {0, 255}
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="a file is in the way"):
        images.write_image(tmp_path / "file" / "a.png", LEFT_RED)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(256, 448, (256, 448)), (1080, 1920, (256, 448)), (1920, 1080, (448, 256)), (500, 500, (336, 336))],
)
def test_fit_size_keeps_area_and_aspect(height, width, expected):
    fitted = images.fit_size(height, width, area=256 * 448, multiple=8)
    assert fitted == expected
    assert fitted[0] * fitted[1] == pytest.approx(256 * 448, rel=0.05)
    assert fitted[1] / fitted[0] == pytest.approx(width / height, rel=0.05)


def test_aspect_crop_is_centred():
    assert images.aspect_crop(100, 200, 1.0) == (50, 0, 150, 100)
    assert images.aspect_crop(200, 100, 1.0) == (0, 50, 100, 150)
    assert images.aspect_crop(100, 200, 2.0) == (0, 0, 200, 100)


def test_resize_of_a_clip_averages_when_shrinking():
    frames = np.zeros((2, 4, 4, 3), np.uint8)
    frames[:, ::2] = 200
    assert images.resize(frames, 2, 2).shape == (2, 2, 2, 3)
    assert (images.resize(frames, 2, 2) == 100).all()
