"""What a file is, by its content; and that no folder's file is passed over in silence."""

from __future__ import annotations

import json
import unicodedata

import numpy as np
import pytest
from helpers.lossless import lossless
from PIL import Image

from handi.core.errors import InputError
from handi.core.footage import find_footage
from handi.core.kinds import files_in, is_animation, kind_of, named
from handi.core.video import count_frames, frame_times, frames_at, probe_video, read_video, timed_frames
from handi.data.sources import read_source
from handi.evaluation.folder import read_videos
from handi.generation.requests import read_batch

FRAMES = np.zeros((4, 16, 24, 3), np.uint8) + np.array([0, 80, 160, 240], np.uint8)[:, None, None, None]


def animated(path, durations=(100, 300, 100, 0), **options):
    """The four frames as an animated picture."""
    first, *rest = (Image.fromarray(frame) for frame in FRAMES)
    first.save(path, save_all=True, append_images=rest, duration=list(durations), **options)
    return path


@pytest.mark.parametrize(
    ("name", "container", "kind"),
    [
        ("a.MP4", "mp4", "video"), ("a.3gp", "mp4", "video"), ("a.MTS", "mpegts", "video"),
        ("no_suffix", "mkv", "video"), ("a.png", "mp4", "video"), ("a.avi.part", "avi", "video"),
        ("a.dat", "mpeg", "video"), ("a.txt", "flv", "video"), ("still.webp", "WEBP", "picture"),
        ("photo", "PNG", "picture"), ("photo.mp4", "JPEG", "picture"), ("pages.tif", "TIFF", "picture"),
        ("one.gif", "GIF", "picture"), ("empty.mp4", None, "video"), ("empty.JPG", None, "picture"),
        ("notes.txt", None, None), ("empty", None, None),
    ],
)  # fmt: skip
def test_the_content_says_what_a_file_is(tmp_path, name, container, kind):
    path = tmp_path / name
    if container is None:
        path.write_bytes(b"" if "empty" in name else b"BMW and GIF, II* and so on")
    elif container.isupper():
        more = {"save_all": True, "append_images": [Image.new("RGB", (8, 8))]} if container == "TIFF" else {}
        Image.new("RGB", (8, 8)).save(path, format=container, **more)
    else:
        suffix = {"mpegts": ".ts", "mpeg": ".mpg"}.get(container, f".{container}")
        codec = {} if suffix != ".mpg" else {"codec": "mpeg1video", "pixels": "yuv420p", "fps": 25}
        lossless(tmp_path / f"made{suffix}", FRAMES, **codec).rename(path)
        assert len(read_video(path)) == 4
    assert kind_of(path) == kind


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp", "A.GIF", "anything"])
def test_animated_pictures_are_videos(tmp_path, name):
    options = {"a.webp": {"format": "WEBP", "lossless": True}, "a.png": {"format": "PNG"}}
    path = animated(tmp_path / name, **options.get(name, {"format": "GIF"}))
    assert is_animation(path)
    assert kind_of(path) == "video"
    np.testing.assert_allclose(read_video(path), FRAMES, atol=2)
    times = [time for time, _ in timed_frames(path)]
    np.testing.assert_allclose(times, [0, 0.1, 0.4, 0.5])
    assert frame_times(path, 0.1, 0.4).times == pytest.approx([0.1, 0.4])
    assert next(frames_at(path, [0.4], 0.1))[0, 0, 0] in range(158, 163)
    info = probe_video(path)
    assert (info.width, info.height, info.frames, count_frames(path)) == (24, 16, 4, 4)
    assert info.fps == pytest.approx(4 / 0.6)  # a frame without a length is shown for 0.1 s
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(InputError, match="damaged"):
        read_video(path)


def test_names_in_either_unicode_form(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "Käse.mp4") for form in ("NFC", "NFD"))
    lossless(tmp_path / decomposed, FRAMES)
    assert named(tmp_path, composed) == tmp_path / decomposed
    assert named(tmp_path, "other.mp4") is None
    assert named(tmp_path, "x" * 999) is None
    (tmp_path / "list.csv").write_text(f"video,action\n{composed},Cut it.\n")
    (clip,) = read_source("folder", tmp_path / "list.csv").clips
    assert clip.problem is None
    (tmp_path / "m.jsonl").write_text(f'{{"id": "1", "video": "{composed}"}}')
    assert len(read_videos(tmp_path / "m.jsonl")["1"].frames()) == 4
    assert "Käse" in read_videos(tmp_path)  # one id, however a side's file system writes it
    inner = tmp_path / unicodedata.normalize("NFD", "Küche")
    inner.mkdir()
    Image.new("RGB", (64, 64)).save(inner / unicodedata.normalize("NFD", "é.png"))
    line = {"image": unicodedata.normalize("NFC", "Küche/é.png"), "prompt": "Cut it."}
    (tmp_path / "b.jsonl").write_text(json.dumps(line))
    (request,), errors = read_batch(tmp_path / "b.jsonl")
    assert errors == []
    request.check()


@pytest.fixture
def folder(tmp_path):
    """Every kind of file in one folder."""
    lossless(tmp_path / "one.mp4", FRAMES).rename(tmp_path / "one.MTS")
    (tmp_path / "one.TXT").write_text("Cut it.")
    animated(tmp_path / "two.gif")
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.png")
    (tmp_path / "list.xlsx").write_bytes(b"PK")
    (tmp_path / ".hidden").write_bytes(b"")
    return tmp_path


def test_folders_say_what_they_pass_over(folder, handi):
    files = files_in(folder)
    assert [path.name for path in files.videos] == ["one.MTS", "two.gif"]
    assert files.passed_over() == ["neither picture nor video, not read: list.xlsx, one.TXT"]
    found = read_source("folder", folder)
    assert [clip.id for clip in found.clips] == ["one", "two"]
    assert found.clips[0].action == "Cut it."
    assert found.notes == ["pictures, not read: photo.png", "neither picture nor video, not read: list.xlsx"]
    said: list[str] = []
    assert [one.kind for one in find_footage(folder, said.append)] == ["video", "picture", "video"]
    assert said == [f"note: {folder}: neither picture nor video, not read: list.xlsx, one.TXT"]
    said.clear()
    (folder / "motion_area").mkdir()
    (folder / "motion_area/one.xcf").write_bytes(b"gimp xcf")
    assert list(read_videos(folder, said.append)) == ["one", "two"]
    passed = "list.xlsx, motion_area/one.xcf, photo.png"
    assert said == [f"note: {folder}: not read, as no video: {passed}"]


def test_world_readers_say_what_they_pass_over(tmp_path):
    from helpers.tiny_training import tiny_clip

    from handi.world.files import write_clip
    from handi.world.first_frames import render_first_frame, write_first_frame

    write_clip(tmp_path, tiny_clip(0))
    (tmp_path / "world.json").write_text("{}")
    (tmp_path / "0000000007.png").write_bytes(b"")  # its record is not there
    note = f"{tmp_path}: belongs to no clip, not read: 0000000007.png"
    assert read_source("world", tmp_path).notes == [note]
    firsts = tmp_path / "firsts"
    write_first_frame(firsts, render_first_frame(0, size=32))
    (firsts / "notes.doc").write_bytes(b"")
    assert read_source("world", firsts).notes == [f"{firsts}: belongs to no clip, not read: notes.doc"]
