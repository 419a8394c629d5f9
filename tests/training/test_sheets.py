"""Sample sheets: everything that is known is in the picture, and nothing that is not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from handi.core.images import read_image
from handi.core.video import read_video
from handi.hands.joints import COLOURS
from handi.training.sheets import BAND, GAP, STAGE1_COLOUR, TRUE_COLOUR, Sample, draw_area, sample_sheet

SIDE = 64


@pytest.fixture
def sample():
    truth = np.full((16, SIDE, SIDE, 3), 90, np.uint8)
    truth[:, 20:40, 20:40] = np.arange(0, 160, 10, dtype=np.uint8)[:, None, None, None]  # differs by frame
    area = np.zeros((SIDE, SIDE), bool)
    area[16:48, 16:48] = True
    joints = np.random.default_rng(0).uniform(0.3, 0.7, (16, 42, 2))
    joints[:, 21:] = 0  # no right hand
    return Sample("cut", truth, 255 - truth, area, area.astype(np.float32) * 0.8, joints)


def count(picture, colour):
    return int((picture == colour).all(axis=-1).sum())


def test_a_sheet_of_everything(sample, tmp_path):
    png, mp4 = sample_sheet([sample, sample], tmp_path / "sheets" / "step-00000010", columns=4)
    picture = read_image(png)
    assert picture.shape == (2 * (BAND + 3 * SIDE + GAP), 5 * SIDE, 3)  # truth, generated, hands of the truth
    assert count(picture, TRUE_COLOUR) >= 2 * 4 * 31
    assert count(picture, COLOURS["left"]) > 100
    assert count(picture, COLOURS["right"]) == 0
    # the middle of the strips is the frames themselves: numbers 1, 6, 10 and 15 of 0 … 15
    values = picture[BAND + 30, SIDE + 30 :: SIDE, 0]
    assert values.tolist() == [10, 60, 100, 150]
    assert (picture[BAND + SIDE + 30, SIDE + 30 :: SIDE, 0] == 255 - values).all()
    video = read_video(mp4)
    # two area tiles, three moving strips
    assert video.shape == (16, 2 * (BAND + SIDE + GAP), 5 * SIDE, 3)
    # by whole tiles: single pixels are the encoder's
    moved = np.abs(video[0].astype(int) - video[-1]).max(axis=-1)
    tiles = [moved[:, SIDE * n : SIDE * (n + 1)].mean() for n in range(5)]
    assert max(tiles[:2]) < 2 < 10 < min(tiles[2:])


def test_a_sheet_of_what_little_is_known(sample, tmp_path):
    alone = Sample("a caption much too long for such a narrow picture " * 4, sample.truth[:1])
    stage1 = Sample("", sample.truth[:5], area=sample.area, stage1=sample.stage1)
    png, mp4 = sample_sheet([alone, stage1], tmp_path / "sheet.png", columns=3)
    assert (png.name, mp4.name) == ("sheet.png", "sheet.mp4")
    picture = read_image(png)
    assert picture.shape == ((BAND + SIDE + GAP) + (BAND + 3 * SIDE + GAP), 4 * SIDE, 3)
    assert len(read_video(mp4)) == 5  # the shorter clip waits on its last frame
    with pytest.raises(ValueError, match="no samples"):
        sample_sheet([], tmp_path / "sheet")


def test_large_frames_are_shrunk(sample, tmp_path):
    large = Sample("cut", np.zeros((4, 256, 448, 3), np.uint8), area=np.ones((256, 448), bool))
    png, _ = sample_sheet([large], tmp_path / "sheet", columns=2, height=128)
    assert read_image(png).shape[1] == 3 * 224


def test_the_detector_reads_what_was_generated(sample, tmp_path):
    class Detector:
        def __init__(self):
            self.read = []

        def detect(self, frames):
            self.read.append(frames)
            return type("Hands", (), {"joints": torch.full((len(frames), 42, 2), 0.5)})

    detector = Detector()
    png, _ = sample_sheet([sample], tmp_path / "sheet", detector=detector, columns=4)
    assert len(detector.read) == 1  # the truth's joints were known
    assert (detector.read[0] == sample.generated).all()
    picture = read_image(png)
    assert len(picture) == BAND + 4 * SIDE + GAP
    assert count(picture[BAND + 3 * SIDE :], COLOURS["right"]) > 0


def test_an_area_is_outlined_and_tinted(sample):
    picture = np.zeros((SIDE, SIDE, 3), np.uint8)
    drawn = draw_area(picture, sample.area, STAGE1_COLOUR, tint=0.5)
    assert count(drawn, STAGE1_COLOUR) == 4 * 31
    assert count(drawn, np.rint(np.array(STAGE1_COLOUR) * 0.5).astype(np.uint8)) == 30 * 30
    assert count(drawn, (0, 0, 0)) == SIDE * SIDE - 32 * 32
    assert not picture.any()
