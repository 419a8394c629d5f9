"""EPIC-KITCHENS-100: published tables, the official folders, and what can be wrong with either."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.source_layouts import EPIC_COLUMNS, epic_row, touch, write_frames, write_table

from handi.core.errors import InputError
from handi.data.sources import ClipLength, read_source
from handi.data.sources.epic import read_epic

VALIDATION = "EPIC_100_validation.csv"


def one(tmp_path: Path, row: dict[str, str], name: str = VALIDATION):
    """The clip of a table with one row."""
    write_table(tmp_path / name, [row])
    return read_epic(tmp_path / name, [tmp_path]).clips[0]


def test_frame_numbers_and_times_agree_at_sixty_a_second(tmp_path):
    """Footage as frames gives the same moments as footage as video: the rate of the frames is right."""
    rows = [epic_row(f"P01_11_{n}", 1 + n, 3 + 1.7 * n, "cut carrot") for n in range(30)]
    write_table(tmp_path / VALIDATION, rows)
    by_time = {clip.id: clip for clip in read_epic(tmp_path / VALIDATION, [tmp_path]).clips}
    assert {str(clip.problem) for clip in by_time.values()} == {
        "there is no video P01_11.MP4 and there are no frames of it"
    }
    write_frames(tmp_path / "P01" / "rgb_frames" / "P01_11", range(1, 3000))
    by_frame = read_epic(tmp_path / VALIDATION, [tmp_path]).clips
    usable = [clip for clip in by_frame if clip.problem is None]
    assert len(usable) > 5
    assert {clip.fps for clip in usable} == {60.0}
    for clip in usable:
        assert clip.start == pytest.approx(by_time[clip.id].start, abs=0.035)
        assert clip.end == pytest.approx(by_time[clip.id].end, abs=0.035)
    assert all("there are 2999 of P01_11" in str(clip.problem) for clip in by_frame if clip.problem)


def test_annotations_without_a_narration_timestamp_are_counted(tmp_path):
    rows = [epic_row(f"P01_11_{n}", 1 + n, 3 + n, "cut carrot") for n in range(3)]
    write_table(tmp_path / VALIDATION, [rows[0], rows[1] | {"narration_timestamp": ""}, rows[2]])
    found = read_epic(tmp_path, [tmp_path])
    said = "1 annotations have no narration timestamp; their start and stop are used"
    assert f"{VALIDATION}: {said}" in found.notes
    assert f"{VALIDATION}: 3 annotations, published are 9,668" in found.notes


def test_videos_are_found_in_the_official_layout(tmp_path):
    rows = [epic_row(f"{video}_0", 1, 3, "cut carrot") for video in ("P01_01", "P02_101", "P03_02", "P04_01")]
    write_table(tmp_path / "annotations" / "EPIC_100_train.csv", rows)
    root = tmp_path / "EPIC-KITCHENS"
    touch(root / "P01/videos/P01_01.MP4", root / "P02/videos/P02_101.mp4", root / "P03_02.MP4")
    found = read_source("epic-kitchens", tmp_path)
    assert [clip.video for clip in found.clips] == [
        root / "P01/videos/P01_01.MP4",
        root / "P02/videos/P02_101.mp4",
        root / "P03_02.MP4",
        None,
    ]
    assert [clip.problem for clip in found.clips[:3]] == [None] * 3
    assert found.clips[3].problem == "there is no video P04_01.MP4 and there are no frames of it"
    assert "EPIC_100_train.csv: 4 annotations, published are 67,217" in found.notes


def test_frames_of_the_extension_are_counted_at_fifty(tmp_path):
    write_frames(tmp_path / "P01" / "rgb_frames" / "P01_101", range(1, 301))
    clip = one(tmp_path, epic_row("P01_101_0", 1, 3, "cut carrot", start_frame="51", stop_frame="151"))
    assert clip.video == tmp_path / "P01" / "rgb_frames" / "P01_101"
    assert (clip.fps, clip.start, clip.end) == (50.0, 1.0, 3.0)


def test_packed_frames_are_named_with_the_command_that_unpacks_them(tmp_path):
    touch(tmp_path / "P01/rgb_frames/P01_01.tar")
    clip = one(tmp_path, epic_row("P01_01_0", 1, 3, "cut carrot"))
    folder = tmp_path / "P01/rgb_frames/P01_01"
    assert clip.video is None
    assert str(clip.problem).endswith(f"unpack them: mkdir {folder} && tar xf {folder}.tar -C {folder}")


@pytest.mark.parametrize(
    ("numbers", "problem"),
    [
        ((), "holds no frame_0000000001.jpg"),
        ((1, 2, 4, 7), "are missing: 0000000003, 0000000005, 0000000006"),
        (range(1, 100), "stops at frame 181; there are 99 of P01_01"),
    ],
)
def test_frames_that_are_not_all_there(tmp_path, numbers, problem):
    (tmp_path / "P01/rgb_frames/P01_01").mkdir(parents=True)
    write_frames(tmp_path / "P01/rgb_frames/P01_01", numbers)
    assert problem in str(one(tmp_path, epic_row("P01_01_0", 1, 3, "cut carrot")).problem)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"start_timestamp": ""}, "has no start_timestamp of the form hh:mm:ss ('')"),
        ({"stop_timestamp": "3.5"}, "has no stop_timestamp of the form hh:mm:ss ('3.5')"),
        ({"stop_timestamp": "00:00:00.50"}, "stops at 0.5 s, before it starts at 1 s"),
        ({"stop_frame": "75"}, "is 15 frames long, 16 are needed"),
        ({"narration": " "}, "has no narration"),
        ({"narration_id": ""}, "line 2 has no narration_id"),
        ({"video_id": "../P01_01"}, "has no video_id of the form P01_01 ('../P01_01')"),
    ],
)
def test_a_row_that_cannot_be_used_says_why(tmp_path, changes, problem):
    touch(tmp_path / "P01/videos/P01_01.MP4")
    assert one(tmp_path, epic_row("P01_01_0", 1, 3, "cut carrot")).problem is None
    assert one(tmp_path, epic_row("P01_01_0", 1, 3, "cut carrot", **changes)).problem == problem


@pytest.mark.parametrize(("stop", "problem"), [("00:00:07.01", None), ("00:00:06.90", "361 are needed")])
def test_an_action_must_last_as_long_as_the_clips_that_are_asked_for(tmp_path, stop, problem):
    """49 frames at 8 per second take 6 s: 360 of the published frames, which come at 60 per second."""
    touch(tmp_path / "P01/videos/P01_01.MP4")
    last = str(round(float(stop[-5:]) * 60) + 1)
    row = epic_row("P01_01_0", 1, 3, "cut carrot", stop_timestamp=stop, stop_frame=last)
    write_table(tmp_path / "EPIC_100_train.csv", [row])
    (clip,) = read_epic(tmp_path, [tmp_path], ClipLength(49, 8.0)).clips
    assert clip.problem == problem or problem in clip.problem
    assert read_epic(tmp_path, [tmp_path]).clips[0].problem is None


def test_an_annotation_past_the_end_of_its_video(tmp_path):
    touch(tmp_path / "P01/videos/P01_01.MP4")
    info = [{"video_id": "P01_01", "duration": "10.0", "fps": "59.94", "resolution": "1920x1080"}]
    write_table(tmp_path / "EPIC_100_video_info.csv", info, info[0])
    assert one(tmp_path, epic_row("P01_01_0", 8, 10.01, "cut carrot")).end == 10.0  # rounding, as published
    clip = one(tmp_path, epic_row("P01_01_0", 8, 11, "cut carrot"))
    assert clip.problem == "stops at 11 s; P01_01 is 10.00 s long"


def test_both_splits_and_duplicate_ids(tmp_path):
    touch(tmp_path / "P01/videos/P01_01.MP4")
    row = epic_row("P01_01_0", 1, 3, "cut carrot")
    write_table(tmp_path / "EPIC_100_train.csv", [row, epic_row("P01_01_1", 4, 6, "wash hands"), row])
    write_table(tmp_path / VALIDATION, [epic_row("P01_01_2", 7, 9, "dry hands")])
    clips = read_source("epic-kitchens", tmp_path).clips
    assert [(clip.id, clip.split) for clip in clips] == [
        ("P01_01_0", "train"),
        ("P01_01_1", "train"),
        ("P01_01_0.again2", "train"),
        ("P01_01_2", "val"),
    ]
    assert [clip.problem for clip in clips] == [
        None,
        None,
        "P01_01_0 is listed more than once; only the first is used",
        None,
    ]


def test_a_table_in_latin_1_is_one_error(tmp_path):
    path = write_table(tmp_path / VALIDATION, [epic_row("P01_01_0", 1, 3, "heat purée")])
    path.write_bytes(path.read_text(encoding="utf-8").encode("latin-1"))
    with pytest.raises(
        InputError, match=r"is not UTF-8 text \(byte 0xe9 in line 2, number 72 of it\); save it as UTF-8"
    ):
        read_source("epic-kitchens", tmp_path)


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    path = write_table(tmp_path / VALIDATION, [epic_row("P01_01_0", 1, 3, "cut carrot")])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_epic(path, [tmp_path]).clips[0].id == "P01_01_0"


def test_missing_columns_are_one_error(tmp_path):
    columns = [name for name in EPIC_COLUMNS if name not in ("narration", "stop_timestamp")]
    write_table(tmp_path / VALIDATION, [epic_row("P01_01_0", 1, 3, "cut carrot")], columns)
    with pytest.raises(InputError, match="has no column stop_timestamp, narration;"):
        read_source("epic-kitchens", tmp_path)


def test_a_row_that_is_cut_short_is_one_problem(tmp_path):
    rows = [epic_row("P01_01_0", 1, 3, "cut carrot"), epic_row("P01_01_1", 1, 3, "cut carrot")]
    path = write_table(tmp_path / VALIDATION, rows)
    path.write_text(path.read_text().rstrip()[:-40])
    touch(tmp_path / "P01/videos/P01_01.MP4")
    clips = read_source("epic-kitchens", tmp_path).clips
    assert clips[0].problem is None
    assert str(clips[1].problem).startswith("line 3 has ")
    assert str(clips[1].problem).endswith(" fields, the header 15")


@pytest.mark.parametrize(
    ("content", "error"), [("", "is empty"), ('narration_id,"x\n1,2\n', "is not a CSV table")]
)
def test_files_that_are_no_tables(tmp_path, content, error):
    (tmp_path / VALIDATION).write_text(content)
    with pytest.raises(InputError, match=error):
        read_source("epic-kitchens", tmp_path)


def test_a_table_without_rows(tmp_path):
    write_table(tmp_path / VALIDATION, [])
    with pytest.raises(InputError, match="holds no annotations"):
        read_source("epic-kitchens", tmp_path)


def test_folders_that_hold_nothing(tmp_path):
    with pytest.raises(InputError, match=r"holds neither EPIC_100_train.csv nor .*100-annotations"):
        read_source("epic-kitchens", tmp_path)
    with pytest.raises(InputError, match="no such file or folder"):
        read_source("epic-kitchens", tmp_path / "nowhere")
    write_table(tmp_path / VALIDATION, [epic_row("P01_01_0", 1, 3, "cut carrot")])
    with pytest.raises(InputError, match="nowhere: no such folder of videos"):
        read_source("epic-kitchens", tmp_path, videos=[tmp_path / "nowhere"])
    with pytest.raises(InputError, match=r"none of 1 clips can be used; 1 of them: there is no video"):
        read_source("epic-kitchens", tmp_path)
