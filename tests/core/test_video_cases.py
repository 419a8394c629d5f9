"""Videos as cameras and other programs leave them: geometry, clocks, codecs with a memory, lists of files."""

from __future__ import annotations

import shutil
import struct
import subprocess
from fractions import Fraction

import av
import numpy as np
import pytest
from helpers.containers import IDENTITY
from helpers.lossless import lossless
from helpers.small_footage import clip_of

from handi.core.errors import InputError
from handi.core.footage import find_footage
from handi.core.video import (
    VideoInfo,
    count_frames,
    frame_times,
    frames_at,
    probe_video,
    read_video,
    timed_frames,
    write_video,
)
from handi.data.cut import cut
from handi.data.ledger import Rejected
from handi.data.stages import PrepareSettings


def numbered(frames=30, height=24, width=32):
    """Frames whose brightness tells their number, each corner in a colour of its own."""
    clip = (
        np.full((frames, height, width, 3), 8, np.uint8)
        * np.arange(frames, dtype=np.uint8)[:, None, None, None]
    )
    clip[:, :8, :8] = (255, 0, 0)
    clip[:, :8, -8:] = (0, 255, 0)
    clip[:, -8:, :8] = (0, 0, 255)
    clip[:, -8:, -8:] = (255, 255, 0)
    return clip


def with_matrix(path, matrix):
    """Give a video another display matrix, (a, b, c, d)."""
    a, b, c, d = (value * (1 << 16) for value in matrix)
    raw = path.read_bytes()
    start = raw.index(IDENTITY, raw.index(b"tkhd"))
    path.write_bytes(raw[:start] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + raw[start + 36 :])


# display matrix: what it shows of a stored picture, rotation, mirrored
MATRICES = {
    (1, 0, 0, 1): (lambda p: p, 0, False),
    (0, 1, -1, 0): (lambda p: np.rot90(p, -1), 90, False),
    (-1, 0, 0, -1): (lambda p: p[::-1, ::-1], 180, False),
    (0, -1, 1, 0): (lambda p: np.rot90(p), 270, False),
    (-1, 0, 0, 1): (lambda p: p[:, ::-1], 0, True),
    (1, 0, 0, -1): (lambda p: p[::-1], 180, True),
    (0, 1, 1, 0): (lambda p: p.transpose(1, 0, 2), 270, True),
    (0, -1, -1, 0): (lambda p: p[::-1, ::-1].transpose(1, 0, 2), 90, True),
}


