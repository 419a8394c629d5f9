from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from handi.assets import HANDS
from handi.commands import doctor
from handi.core.errors import ModelError
from handi.hands.weights import LANDMARK, PALM, load_hand_weights


@pytest.fixture(autouse=True)
def _no_setting(monkeypatch):
    monkeypatch.delenv("HANDI_HAND_MODELS", raising=False)


def put(folder: Path, weights) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PALM["full"].name).write_bytes(weights.palm)
    (folder / LANDMARK["full"].name).write_bytes(weights.landmark)


@pytest.mark.parametrize("complexity", ["full", "lite"])
def test_both_complexities_ship_with_their_licence(complexity):
    assert load_hand_weights(complexity).source == str(HANDS)
    assert "Apache License" in (HANDS / "LICENSE").read_text()
    assert LANDMARK[complexity].name in (HANDS / "NOTICE").read_text()


def test_a_named_place_counts_before_the_package(weights, tmp_path, monkeypatch):
    for name in ("set", "named"):
        put(tmp_path / name, weights)
    monkeypatch.setenv("HANDI_HAND_MODELS", str(tmp_path / "set"))
    assert load_hand_weights().source == str(tmp_path / "set")
    assert load_hand_weights(path=tmp_path / "named").source == str(tmp_path / "named")


def test_a_wheel_is_as_good_as_the_files(weights, tmp_path):
    wheel = tmp_path / "mediapipe-0.10.21-cp311-cp311-manylinux_2_28_x86_64.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"mediapipe/modules/{PALM['full'].path}", weights.palm)
        archive.writestr(f"mediapipe/modules/{LANDMARK['full'].path}", weights.landmark)
    for place in (wheel, tmp_path):  # the wheel, or the folder that it lies in
        assert load_hand_weights(path=place).landmark == weights.landmark


def test_a_task_bundle_is_known_by_what_it_computes(weights, tmp_path):
    bundle = tmp_path / "hand_landmarker.task"
    with zipfile.ZipFile(bundle, "w") as archive:
        archive.writestr("hand_detector.tflite", weights.palm + b"metadata")
        archive.writestr("hand_landmarks_detector.tflite", weights.landmark + b"metadata")
    assert load_hand_weights(path=bundle).source == str(bundle)
    with zipfile.ZipFile(bundle, "w") as archive:
        archive.writestr("hand_detector.tflite", weights.palm)
        archive.writestr("hand_landmarks_detector.tflite", weights.palm)
    with pytest.raises(ModelError, match="altered"):
        load_hand_weights(path=bundle)


@pytest.mark.parametrize("damage", ["cut", "altered"])
def test_a_cut_or_altered_file_is_refused(weights, tmp_path, damage):
    put(tmp_path, weights)
    file = tmp_path / LANDMARK["full"].name
    data = bytearray(weights.landmark)
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data) if damage == "altered" else weights.landmark[:-100])
    with pytest.raises(ModelError, match=r"hand_landmark_full.tflite: has SHA-256 .* cut, altered"):
        load_hand_weights(path=tmp_path)


def test_a_damaged_archive_and_a_folder_without_are_refused(tmp_path):
    (tmp_path / "bad.whl").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(ModelError, match="not a whole wheel"):
        load_hand_weights(path=tmp_path / "bad.whl")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"holds no palm_detection_full.tflite; .*give a folder, a wheel"):
        load_hand_weights(path=tmp_path / "empty")
    with pytest.raises(ModelError, match="holds no"):
        load_hand_weights(path=tmp_path / "not-there")
    with pytest.raises(ModelError, match="choose full or lite"):
        load_hand_weights("heavy")  # type: ignore[arg-type]


def test_doctor_shows_which_are_used(weights, tmp_path, monkeypatch):
    def line():
        (finding,) = (finding for finding in doctor.examine() if finding.topic == "hand models")
        return finding

    assert line().ok
    assert str(HANDS) in line().text
    put(tmp_path, weights)
    (tmp_path / PALM["full"].name).write_bytes(b"cut")
    monkeypatch.setenv("HANDI_HAND_MODELS", str(tmp_path))
    assert not line().ok
    assert "cut, altered" in line().text
