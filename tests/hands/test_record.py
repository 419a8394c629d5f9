from __future__ import annotations

import json

import numpy as np
import pytest

from handi.core.errors import InputError
from handi.hands.record import HandRecord, read_joints, write_joints


def record(frames: int = 3) -> HandRecord:
    rng = np.random.default_rng(0)
    visible = np.array([[True, False], [False, False], [True, True]])[:frames]
    joints = rng.random((frames, 2, 21, 2)).astype(np.float32) * visible[:, :, None, None]
    return HandRecord(
        joints.reshape(frames, 42, 2),
        rng.random((frames, 2)).astype(np.float32) * visible,
        rng.random((frames, 2)).astype(np.float32) * visible,
        (rng.random((frames, 2, 4)) * 100).astype(np.float32) * visible[..., None],
        visible,
        np.array([0.0, 0.125, 0.4])[:frames],
        256,
        448,
        {"input": {"path": "käse.mp4"}, "fps": 8.0},
    )


def test_what_is_written_is_read(tmp_path):
    write_joints(tmp_path / "joints.json", record())
    back = read_joints(tmp_path / "joints.json")
    np.testing.assert_allclose(back.joints, record().joints, atol=1e-6)
    np.testing.assert_allclose(back.rois, record().rois, atol=0.005)
    np.testing.assert_allclose(back.presence, record().presence, atol=1e-4)
    np.testing.assert_array_equal(back.visible, record().visible)
    np.testing.assert_array_equal(back.times, record().times)
    assert (back.height, back.width, back.about) == (256, 448, record().about)
    assert back.counts.tolist() == [1, 0, 2]


def test_the_schema_is_what_the_manual_says(tmp_path):
    write_joints(tmp_path / "joints.json", record())
    content = json.loads((tmp_path / "joints.json").read_text(encoding="utf-8"))
    assert (content["format"], content["version"]) == ("handi.joints", 1)
    assert len(content["joint_names"]) == 21
    first = content["frames"][0]
    assert set(first) == {"index", "time", "hands"}
    assert set(first["hands"][0]) == {"side", "presence", "right", "region", "joints"}
    assert first["hands"][0]["side"] == "left"
    assert np.shape(first["hands"][0]["joints"]) == (21, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "is not handi.joints version 1"),
        ('{"format": "handi.joints", "version": 2, "frames": []}', "is not handi.joints version 1"),
        ('{"format": "handi.joints", "version": 1}', "breaks its schema"),
        (
            '{"format": "handi.joints", "version": 1, "width": 1, "height": 1, "frames": '
            '[{"index": 0, "time": 0, "hands": [{"side": "third"}]}]}',
            "breaks its schema",
        ),
    ],
)
def test_other_files_are_refused(tmp_path, text, message):
    (tmp_path / "joints.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_joints(tmp_path / "joints.json")
    with pytest.raises(InputError, match="no such file"):
        read_joints(tmp_path / "none.json")
