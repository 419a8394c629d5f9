"""Ego4D v2: the hands-and-objects annotations, narrations, and the folders of its `ego4d` command."""

from __future__ import annotations

import pytest
from helpers.source_layouts import fho_action, fho_video, touch, write_ego4d, write_json

from handi.core.errors import InputError
from handi.core.reading import stream_array
from handi.data.sources import ClipLength, read_source
from handi.data.sources.ego4d import spoken


def test_actions_become_clips_from_before_to_after(tmp_path):
    actions = [fho_action("#C C picks up the cup with his left hand", 300, 345)]
    home = write_ego4d(tmp_path / "v2", [fho_video("aa", actions)], {"aa": "val"})
    touch(home / "full_scale/aa.mp4")
    (clip,) = read_source("ego4d", tmp_path).clips
    assert clip.video == home / "full_scale/aa.mp4"
    assert (clip.start, clip.end) == (10.0, 11.5)
    assert clip.action == "Pick up the cup with his left hand."
    assert (clip.verb, clip.noun, clip.participant, clip.split) == ("take", "cup", "36", "val")
    assert clip.problem is None
    assert read_source("ego4d", home).clips == read_source("ego4d", tmp_path).clips
    assert read_source("ego4d", home / "annotations/fho_main.json").clips == [clip]


def test_short_actions_go_on_for_as_long_as_a_clip_takes(tmp_path):
    actions = [fho_action("#C C cuts the carrot", 300, 306), fho_action("#C C cuts the carrot", 8990, 8995)]
    home = write_ego4d(tmp_path, [fho_video("aa", actions)], {"aa": "train"})
    touch(home / "full_scale/aa.mp4")
    first, second = read_source("ego4d", home).clips
    assert (first.start * 30, first.end * 30) == (300, 315)
    assert second.problem == "stops at frame 9005; aa has 9000"


def test_an_action_without_an_end_goes_to_its_point_of_no_return(tmp_path):
    frames = {"pre_frame": 300, "pnr_frame": 330, "post_frame": None}
    actions = [fho_action("#C C cuts the carrot", 300, 345, critical_frames=frames)]
    home = write_ego4d(tmp_path, [fho_video("aa", actions)], {"aa": "train"})
    touch(home / "full_scale/aa.mp4")
    assert read_source("ego4d", home).clips[0].end == 11.0


def test_smaller_videos_and_pieces_stand_in_for_whole_ones(tmp_path):
    actions = [fho_action("#C C cuts the carrot", 300, 345)]
    videos = [fho_video("aa", actions), fho_video("bb", [], actions)]
    home = write_ego4d(tmp_path, videos, {"aa": "train", "bb": "train"})
    touch(home / "video_540ss/aa.mp4", home / "clips/bb-1.mp4", home / "clips/aa-0.mp4")
    first, second = read_source("ego4d", home).clips
    assert (first.video, first.start) == (home / "video_540ss/aa.mp4", 10.0)
    # A piece has its own clock: here it begins at frame 100 of the video.
    assert second.video == home / "clips/bb-1.mp4"
    assert (second.start, second.end) == (200 / 30, 245 / 30)
    touch(tmp_path / "disk2/full_scale/bb.mp4")
    assert read_source("ego4d", home, videos=[tmp_path / "disk2"]).clips[1].start == 10.0


@pytest.mark.parametrize(
    ("text", "changes", "problem"),
    [
        (
            "#O man X cuts the carrot",
            {},
            "is not about the camera wearer ('#O man X",
        ),
        ("#C C cuts the #unsure", {}, "names a thing that the narrator was unsure of"),
        ("#C C", {}, "has no narration"),
        ("", {}, "has no narration"),
        (
            "#C C cuts",
            {"is_rejected": True, "reject_reason": "no_hands"},
            "was rejected by the annotators (no_hands)",
        ),
        ("#C C cuts", {"is_invalid_annotation": True}, "is marked as invalid"),
        ("#C C cuts", {"is_valid_action": False}, "is marked as invalid"),
        ("#C C cuts", {"critical_frames": None}, "has no pre-condition and post-condition frame"),
        (
            "#C C cuts",
            {"critical_frames": {"pre_frame": 9, "post_frame": 9}},
            "has no pre-condition and post",
        ),
    ],
)
def test_actions_that_cannot_be_used_say_why(tmp_path, text, changes, problem):
    actions = [fho_action("#C C cuts the carrot", 300, 345), fho_action(text, 400, 450, **changes)]
    home = write_ego4d(tmp_path, [fho_video("aa", actions)], {"aa": "train"})
    touch(home / "full_scale/aa.mp4")
    good, bad = read_source("ego4d", home).clips
    assert good.problem is None
    assert str(bad.problem).startswith(problem)