@pytest.mark.parametrize("matrix", MATRICES)
def test_every_display_matrix_shows_what_a_player_shows(tmp_path, matrix):
    clip = numbered(2)
    path = lossless(tmp_path / "a.mp4", clip)
    with_matrix(path, matrix)
    shown, rotation, mirrored = MATRICES[matrix]
    expected = np.stack([shown(frame) for frame in clip])
    np.testing.assert_array_equal(read_video(path), expected)
    height, width = expected.shape[1:3]
    assert probe_video(path) == VideoInfo(width, height, 8.0, 2, rotation, mirrored)
    turned = np.rot90(clip[0][:, ::-1] if mirrored else clip[0], -rotation // 90)  # as VideoInfo says it
    np.testing.assert_array_equal(turned, expected[0])
    if shutil.which("ffmpeg"):
        command = ["ffmpeg", "-v", "error", "-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
        raw = subprocess.run(command, capture_output=True, check=True).stdout
        np.testing.assert_array_equal(np.frombuffer(raw, np.uint8).reshape(expected.shape), expected)


def encoded(path, frames, *, codec="libx264rgb", pixels="rgb24", rate=10, aspect=None, sound=None, **options):
    """Write frames with another codec; `sound`: s of silence that begins before the first frame."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options={k: str(v) for k, v in options.items()})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixels
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = Fraction(aspect)
        if sound is not None:
            track = container.add_stream("pcm_s16le", rate=8000, layout="mono")
            silence = np.zeros((1, round(8000 * (sound + len(frames) / rate))), np.int16)
            noise = av.AudioFrame.from_ndarray(silence, format="s16", layout="mono")
            noise.sample_rate, noise.pts = 8000, 0
            container.mux(track.encode(noise))
        for number, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            picture = picture.reformat(format=pixels)
            picture.pts = number + round((sound or 0) * rate)
            picture.time_base = Fraction(1, rate)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def numbers(pictures):
    """What `numbered` frames these are."""
    return [round(float(picture[12, 16].mean()) / 8) for picture in pictures]


@pytest.mark.parametrize(("aspect", "width"), [("4/3", 43), ("1/2", 16), ("1", 32)])
def test_pixels_that_are_not_square_are_made_so(tmp_path, aspect, width):
    path = encoded(tmp_path / "a.mkv", numbered(2), aspect=aspect)
    assert read_video(path).shape == (2, 24, width, 3)
    assert (probe_video(path).width, probe_video(path).height) == (width, 24)
    made = cut(
        clip_of(encoded(tmp_path / "b.mkv", numbered(16), aspect=aspect)), PrepareSettings(size=(16, 16))
    )
    assert made.figures["source_size"] == [24, width]


def test_annotations_count_on_the_containers_clock(tmp_path):
    path = encoded(tmp_path / "late.mkv", numbered(), sound=0.7)
    times = [time for time, _ in timed_frames(path)]
    np.testing.assert_allclose(times, 0.7 + np.arange(30) / 10, atol=0.002)
    span = frame_times(path, 1.0, 2.8)
    assert numbers(frames_at(path, span.times, 1.0)) == list(range(3, 22))
    made = cut(clip_of(path, start=1.0, end=2.8), PrepareSettings(size=(24, 24)))
    assert numbers([np.pad(f, ((0, 0), (4, 4), (0, 0))) for f in made.frames[[0, -1]]]) == [3, 21]


def test_pictures_out_of_order_in_an_avi(tmp_path):
    mixed = {"x264-params": "b-adapt=0:bframes=2:keyint=10:qp=1"}
    path = encoded(tmp_path / "b.avi", numbered(), codec="libx264", pixels="yuv420p", **mixed)
    with av.open(str(path)) as container:  # it is the case that is meant
        assert container.streams.video[0].codec_context.has_b_frames
    assert numbers(read_video(path)) == list(range(30))
    span = frame_times(path, 1.2, 2.9)
    np.testing.assert_allclose(span.times, np.arange(12, 30) / 10)
    assert numbers(frames_at(path, span.times, 1.2)) == list(range(12, 30))


def test_a_palette_is_not_lost_by_beginning_amid_the_file(tmp_path):
    clip = np.zeros((30, 24, 32), np.uint8) + np.arange(30, dtype=np.uint8)[:, None, None]
    argb = np.full((256, 4), 255, np.uint8)
    argb[:, 1:] = (np.arange(256)[:, None] * 8) % 256
    path = tmp_path / "pal8.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("rawvideo", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "pal8"
        for indices in clip:
            frame = av.VideoFrame.from_ndarray((indices, argb), format="pal8")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    span = frame_times(path, 2.0, 2.8)
    assert numbers(frames_at(path, span.times, 2.0)) == list(range(20, 29))


def test_what_an_edit_list_hides_is_not_missing(tmp_path):
    path = lossless(tmp_path / "a.mp4", numbered(), fps=10)
    raw = path.read_bytes()
    edit = raw.index(b"elst")
    version, _, count = struct.unpack(">BxHI", raw[edit + 4 : edit + 12])
    assert (version, count) == (0, 1)
    duration, begin = struct.unpack(">Ii", raw[edit + 12 : edit + 20])
    timescale = struct.unpack(">I", raw[(mdhd := raw.index(b"mdhd")) + 16 : mdhd + 20])[0]
    hidden = struct.pack(">Ii", duration // 2, begin + timescale)  # the first second, and all from 2.5 s on
    path.write_bytes(raw[: edit + 12] + hidden + raw[edit + 20 :])
    shown = read_video(path)
    assert numbers(shown) == list(range(10, 10 + len(shown)))
    assert 14 <= len(shown) <= 17
    assert count_frames(path) == probe_video(path).frames == len(shown)
    (footage,) = find_footage(path)
    assert footage.announced == len(list(footage.frames()))
    assert frame_times(path).times[0] == 0


def test_a_recording_that_begins_amid_a_group_of_pictures(tmp_path):
    path = encoded(tmp_path / "a.ts", numbered(), codec="libx264", pixels="yuv420p", g=10, bf=0, qp=0)
    packets = path.read_bytes()
    packets = [packets[n : n + 188] for n in range(0, len(packets), 188)]
    tables = [p for p in packets[:8] if (p[1] & 31) << 8 | p[2] in (0, 4096)]
    path.write_bytes(b"".join(tables + packets[len(packets) // 6 :]))
    found = numbers(read_video(path))
    assert found == list(range(found[0], 30))
    assert found[0] == 10


def test_a_size_that_changes_is_one_clear_line(tmp_path):
    path = tmp_path / "a.ts"
    parts = [
        encoded(tmp_path / name, numbered(16, *size), codec="libx264", pixels="yuv420p", rate=10)
        for name, size in (("1.ts", (24, 32)), ("2.ts", (48, 64)))
    ]
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    with pytest.raises(InputError, match=r"a\.ts: its frames change their size from 32×24 to 64×48 at"):
        read_video(path)
    (footage,) = find_footage(path)
    with pytest.raises(InputError, match="change their size"):
        list(footage.frames())
    with pytest.raises(Rejected, match="change their size"):
        cut(clip_of(path), PrepareSettings(size=(16, 16)))


@pytest.mark.parametrize(
    "text",
    [
        "ffconcat version 1.0\nfile secret.mp4\n",
        "file secret.mp4\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nsecret.mp4\n#EXT-X-ENDLIST\n",
        "\ufeff#EXTM3U\nsecret.mp4\n",
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"></MPD>',
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n",
        "[playlist]\nFile1=secret.mp4\n",
    ],
)
@pytest.mark.parametrize("name", ["a.mp4", "a.m3u8", "a.ffconcat"])
def test_text_that_names_other_files_opens_none(tmp_path, text, name):
    write_video(tmp_path / "secret.mp4", numbered(16))
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    for read in (read_video, probe_video, count_frames, frame_times):
        with pytest.raises(InputError, match=f"{name}: is a text that names other files, not a video"):
            read(path)


def test_only_formats_that_hold_their_own_pictures_are_opened(tmp_path):
    """Whatever its text looks like: the formats that open other files are switched off in ffmpeg itself."""
    (tmp_path / "%d.png").write_bytes(b"")
    for name, content in (
        ("a.mp4", b"\n" * 80 + b"ffconcat version 1.0\nfile b.mp4\n"),
        ("%d.png", b"x" * 99),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError):
            read_video(tmp_path / name)


def test_a_name_with_a_colon_is_no_protocol(tmp_path):
    write_video(tmp_path / "take:1.mp4", numbered(2))
    assert len(read_video(tmp_path / "take:1.mp4")) == 2


def test_what_is_written_is_bt709(tmp_path):
    clip = np.zeros((2, 16, 48, 3), np.uint8)
    clip[:, :, :16], clip[:, :, 16:32], clip[:, :, 32:] = (200, 40, 40), (40, 200, 40), (40, 40, 200)
    write_video(tmp_path / "a.mp4", clip)
    with av.open(str(tmp_path / "a.mp4")) as container:
        frame = next(container.decode(video=0))
        context = container.streams.video[0].codec_context
        for tagged in (frame, context):
            assert (tagged.colorspace, tagged.color_primaries, tagged.color_trc, tagged.color_range) == (
                1,
                1,
                1,
                1,
            )
        red = frame.to_ndarray()[8, 8]
    luma = 16 + 219 / 255 * (0.2126 * 200 + 0.7152 * 40 + 0.0722 * 40)  # by BT.601 it is 6 more
    assert abs(float(red) - luma) < 2
    read = read_video(tmp_path / "a.mp4")
    for middle in (8, 24, 40):
        assert np.abs(read[0, 8, middle].astype(int) - clip[0, 8, middle]).max() <= 3


def test_the_same_frames_give_the_same_bytes(tmp_path):
    clip = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
    written = []
    for threads in (1, 3, 1):
        np.full(1 << (16 + threads), threads, np.uint8)  # leaves other numbers in freed memory
        write_video(tmp_path / "a.mp4", clip)
        written.append((tmp_path / "a.mp4").read_bytes())
    assert written[0] == written[1] == written[2]
    assert b"threads=1 " in written[0]  # x264 keeps its settings in the file
    assert b"mbtree=0 " in written[0]
