"""LEGO's lists joined to footage: counts, descriptions, splits, and what matches no annotation."""

from __future__ import annotations

import pytest
from helpers.source_layouts import (
    epic_row,
    fho_action,
    fho_video,
    touch,
    write_ego4d,
    write_json,
    write_table,
)

from handi.core.errors import InputError
from handi.data.sources import read_source
from handi.data.sources.lego import read_lego


def item(group: str, name: str, action: str, **changes: object) -> dict[str, object]:
    return {
        "image_0": f"{group}/{name}/pre_frame.jpg",
        "image_1": f"{group}/{name}/target_frame.jpg",
        "action": action,
        "llava_forecast_finetune": f"The person {action}  with the right hand.",
    } | changes


def write_lego(folder, name, actions, metadata=True):
    """A list {group: {name: item}} of (group, name, action[, changes]), and its metadata."""
    groups: dict[str, dict[str, object]] = {}
    for group, key, text, *changes in actions:
        groups.setdefault(group, {})[key] = item(group, key, text, **(changes[0] if changes else {}))
    path = write_json(folder / name, groups)
    if metadata:
        facts = {group: {"height": 1080, "width": 1920, "fps": 60} for group in groups}
        write_json(folder / f"{name.split('_')[0]}_metadata.json", facts)
    return path


@pytest.fixture
def kitchen(tmp_path):
    """A root of EPIC-KITCHENS-100: one video of four actions, two of which say the same."""
    rows = [
        epic_row("P01_01_0", 1, 3, "cut carrot"),
        epic_row("P01_01_1", 4, 6, "wash hands"),
        epic_row("P01_01_2", 7, 9, "cut carrot"),
        epic_row("P02_01_0", 1, 3, "cut carrot"),
    ]
    root = tmp_path / "EPIC-KITCHENS"
    write_table(root / "annotations/EPIC_100_train.csv", rows[:3])
    write_table(root / "annotations/EPIC_100_validation.csv", rows[3:])
    touch(root / "P01/videos/P01_01.MP4", root / "P02/videos/P02_01.MP4")
    return root


def test_clips_come_with_times_descriptions_and_lego_s_own_split(kitchen, tmp_path):
    lego = tmp_path / "lego"
    write_lego(lego, "epickitchen_train.json", [("P01_01", "P01_01_2", "cut carrot")])
    write_lego(lego, "epickitchen_val.json", [("P02_01", "P02_01_0", "cut carrot")], metadata=False)
    write_json(lego / "epickitchen_metadata.json", {"P01_01": {}, "P02_01": {}})
    found = read_source("lego", lego, videos=[kitchen])
    train, test = found.clips
    assert (train.id, train.start, train.end, train.split) == ("P01_01_2", 7.0, 9.0, "train")
    assert train.video == kitchen / "P01/videos/P01_01.MP4"
    assert train.action == "Cut carrot."
    assert train.description == "The person cut carrot with the right hand."
    assert (test.id, test.split) == ("P02_01_0", "test")
    assert "epickitchen_train.json: 1 clips, published are 60,429" in found.notes
    assert "epickitchen_val.json: 1 clips, published are 8,857" in found.notes
    assert not any("no annotation" in note for note in found.notes)


@pytest.mark.parametrize(
    ("name", "text", "changes", "start"),
    [
        ("P01_01_0", "cut carrot", {}, 1),  # by its id
        ("2", "Cut  carrot", {}, 7),  # by its number
        ("17", "wash hands", {}, 4),  # by its words, which only one has
        ("clip", "cut carrot", {"image_1": "P01_01/clip/frame_0000000480.jpg"}, 7),  # by its frame
        ("P01_01_0", "slice carrot", {}, 1),  # its id is without doubt, though the words were changed
        ("1", "cut carrot", {}, None),  # its words and its number disagree
        ("clip", "cut carrot", {}, None),  # one of two
        ("0", "peel carrot", {}, None),
    ],
)
def test_an_annotation_is_found_by_name_and_words(kitchen, tmp_path, name, text, changes, start):
    path = write_lego(
        tmp_path, "epickitchen_train.json", [("P01_01", name, text, changes), ("P01_01", "1 ", "wash hands")]
    )
    clip = read_lego(path, [kitchen]).clips[0]
    if start is None:
        assert clip.video is None
        assert clip.problem is not None
    else:
        assert (clip.start, clip.problem) == (start, None)


def test_what_matches_nothing_is_counted_by_name(kitchen, tmp_path):
    path = write_lego(
        tmp_path,
        "epickitchen_train.json",
        [
            ("P01_01", "P01_01_0", "cut carrot", {"llava_forecast_finetune": None}),
            ("P09_09", "4", "fly"),
            ("P01_01", "x", "cut carrot"),
        ],
    )
    write_json(tmp_path / "epickitchen_metadata.json", {"P01_01": {}})
    found = read_lego(path, [kitchen])
    assert [clip.problem for clip in found.clips] == [
        None,
        "2 annotations of P01_01 say 'cut carrot', none is named x",
        "no annotation of P09_09 is named 4 and says 'fly'",
    ]
    assert found.notes[-4:] == [
        "epickitchen_train.json: 3 clips, published are 60,429",
        "epickitchen_train.json: 2 clips match no annotation: P01_01.x, P09_09.4",
        "epickitchen_train.json: 1 clips have no llava_forecast_finetune: P01_01_0",
        "epickitchen_train.json: 1 videos are not in epickitchen_metadata.json: P09_09",
    ]


