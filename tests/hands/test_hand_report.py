"""`handi hands`, from the command line to the files."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.lossless import lossless

from handi.core.images import read_image, write_image
from handi.core.video import probe_video, read_video
from handi.hands import report as hand_report
from handi.hands.detector import HandDetector
from handi.hands.record import read_joints
from handi.method.area import hull_area
from handi.motion.flow import motion_flow

CUT = Path(__file__).parents[1] / "pictures/hands/cut.png"


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    """Four frames with two hands each, which every mode finds with a score of 0.79 or more."""
    return read_image(CUT).reshape(4, -1, 192, 3)[[2, 3, 3, 2]]


@pytest.fixture(scope="module")
def video(frames, tmp_path_factory) -> Path:
    return lossless(tmp_path_factory.mktemp("video") / "cut.mp4", frames)


def test_a_video(handi, video, tmp_path):
    code, _, err = handi("hands", video, "--out", tmp_path / "out")
    assert code == 0
    assert "4 frames, 0/1/2 hands in 0/0/100 % of them" in err
    assert "frames/s" in err
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["joints.json", "motion_area.png", "motion_flow.png", "overlay.mp4"]
    record = read_joints(tmp_path / "out/joints.json")
    assert record.counts.tolist() == [2] * 4
    np.testing.assert_allclose(record.times, [0, 0.125, 0.25, 0.375])
    assert record.about["detector"]["backend"].split()[0] in ("torch", "litert")
    assert record.about["detector"]["mode"] == "video"
    area = read_image(tmp_path / "out/motion_area.png")[..., 0] > 0
    np.testing.assert_array_equal(area, hull_area(record.joints, 144, 192))
    flow = read_image(tmp_path / "out/motion_flow.png")[..., 0]
    np.testing.assert_array_equal(flow, np.rint(motion_flow(read_video(video)) * 255))
    overlay, plain = read_video(tmp_path / "out/overlay.mp4"), read_video(video)
    drawn = (np.abs(overlay.astype(int) - plain).max(axis=-1) > 60).any(axis=0)
    assert drawn.sum() > 200
    x, y = np.rint(record.joints.reshape(-1, 2) * (192, 144)).astype(int).T
    assert drawn[y, x].mean() > 0.9  # the skeletons lie on the joints


def test_pictures_one_by_one_and_a_bad_one_among_them(handi, frames, tmp_path):
    for name, frame in (("one", frames[0]), ("two", frames[1])):
        write_image(tmp_path / f"in/{name}.png", frame)
    write_image(tmp_path / "in/blank.png", np.zeros((31, 17, 3), np.uint8))
    (tmp_path / "in/bad.mp4").write_bytes(b"")
    code, _, err = handi("hands", tmp_path / "in", "--out", tmp_path / "out")
    assert code == 1
    assert err.count("error:") == 1
    assert "bad.mp4: the video is empty (0 bytes)" in err
    assert "no hand was found, so the motion area is empty" in err
    for name in ("one", "two", "blank"):
        names = {path.name for path in (tmp_path / "out" / name).iterdir()}
        assert names == {"joints.json", "motion_area.png", "overlay.png"}
    assert read_joints(tmp_path / "out/one/joints.json").about["detector"]["mode"] == "image"


def test_what_is_finished_is_kept_until_something_changes(handi, video, tmp_path, monkeypatch):
    arguments = ("hands", video, "--out", tmp_path)
    assert handi(*arguments)[0] == 0
    before = (tmp_path / "joints.json").stat().st_mtime_ns
    _, _, err = handi(*arguments)
    assert "already in" in err
    assert (tmp_path / "joints.json").stat().st_mtime_ns == before
    _, _, err = handi(*arguments, "--hull", "all")
    assert "wrote" in err


@pytest.mark.parametrize("mode", ["video", "image"])
def test_stopped_work_goes_on_and_ends_the_same(handi, frames, tmp_path, monkeypatch, mode):
    lossless(tmp_path / "long.mp4", np.concatenate([frames, frames[::-1]]))
    monkeypatch.setattr(hand_report, "CHUNK_BYTES", 1)  # two frames at a time
    arguments = ("hands", tmp_path / "long.mp4", "--mode", mode)
    assert handi(*arguments, "--out", tmp_path / "at_once")[0] == 0
    plain, calls = HandDetector.detect, []

    def interrupted(self, *args, **options):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(1)
        return plain(self, *args, **options)

    monkeypatch.setattr(HandDetector, "detect", interrupted)
    code, _, err = handi(*arguments, "--out", tmp_path / "out")
    assert (code, err.splitlines()[-1]) == (130, "stopped")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [hand_report.UNFINISHED]
    seen = []
    monkeypatch.setattr(HandDetector, "detect", lambda s, f, **o: seen.append(len(f)) or plain(s, f, **o))
    assert handi(*arguments, "--out", tmp_path / "out")[0] == 0
    assert seen == [2, 2]  # the other four frames alone
    for name in ("joints.json", "motion_area.png", "motion_flow.png"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "at_once" / name).read_bytes()
    assert not (tmp_path / "out" / hand_report.UNFINISHED).exists()


def test_uneven_times_sound_and_an_odd_size(handi, frames, tmp_path):
    ticks = [0, 20, 100, 900]  # of 1/600 s
    with av.open(str(tmp_path / "odd.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=30)
        stream.width, stream.height, stream.pix_fmt = 191, 143, "bgr0"
        stream.time_base = Fraction(1, 600)
        sound = container.add_stream("pcm_s16le", rate=8000)
        for frame, tick in zip(frames, ticks, strict=True):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame[:143, :191]), format="rgb24")
            picture.pts, picture.time_base = tick, Fraction(1, 600)
            container.mux(stream.encode(picture))
        noise = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
        noise.rate = 8000
        for stream_ in (sound.encode(noise), stream.encode(), sound.encode()):
            container.mux(stream_)
    assert handi("hands", tmp_path / "odd.mkv", "--out", tmp_path / "out", "--mode", "image")[0] == 0
    record = read_joints(tmp_path / "out/joints.json")
    np.testing.assert_allclose(record.times, [tick / 600 for tick in ticks], atol=2e-3)
    assert (record.height, record.width) == (143, 191)
    assert read_image(tmp_path / "out/motion_area.png").shape == (143, 191, 3)
    assert probe_video(tmp_path / "out/overlay.mp4").frames == 4


@pytest.mark.parametrize(("frames_", "shape"), [(1, (96, 160)), (2, (1, 1)), (2, (2160, 3840))])
def test_one_frame_one_pixel_and_4k(handi, tmp_path, frames_, shape):
    for number in range(frames_):
        write_image(tmp_path / f"in/{number}.png", np.full((*shape, 3), 90, np.uint8))
    code, _, err = handi("hands", tmp_path / "in/%d.png", "--out", tmp_path / "out")
    assert code == 0, err
    assert read_joints(tmp_path / "out/joints.json").visible.shape == (frames_, 2)
    assert (tmp_path / "out/motion_flow.png").exists() == (frames_ > 1)


def test_bad_input_is_one_line(handi, video, tmp_path):
    whole = video.read_bytes()
    for name, content in (("cut", whole[:700]), ("noise", b"\x00" * 999), ("empty", b"")):
        (tmp_path / f"{name}.mp4").write_bytes(content)
        code, _, err = handi("hands", tmp_path / f"{name}.mp4", "--out", tmp_path / "out")
        lines = [line for line in err.splitlines() if line.startswith("error")]
        assert code == 1
        assert len(lines) == 1
        assert f"{name}.mp4: " in lines[0]
    code, _, err = handi("hands", video, "--out", tmp_path, "--detection-confidence", "2")
    assert code == 1
    assert "--detection-confidence 2" in err
    code, _, err = handi("hands", video, "--out", tmp_path, "--models", tmp_path)
    assert code == 1
    assert "holds no palm_detection_full.tflite" in err
    (tmp_path / "file").write_text("in the way")
    code, _, err = handi("hands", video, "--out", tmp_path / "file")
    assert code == 1
    assert "cannot be written" in err


def test_unfinished_work_of_other_settings_is_not_used(handi, video, tmp_path):
    np.savez(tmp_path / hand_report.UNFINISHED, key="of other settings")
    assert handi("hands", video, "--out", tmp_path)[0] == 0
    assert read_joints(tmp_path / "joints.json").counts.tolist() == [2] * 4