def test_a_short_window_goes_on_for_as_long_as_the_clips_that_are_asked_for(tmp_path):
    home = write_ego4d(tmp_path, [fho_video("aa", [fho_action("#C C cuts it", 300, 309)])], {"aa": "train"})
    touch(home / "full_scale/aa.mp4")
    ends = [
        read_source("ego4d", home, length=length).clips[0].end
        for length in (ClipLength(), ClipLength(9), ClipLength(10), ClipLength(49, 8.0))
    ]
    assert ends == [315 / 30, 309 / 30, 309 / 30, (300 + 180) / 30]


def test_redacted_intervals_and_missing_videos(tmp_path):
    videos = [fho_video(uid, [fho_action("#C C cuts the carrot", 300, 345, uid=uid)]) for uid in "abc"]
    videos[1]["annotated_intervals"][0]["redacted"] = True
    home = write_ego4d(tmp_path, videos, dict.fromkeys("abc", "train"))
    touch(home / "full_scale/a.mp4", home / "full_scale/b.mp4")
    assert [clip.problem for clip in read_source("ego4d", home).clips] == [
        None,
        "lies in a redacted part of the video",
        "there is no full_scale/c.mp4 and no clips/c-0.mp4",
    ]


def test_the_split_of_a_piece_goes_before_that_of_its_video(tmp_path):
    videos = [
        fho_video("aa", *([fho_action("#C C cuts it", 300, 345, uid=f"aa{n}")] for n in range(4))),
        fho_video("bb", [fho_action("#C C cuts it", 300, 345, uid="bb")]),
        fho_video("cc", [fho_action("#C C cuts it", 300, 345, uid="cc")]),
    ]
    home = write_ego4d(tmp_path, videos, {"aa": "multi", "bb": "test", "cc": None})
    touch(*(home / f"full_scale/{uid}.mp4" for uid in ("aa", "bb", "cc")))
    pieces = {"fho_lta_train": [0, 1], "fho_hands_val": [1], "fho_lta_test_unannotated": [2]}
    for name, numbers in pieces.items():
        write_json(home / f"annotations/{name}.json", {"clips": [{"clip_uid": f"aa-{n}"} for n in numbers]})
    write_json(
        home / "annotations/fho_main_train.json", {"split": "train", "videos": {"aa": 3}}
    )  # not Ego4D's
    clips = read_source("ego4d", home).clips
    # aa-1 is trained on in one task and held out in another: it is held out.
    assert [clip.split for clip in clips if not clip.problem] == ["train", "val", "test", "test"]
    unknown = [clip.id for clip in clips if clip.problem]
    assert unknown == ["aa3", "cc"]
    assert "name no split for it" in str(clips[3].problem)


def test_narrations_become_clips_around_a_moment(tmp_path):
    home = write_ego4d(tmp_path, [], {"aa": "train"})
    (home / "annotations/fho_main.json").unlink()
    touch(home / "full_scale/aa.mp4")
    texts = [
        (2.0, "#C C washes the plate"),
        (11.8, "#O man Y talks"),
        (None, "#C C sits"),
        (400.0, "#C C goes"),
    ]
    narrations = [
        {"timestamp_sec": t, "timestamp_frame": 0, "narration_text": text, "annotation_uid": "n"}
        for t, text in texts
    ]
    passes = {"narration_pass_1": {"narrations": narrations, "summaries": []}, "status": "complete"}
    write_json(home / "annotations/narration.json", {"aa": passes})
    found = read_source("ego4d", home)
    assert found.notes == ["fho_main.json is not there; the narrations are used instead"]
    first, other, untimed, late = found.clips
    # They are (400 - 2) / 2 s apart, so that each has 199 / 4.9 s, half of it on either side.
    assert (first.start, first.end) == (0.0, pytest.approx(199 / 4.9))
    assert first.action == "Wash the plate."
    assert str(other.problem).startswith("is not about the camera wearer")
    assert untimed.problem == "has no timestamp_sec"
    assert late.problem == "is at 400 s; aa is 300 s long"
    assert read_source("ego4d", home / "annotations/narration.json").clips == found.clips