def test_ego4d_is_joined_by_piece_video_or_uid(tmp_path):
    cut, wash = "#C C cuts the carrot", "#C C washes the carrot"
    pieces = (
        [fho_action(cut, 300, 345, uid="u0"), fho_action(wash, 400, 445, uid="u1")],
        [fho_action(cut, 600, 645, uid="u2")],
    )
    home = write_ego4d(tmp_path / "ego4d/v2", [fho_video("aa", *pieces)], {"aa": "val"})
    touch(home / "full_scale/aa.mp4")
    wanted = [
        ("aa-0", "0", cut, 10),  # of the first piece, its first action
        ("aa-1", "0", cut, 20),
        ("1-aa", "anything", cut, 20),  # there is one such sentence in that piece
        ("aa", "2", cut, 20),  # of the whole video, the third action
        ("aa", "u1", wash, 400 / 30),
    ]
    path = write_lego(tmp_path / "lego", "ego4d_val.json", [row[:3] for row in wanted])
    found = read_source("lego", path, videos=[tmp_path / "ego4d"])
    # A list groups its clips: the last two are of one group.
    assert [clip.start for clip in found.clips] == [row[3] for row in wanted]
    assert {clip.split for clip in found.clips} == {"test"}
    assert found.clips[0].action == "Cut the carrot."
    assert found.clips[0].id == "aa-0.0"
    assert found.notes == ["ego4d_val.json: 5 clips, published are 9,931"]


def test_what_lego_has_chosen_needs_no_split_and_no_second_opinion(tmp_path):
    actions = [
        fho_action("#C C cuts the #unsure", 300, 345, uid="u0", is_rejected=True),
        fho_action("#C C cuts it", 400, 445, uid="u1", critical_frames=None),
    ]
    home = write_ego4d(tmp_path / "ego4d", [fho_video("aa", actions)], {"aa": None})
    (home / "ego4d.json").unlink()
    touch(home / "full_scale/aa.mp4")
    rows = [("aa-0", "u0", "#C C cuts the #unsure"), ("aa-0", "u1", "#C C cuts it")]
    path = write_lego(tmp_path / "lego", "ego4d_train.json", rows)
    first, second = read_lego(path, [home]).clips
    assert (first.problem, first.split, first.start) == (None, "train", 10.0)
    assert second.problem == "has no pre-condition and post-condition frame"


def test_a_list_without_its_footage_is_left_aside_by_name(kitchen, tmp_path):
    lego = tmp_path / "lego"
    write_lego(lego, "epickitchen_val.json", [("P02_01", "0", "cut carrot")])
    path = write_lego(lego, "ego4d_val.json", [("aa", "0", "#C C cuts the carrot")])
    found = read_source("lego", lego, videos=[kitchen])
    assert len(found.clips) == 1
    assert "ego4d_val.json: no folder of footage holds annotations/fho_main.json; left aside" in found.notes
    with pytest.raises(InputError, match=r"ego4d_val.json: no folder of footage holds"):
        read_source("lego", path, videos=[kitchen])


def test_annotations_may_lie_elsewhere(kitchen, tmp_path):
    path = write_lego(tmp_path / "lego", "epickitchen_val.json", [("P02_01", "0", "cut carrot")])
    (kitchen / "annotations").rename(tmp_path / "tables")
    with pytest.raises(InputError, match="holds the CSV files of EPIC-KITCHENS-100"):
        read_source("lego", path, videos=[kitchen])
    assert (
        read_source("lego", path, videos=[kitchen], annotations=tmp_path / "tables").clips[0].problem is None
    )


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("[]", r"is not of the form {clip: {action id: {image_0, image_1, action}}}"),
        ("{}", "is not of the form"),
        ('{"P01_01": []}', "is not of the form .* at 'P01_01'"),
        ('{"P01_01": {"0": {"image_0": ""}}}', "is not of the form .* at 'P01_01', '0'"),
        ("{", "is not JSON"),
    ],
)
def test_lists_of_another_form_are_one_error(kitchen, tmp_path, content, error):
    (tmp_path / "epickitchen_val.json").write_text(content)
    with pytest.raises(InputError, match=error):
        read_source("lego", tmp_path, videos=[kitchen])


def test_other_files_are_one_error(kitchen, tmp_path):
    with pytest.raises(InputError, match=r"holds none of epickitchen_train.json"):
        read_source("lego", tmp_path, videos=[kitchen])
    (tmp_path / "captions.json").write_text("{}")
    with pytest.raises(InputError, match="is not named like one of LEGO's lists"):
        read_source("lego", tmp_path / "captions.json", videos=[kitchen])


def test_as_many_as_are_published_raise_no_note(tmp_path):
    """A list of 8,857 annotations that often say the same: all are found again, and none is doubled."""
    rows, things = [], ("carrot", "onion", "plate", "pan", "knife")
    for number in range(8857):
        video = f"P{number % 37 + 1:02d}_{number % 20 + 1:02d}"
        row = epic_row(f"{video}_{number // 740}", 1 + number // 740, 4 + number // 740, "")
        says = f"{('cut', 'wash', 'take')[number % 3]} {things[number // 740 % 5]}"
        rows.append(row | {"narration": says, "narration_timestamp": row["start_timestamp"]})
    write_table(tmp_path / "published" / "EPIC_100_validation.csv", rows)
    actions = [(row["video_id"], row["narration_id"].rpartition("_")[2], row["narration"]) for row in rows]
    path = write_lego(tmp_path / "lego", "epickitchen_val.json", actions)
    for video in {row["video_id"] for row in rows}:
        touch(tmp_path / f"epic/{video.partition('_')[0]}/videos/{video}.MP4")
    found = read_source("lego", path, videos=[tmp_path / "epic"], annotations=tmp_path / "published")
    assert len({clip.id for clip in found.clips}) == 8857
    assert [clip.problem for clip in found.clips if clip.problem] == []
    assert {clip.split for clip in found.clips} == {"test"}
    assert not any(note.startswith("epickitchen_val.json:") for note in found.notes)
