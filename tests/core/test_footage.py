from __future__ import annotations

import numpy as np
import pytest

from handi.core.errors import InputError
from handi.core.footage import find_footage
from handi.core.images import write_image
from handi.core.video import write_video


def picture(level: int, height: int = 20, width: int = 30) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


def test_evenly_numbered_pictures_of_one_size_are_a_sequence(tmp_path):
    for number in (8, 9, 10, 11):
        write_image(tmp_path / f"frame{number}.png", picture(number))
    (clip,) = find_footage(tmp_path)
    assert (clip.kind, clip.announced) == ("sequence", 4)
    assert [frame[0, 0, 0] for _, frame in clip.frames()] == [8, 9, 10, 11]  # 9 before 10
    assert [time for time, _ in clip.frames()] == [0, 0.125, 0.25, 0.375]
    assert clip.name == tmp_path.name


@pytest.mark.parametrize("names", [("a1", "a2", "a4"), ("a1", "b2"), ("cat", "dog"), ("a1",)])
def test_other_pictures_are_taken_one_by_one(tmp_path, names):
    for name in names:
        write_image(tmp_path / f"{name}.png", picture(5))
    assert [(piece.kind, piece.name) for piece in find_footage(tmp_path)] == [("picture", n) for n in names]


def test_pictures_of_two_sizes_are_no_sequence_unless_named_so(tmp_path):
    write_image(tmp_path / "a1.png", picture(1))
    write_image(tmp_path / "a2.png", picture(2, width=40))
    assert len(find_footage(tmp_path)) == 2
    (clip,) = find_footage(tmp_path / "a%d.png")
    with pytest.raises(InputError, match="frame 1 is 20×40, the frames before it 20×30"):
        list(clip.frames())


def test_a_pattern_names_a_sequence(tmp_path):
    for number in (1, 5, 30):
        write_image(tmp_path / f"x_{number:03d}.png", picture(number))
    write_image(tmp_path / "x_7.png", picture(7))
    (clip,) = find_footage(tmp_path / "x_%03d.png")
    assert [path.name for path in clip.pictures] == ["x_001.png", "x_005.png", "x_030.png"]
    assert clip.name == "x"
    with pytest.raises(InputError, match="no picture has such a name"):
        find_footage(tmp_path / "y_%03d.png")
    with pytest.raises(InputError, match="a pattern needs one number"):
        find_footage(tmp_path / "x_%03d_%02d.png")


def test_a_folder_of_both(tmp_path):
    write_image(tmp_path / "one.png", picture(1))
    write_video(tmp_path / "two.mp4", [picture(2)] * 3)
    (tmp_path / "notes.txt").write_text("not footage")
    assert [(piece.kind, piece.announced) for piece in find_footage(tmp_path)] == [
        ("picture", 1),
        ("video", 3),
    ]


def test_nothing_is_said(tmp_path):
    with pytest.raises(InputError, match="holds no picture and no video"):
        find_footage(tmp_path)
    with pytest.raises(InputError, match="no such file or folder"):
        find_footage(tmp_path / "none.mp4")