def test_a_narration_of_both_passes_is_used_once(tmp_path):
    home = write_ego4d(tmp_path, [], {"aa": "train"})
    (home / "annotations/fho_main.json").unlink()
    touch(home / "full_scale/aa.mp4")

    def narrations(*told):
        return {"narrations": [{"timestamp_sec": time, "narration_text": text} for time, text in told]}

    first = narrations(
        (9.0, "#C C cuts it"), (1.0, "#C C opens it"), (1.0, "#C C opens it"), (1.0, "#C C cuts")
    )
    second = narrations((9.0, "#c C  cuts it"), (float("nan"), "#C C sits"), (10**400, "#C C goes"))
    passes = {"narration_pass_1": first, "narration_pass_2": second}
    write_json(home / "annotations/narration.json", {"aa": passes, "bb": {"narration_pass_1": None}})
    found = read_source("ego4d", home)
    assert [clip.problem for clip in found.clips] == [
        None,
        None,
        "is aa.1.1 once more",
        None,
        "is aa.1.0 once more",
        "has no timestamp_sec",
        "has no timestamp_sec",
    ]
    assert found.notes[1:] == ["narration.json: 2 narrations are there more than once: aa.1.2, aa.2.0"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("#C C picks up a knife", "Pick up a knife."),
        ("#c c washes hands #unsure", "Wash hands."),
        ("#C C carries the tray.", "Carry the tray."),
        ("#C C squeezes the sponge", "Squeeze the sponge."),
        ("#C C unties the bag", "Untie the bag."),
        ("#C C presses and mixes", "Press and mixes."),
        ("#C  moves the pan", "Move the pan."),
        ("#C C does", "Do."),
        ("#C C focus", "Focus."),
        ("#C C cut", "Cut."),
        ("#C carves wood", "Carve wood."),
        ("#C C's hand picks a knife", "C's hand picks a knife."),
        ("#C C’s hands open it", "C’s hands open it."),
    ],
)
def test_a_narration_as_a_request(text, words):
    assert spoken(text) == words


def test_a_large_file_is_read_piece_by_piece(tmp_path, monkeypatch):
    """Objects that lie across the borders of pieces, of any size, come whole."""
    monkeypatch.setattr("handi.core.reading.PIECE", 7)
    items = [{"n": n, "text": 'a "]" and é' * (n % 5), "list": [[1], {"videos": []}]} for n in range(40)]
    path = write_json(tmp_path / "x.json", {"about": "the videos", "videos": items, "clips": [1]})
    assert list(stream_array(path, "videos")) == items
    assert list(stream_array(path, "clips")) == [1]
    assert list(stream_array(write_json(tmp_path / "y.json", {"videos": []}), "videos")) == []


def test_a_file_that_breaks_off_is_one_error(tmp_path):
    home = write_ego4d(
        tmp_path, [fho_video("aa", [fho_action("#C C cuts it", 300, 345)])] * 3, {"aa": "train"}
    )
    file = home / "annotations/fho_main.json"
    whole = file.read_text()
    for length in (len(whole) // 2, len(whole) - 3):
        file.write_text(whole[:length])
        with pytest.raises(InputError, match=r"fho_main.json: breaks off or is not JSON"):
            read_source("ego4d", home)
    file.write_text("[]")
    with pytest.raises(InputError, match='has no array "videos"'):
        read_source("ego4d", home)
    file.write_bytes(whole.encode().replace(b"cuts", b"c\xe9ts"))
    with pytest.raises(InputError, match="is not UTF-8 text"):
        read_source("ego4d", home)
    file.write_text('{"videos": [{"annotated_intervals": []}]}')
    with pytest.raises(InputError, match="holds a video without video_uid"):
        read_source("ego4d", home)


def test_what_is_missing_is_named_with_the_command_that_loads_it(tmp_path):
    with pytest.raises(InputError, match=r"holds no annotations/fho_main.json .*ego4d --output_directory"):
        read_source("ego4d", tmp_path)
    home = write_ego4d(tmp_path, [fho_video("aa", [fho_action("#C C cuts it", 300, 345)])], {"aa": "train"})
    (home / "ego4d.json").unlink()
    with pytest.raises(InputError, match=r"ego4d.json: is not there: .*--metadata"):
        read_source("ego4d", home)
