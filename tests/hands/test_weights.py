from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from handi.commands import doctor
from handi.core.errors import ModelError
from handi.hands import weights as module
from handi.hands.weights import LANDMARK, PALM, WHEEL, load_hand_weights, survey


@pytest.fixture
def nowhere(monkeypatch, tmp_path) -> Path:
    """A machine that has no hand models: an empty cache, no mediapipe, no setting."""
    monkeypatch.setenv("HANDI_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HANDI_HAND_MODELS", raising=False)
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache" / "hands"


def put(folder: Path, weights) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PALM["full"].name).write_bytes(weights.palm)
    (folder / LANDMARK["full"].name).write_bytes(weights.landmark)


def test_a_named_folder_counts_before_all(weights, nowhere, tmp_path, monkeypatch):
    put(tmp_path / "mine", weights)
    assert load_hand_weights(path=tmp_path / "mine").source == str(tmp_path / "mine")
    monkeypatch.setenv("HANDI_HAND_MODELS", str(tmp_path / "mine"))
    put(nowhere, weights)
    assert load_hand_weights().source == str(tmp_path / "mine")


def test_the_cache_then_an_installed_mediapipe(weights, nowhere, tmp_path, monkeypatch):
    package = tmp_path / "site/mediapipe"
    for file, data in ((PALM["full"], weights.palm), (LANDMARK["full"], weights.landmark)):
        (package / "modules" / file.path).parent.mkdir(parents=True)
        (package / "modules" / file.path).write_bytes(data)
    spec = type("Spec", (), {"submodule_search_locations": [str(package)]})
    monkeypatch.setattr(module, "find_spec", lambda name: spec)
    assert load_hand_weights(fetch=False).source == str(package / "modules")
    put(nowhere, weights)
    assert load_hand_weights(fetch=False).source == str(nowhere)


def test_a_copied_wheel_is_as_good_as_the_files(weights, nowhere):
    nowhere.mkdir(parents=True)
    with zipfile.ZipFile(nowhere / WHEEL, "w") as archive:
        archive.writestr(f"mediapipe/modules/{PALM['full'].path}", weights.palm)
        archive.writestr(f"mediapipe/modules/{LANDMARK['full'].path}", weights.landmark)
    assert load_hand_weights(fetch=False).landmark == weights.landmark


def test_a_task_bundle_is_known_by_what_it_computes(weights, nowhere, tmp_path):
    bundle = tmp_path / "hand_landmarker.task"
    with zipfile.ZipFile(bundle, "w") as archive:
        archive.writestr("hand_detector.tflite", weights.palm + b"metadata")
        archive.writestr("hand_landmarks_detector.tflite", weights.landmark + b"metadata")
    assert load_hand_weights(fetch=False).source == str(bundle)
    with zipfile.ZipFile(bundle, "w") as archive:
        archive.writestr("hand_detector.tflite", weights.palm)
        archive.writestr("hand_landmarks_detector.tflite", weights.palm)
    with pytest.raises(ModelError, match="altered"):
        load_hand_weights(fetch=False)


@pytest.mark.parametrize("damage", ["cut", "altered"])
def test_a_cut_or_altered_file_is_refused(weights, nowhere, tmp_path, damage):
    put(tmp_path / "mine", weights)
    file = tmp_path / "mine" / LANDMARK["full"].name
    data = bytearray(weights.landmark)
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data) if damage == "altered" else weights.landmark[:-100])
    with pytest.raises(ModelError, match=r"hand_landmark_full.tflite: has SHA-256 .* cut, altered"):
        load_hand_weights(path=tmp_path / "mine")


def test_a_damaged_archive_and_a_folder_without_are_refused(nowhere, tmp_path):
    (tmp_path / "bad.whl").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(ModelError, match="not a whole wheel"):
        load_hand_weights(path=tmp_path / "bad.whl")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"holds no palm_detection_full.tflite; .*pip download"):
        load_hand_weights(path=tmp_path / "empty")
    with pytest.raises(ModelError, match="holds no"):
        load_hand_weights(path=tmp_path / "not-there")
    with pytest.raises(ModelError, match="choose full or lite"):
        load_hand_weights("heavy")  # type: ignore[arg-type]


def test_without_a_network_one_line_says_what_to_do(nowhere, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # pip finds nothing, as on a machine without a network
    with pytest.raises(ModelError) as failure:
        load_hand_weights()
    text = str(failure.value)
    assert "\n" not in text
    assert "pip download --no-deps" in text
    assert f"copy the .whl file into {nowhere}" in text


def test_a_wheel_of_other_bytes_is_not_trusted(nowhere, tmp_path, monkeypatch):
    def download(command, **options):
        (Path(command[command.index("--dest") + 1]) / WHEEL).write_bytes(b"something else")
        return type("Done", (), {"returncode": 0, "stderr": ""})

    monkeypatch.setattr(module.subprocess, "run", download)
    with pytest.raises(ModelError, match="the package index gave a wheel of SHA-256"):
        load_hand_weights()
    assert not nowhere.exists()


def test_doctor_shows_what_was_found(weights, nowhere):
    def lines():
        return [finding for finding in doctor.examine() if finding.topic == "hand models"]

    assert [place.state for place in survey()] == ["missing", "missing"]
    (missing,) = lines()
    assert "pip download" in missing.text
    put(nowhere, weights)
    (found,) = lines()
    assert found.ok
    assert str(nowhere) in found.text
    (nowhere / PALM["full"].name).write_bytes(b"cut")
    (refused,) = lines()
    assert not refused.ok
    assert refused.hint == f"rm '{nowhere / PALM['full'].name}'"
