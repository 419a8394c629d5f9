"""Your own footage: JSON, CSV and JSON Lines lists, folders of videos and texts; and the world's clips."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from helpers.source_layouts import touch, write_json, write_table

from handi.core.errors import InputError
from handi.data.sources import Clip, read_source
from handi.data.sources.common import clip_id, unique
from handi.data.sources.held_out import hold_out, place_of
from handi.world import render_clip
from handi.world.files import write_clip


def test_animate_anything_s_list(tmp_path):
    touch(tmp_path / "video_epickitchen/1.mp4", tmp_path / "video_epickitchen/sub/2.mp4")
    rows = [
        {"caption": "The person  cuts a carrot.", "video": "1.mp4"},
        {"caption": "Wash hands", "video": "sub/2.mp4"},
        {"caption": "Nothing.", "video": "3.mp4"},
        {"video": "1.mp4"},
        {"caption": "Nothing."},
        "1.mp4",
    ]
    path = write_json(tmp_path / "prompt_epickitchen.json", rows)
    clips = read_source("json", path, videos=[tmp_path / "video_epickitchen"]).clips
    assert [(clip.id, clip.problem) for clip in clips] == [
        ("1", None),
        ("2", None),
        ("item-3", "there is no video 3.mp4"),
        ("1.item-4", "has no action or caption"),
        ("item-5", "names no video"),
        ("item-6", "is not a JSON object"),
    ]
    assert clips[0] == Clip("1", tmp_path / "video_epickitchen/1.mp4", 0.0, None, "The person cuts a carrot.")


def test_a_list_stands_beside_its_videos(tmp_path):
    touch(tmp_path / "1.mp4")
    path = write_json(tmp_path / "list.json", [{"caption": "Cut.", "video": "1.mp4", "fps": 3, "motion": 2}])
    found = read_source("json", path)
    assert found.clips[0].video == tmp_path / "1.mp4"
    assert found.notes == ["not read: fps, motion"]


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ('{"caption": "a"}', r'is not a list of {"caption", "video"}'),
        ("[]", "is an empty list"),
        ("a,b", "is not JSON"),
        ('["a", "b"]', "none of 2 clips can be used; 2 of them: is not a JSON object"),
    ],
)
def test_other_json_is_one_error(tmp_path, content, error):
    (tmp_path / "list.json").write_text(content)
    with pytest.raises(InputError, match=error):
        read_source("json", tmp_path / "list.json")


def test_a_folder_of_videos_and_texts(tmp_path):
    touch(
        *(tmp_path / name for name in ("a.mp4", "b c.MOV", "d.mp4", "e.mp4", "f.mp4", "notes.pdf", ".hidden"))
    )
    (tmp_path / "a.txt").write_text("\ufeffCut the carrot.\n\n Slice  it thinly. \n", encoding="utf-8")
    (tmp_path / "b c.txt").write_text("Wash hands.")
    (tmp_path / "d.txt").write_text(" \n")
    (tmp_path / "e.txt").write_bytes("Purée".encode("latin-1"))
    (tmp_path / "z.txt").write_text("Fly.")
    found = read_source("folder", tmp_path)
    assert [(clip.id, clip.action, clip.problem) for clip in found.clips] == [
        ("a", "Cut the carrot.", None),
        (clip_id("b c"), "Wash hands.", None),
        ("d", "", "d.txt is empty"),
        ("e", "", "e.txt is not UTF-8 text (byte 0xe9 in line 1, number 4 of it)"),
        ("f", "", "there is no f.txt"),
    ]
    assert found.clips[0].paraphrases == ("Slice it thinly.",)
    assert found.notes == ["text without a video: z.txt", "neither picture nor video, not read: notes.pdf"]


def test_captions_in_other_encodings(tmp_path):
    texts = {
        "bom.txt": b"\xef\xbb\xbfCut the carrot.",
        "utf16.txt": "Cut the carrot.".encode("utf-16"),
        "upper.TXT": b"Cut the carrot.",
        "cp1252.txt": "Cut the car\u2019rot.".encode("cp1252"),
    }
    for name, content in texts.items():
        (tmp_path / name).write_bytes(content)
        touch((tmp_path / name).with_suffix(".MP4" if name == "upper.TXT" else ".mp4"))
    clips = {clip.id: clip for clip in read_source("folder", tmp_path).clips}
    assert {name: clip.action for name, clip in clips.items() if not clip.problem} == dict.fromkeys(
        ("bom", "upper", "utf16"), "Cut the carrot."
    )
    assert clips["cp1252"].problem == "cp1252.txt is not UTF-8 text (byte 0x92 in line 1, number 12 of it)"


def test_two_videos_of_one_name_are_told_apart(tmp_path):
    touch(tmp_path / "a.mp4", tmp_path / "a.mov")
    (tmp_path / "a.txt").write_text("Cut.")
    first, second = read_source("folder", tmp_path).clips
    assert first.problem is None
    assert second.problem == "a is listed more than once; only the first is used"


def test_a_csv_list_of_actions_in_long_videos(tmp_path):
    touch(tmp_path / "long.mp4")
    rows = [
        {
            "id": "one",
            "video": "long.mp4",
            "start": "1.5",
            "end": "3",
            "action": "Cut.",
            "split": "validation",
        },
        {"video": "long.mp4", "start": "4", "action": "Wash.", "description": "The  person washes."},
        {"video": "long.mp4", "start": "7", "end": "6", "action": "Dry."},
        {"video": "long.mp4", "start": "soon", "action": "Dry."},
        {"video": "long.mp4", "start": "nan", "action": "Dry."},
        {"video": "long.mp4", "action": "Dry.", "split": "holdout"},
        {"id": "one", "video": "long.mp4", "action": "Dry."},
    ]
    columns = ["id", "video", "start", "end", "action", "description", "split", "who"]
    found = read_source("folder", write_table(tmp_path / "clips.csv", rows, columns))
    assert [(clip.id, clip.start, clip.end, clip.split) for clip in found.clips[:2]] == [
        ("one", 1.5, 3.0, "val"),
        ("long", 4.0, None, "train"),
    ]
    assert found.clips[1].description == "The person washes."
    assert [(clip.id, clip.problem) for clip in found.clips[2:]] == [
        ("long.line-4", "ends at 6 s, before it starts at 7 s"),
        ("long.line-5", "has a start that is no number of seconds ('soon')"),
        ("long.line-6", "has a start of nan s"),
        ("long.line-7", "there is no split 'holdout'; use train, val, test"),
        ("one.again2", "one is listed more than once; only the first is used"),
    ]


def test_a_json_lines_list(tmp_path):
    touch(tmp_path / "a.mp4")
    lines = [
        json.dumps({"video": "a.mp4", "text": "Cut.", "paraphrases": ["Slice."], "verb": "cut", "mood": 1}),
        "{broken",
        "",
        json.dumps({"video": "a.mp4", "action": 5}),
    ]
    (tmp_path / "clips.jsonl").write_text("\n".join(lines))
    found = read_source("folder", tmp_path / "clips.jsonl")
    assert (found.clips[0].action, found.clips[0].verb, found.clips[0].paraphrases) == (
        "Cut.",
        "cut",
        ("Slice.",),
    )
    assert [(clip.id, clip.problem) for clip in found.clips[1:]] == [
        ("line-2", "is not JSON (Expecting property name enclosed in double quotes: column 2)"),
        ("a.line-4", "has no action or caption"),
    ]
    assert found.notes == ["not read: mood"]


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("clips.csv", "file,action\na.mp4,Cut.\n", r"has no column video; its first line is 'file,action'"),
        ("clips.csv", "video,video,action\n", "has more than one column video"),
        ("clips.csv", "video,start\na.mp4,1\n", "has no column action or caption or prompt or text"),
        ("clips.csv", "video,action\n", "lists no clips"),
        ("clips.csv", "", "is empty"),
        ("clips.jsonl", "\n", "lists no clips"),
        ("clips.xlsx", "x", r"is neither a folder nor a list; use a .csv or .jsonl file"),
    ],
)
def test_other_lists_are_one_error(tmp_path, name, content, error):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=error):
        read_source("folder", tmp_path / name)


def test_what_is_not_there_is_one_error(tmp_path):
    for kind in ("json", "folder", "world", "lego", "ego4d", "epic-kitchens"):
        with pytest.raises(InputError, match="nowhere"):
            read_source(kind, tmp_path / "nowhere")
    with pytest.raises(InputError, match="holds no videos"):
        read_source("folder", tmp_path)
    path = write_json(tmp_path / "list.json", [{"caption": "Cut.", "video": "1.mp4"}])
    with pytest.raises(InputError, match="nowhere: no such folder of videos"):
        read_source("json", path, videos=[tmp_path / "nowhere"])
    with pytest.raises(InputError, match=r"there is no source 'kinetics'; use epic-kitchens, ego4d"):
        read_source("kinetics", tmp_path)


def test_clips_of_the_world(tmp_path):
    rendered = render_clip(800_000, size=32)
    path = write_clip(tmp_path, rendered, pictures="png")
    record = json.loads(path.read_text())
    write_json(tmp_path / "0000000003.json", record | {"split": "train", "video": "0000000003.png"})
    write_json(tmp_path / "0000000007.json", {k: v for k, v in record.items() if k != "enriched"})
    write_json(tmp_path / "0000000009.json", {})
    silent, damaged, strange, clip = read_source("world", tmp_path).clips
    assert (clip.id, clip.split, clip.truth) == ("0000800000", "val", path)
    assert (clip.action, clip.description, clip.verb) == (rendered.text, rendered.enriched, rendered.action)
    assert clip.paraphrases == tuple(rendered.paraphrases)
    assert clip.video is None  # its record says where the frames are
    assert (silent.split, silent.problem) == ("train", "there is no 0000000003.png")
    assert damaged.problem == "0000000007.json is damaged ('enriched')"
    assert strange.problem == "0000000009.json is not a clip of the synthetic world"


def test_ids_are_file_names_and_differ_where_names_do():
    assert clip_id("P01_11_0") == "P01_11_0"
    assert len({clip_id(name) for name in ("a b", "a_b", "a/b", "a\nb", "ä_b")}) == 5
    for name in ("../x", ".hidden", "-rf", "ä" * 300, "a" * 300, "", "b c", "\udce9"):
        plain = clip_id(name)
        assert set(plain) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
        assert 0 < len(plain) <= 127
        assert plain[0] not in ".-"


def test_doubled_ids_never_take_one_that_is_used():
    names = ["a", "a.again2", "a", "a", "a.again2"]
    clips = unique(Clip(name, None, 0.0, None, "Cut.") for name in names)
    assert len({clip.id for clip in clips}) == 5
    assert [clip.problem is None for clip in clips] == [True, True, False, False, False]


def test_whole_videos_are_held_out_by_what_they_hold(tmp_path):
    for n in range(200):
        touch(tmp_path / f"{n:03}.mp4")
        (tmp_path / f"{n:03}.mp4").write_bytes(b"%d" % n)
    lines = [json.dumps({"video": f"{n % 200:03}.mp4", "action": f"Do {n}."}) for n in range(400)]
    (tmp_path / "list.jsonl").write_text("\n".join(lines))
    found = read_source("folder", tmp_path / "list.jsonl")
    held = hold_out(found, 0.05)
    val = {clip.video for clip in held.clips if clip.split == "val"}
    assert 3 <= len(val) <= 20
    assert sum(clip.split == "val" for clip in held.clips) == 2 * len(val)  # both clips of each
    assert val < {clip.video for clip in hold_out(found, 0.3).clips if clip.split == "val"}
    some = replace(found, clips=[clip for clip in reversed(found.clips) if clip.video.name < "100.mp4"])
    assert {c.video for c in hold_out(some, 0.05).clips if c.split == "val"} == {
        video for video in val if video.name < "100.mp4"
    }
    for share, count in ((0.0, 0), (1e-9, 1)):  # of two videos or more one is always held out
        assert len({clip.video for clip in hold_out(found, share).clips if clip.split == "val"}) == count
    old, new = next(iter(val)), tmp_path / "renamed.mp4"
    before = place_of(old)
    old.rename(new)
    assert place_of(new) == before < 0.05
    alone = hold_out(replace(found, clips=found.clips[:1]), 0.05)
    assert [clip.split for clip in alone.clips] == ["train"]
    assert alone.notes == ["one video alone: none is held out"]


def test_a_list_that_names_splits_keeps_them(tmp_path):
    touch(tmp_path / "1.mp4", tmp_path / "2.mp4")
    (tmp_path / "2.mp4").write_bytes(b"another")
    (tmp_path / "list.csv").write_text("video,action,split\n1.mp4,Cut.,train\n2.mp4,Stir.,\n")
    found = read_source("folder", tmp_path / "list.csv")
    assert {clip.split for clip in hold_out(found, 0.5).clips} == {"train"}
