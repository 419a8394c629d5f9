"""Videos: what is written plays and reads back; what cannot be read is named."""

from __future__ import annotations

import struct

import av
import numpy as np
import pytest
from helpers.containers import IDENTITY, TURNS, remux

from handi.core import video
from handi.core.errors import InputError, OutputError


def moving_square(frames=10, height=48, width=64):
    clip = np.full((frames, height, width, 3), 60, np.uint8)
    for i in range(frames):
        clip[i, 10:20, 4 * i : 4 * i + 10] = (220, 180, 40)
    return clip


def test_round_trip(tmp_path):
    clip = moving_square()
    video.write_video(tmp_path / "a.mp4", clip, fps=8)
    read = video.read_video(tmp_path / "a.mp4")
    assert read.shape == clip.shape
    assert np.abs(read.astype(int) - clip).mean() < 4
    info = video.probe_video(tmp_path / "a.mp4")
    assert (info.width, info.height, info.fps, info.frames, info.rotation) == (64, 48, 8.0, 10, 0)


def test_a_browser_can_play_it(tmp_path):
    video.write_video(tmp_path / "a.mp4", moving_square(), fps=8)
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert stream.average_rate == 8
    raw = (tmp_path / "a.mp4").read_bytes()
    assert raw.index(b"moov") < raw.index(b"mdat")  # playable before it is loaded whole


def test_odd_sides_and_a_single_frame(tmp_path):
    video.write_video(tmp_path / "a.mp4", moving_square(1, 49, 65))
    assert video.read_video(tmp_path / "a.mp4").shape == (1, 48, 64, 3)
    with pytest.raises(ValueError, match="no frames"):
        video.write_video(tmp_path / "b.mp4", [])


def test_an_unwritable_path_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        video.write_video(tmp_path / "file" / "a.mp4", moving_square())
    with pytest.raises(ValueError, match="among frames of"):
        video.write_video(tmp_path / "a.mp4", [moving_square()[0], np.zeros((4, 4, 3), np.uint8)])
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("degrees", TURNS)
def test_rotation_metadata_is_applied(tmp_path, degrees):
    path = tmp_path / "a.mp4"
    clip = np.full((4, 48, 64, 3), 30, np.uint8)
    clip[:, :16, :16] = 240  # a bright corner, top left as stored
    video.write_video(path, clip)
    a, b, c, d = (value * (1 << 16) for value in TURNS[degrees])
    raw = path.read_bytes()
    start = raw.index(IDENTITY, raw.index(b"tkhd"))
    path.write_bytes(raw[:start] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + raw[start + 36 :])
    played = video.read_video(path)
    expected = np.rot90(clip, -degrees // 90, axes=(1, 2))  # clockwise
    assert played.shape == expected.shape
    assert np.abs(played.astype(int) - expected).mean() < 5
    info = video.probe_video(path)
    assert info.rotation == degrees
    assert (info.height, info.width) == played.shape[1:3]


def test_variable_frame_rate_and_sound(tmp_path):
    video.write_video(tmp_path / "a.mp4", moving_square(6))
    times = [0, 40, 80, 500, 540, 1000]
    remux(tmp_path / "a.mp4", tmp_path / "b.mp4", times=times, audio=True)
    assert len(video.read_video(tmp_path / "b.mp4")) == 6
    assert [time for time, _ in video.timed_frames(tmp_path / "b.mp4")] == pytest.approx(
        [t / 1000 for t in times], abs=0.01
    )


@pytest.mark.parametrize("kind", ["empty", "text", "folder", "missing", "cut", "audio"])
def test_bad_videos_are_named(tmp_path, kind):
    path = tmp_path / "a.mp4"
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("hello " * 100)
    elif kind == "folder":
        path.mkdir()
    elif kind == "cut":
        video.write_video(path, moving_square())
        path.write_bytes(path.read_bytes()[:700])
    elif kind == "audio":
        with av.open(str(path), "w") as container:
            sound = container.add_stream("aac", rate=8000)
            samples = av.AudioFrame.from_ndarray(
                np.zeros((1, 8000), np.float32), format="fltp", layout="mono"
            )
            samples.sample_rate = 8000
            container.mux(sound.encode(samples))
            container.mux(sound.encode())
    with pytest.raises(InputError) as error:
        video.read_video(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("total", "count"), [(16, 16), (100, 16), (5, 16), (1, 3), (17, 2)])
def test_even_indices_span_the_clip(total, count):
    indices = video.even_indices(total, count)
    assert len(indices) == count
    assert indices[0] == 0
    assert indices[-1] == (total - 1 if count > 1 else 0)
    gaps = np.diff(indices)
    assert gaps.max() - gaps.min() <= 1


def test_even_indices_of_nothing():
    with pytest.raises(ValueError, match="cannot pick"):
        video.even_indices(0, 4)
