"""Poses for users: files of them, a film of hands put into a photo, and what generate makes of both."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.posed_model import FRAMES, hand, moving, posed_model
from PIL import Image

from handi import HandiPipeline
from handi.core.errors import InputError
from handi.core.video import write_video
from handi.generation.poses import HandDetector
from handi.generation.requests import ClipRequest, GenerationSettings
from handi.generation.run import run_one
from handi.hands import own_hands
from handi.hands.own_hands import filmed_poses, placed, recorded_poses
from handi.hands.pose_files import drawn_poses, there, write_poses
from handi.hands.record import read_joints
from handi.method.area import hull_area


def test_poses_survive_their_file_and_other_numbers_of_frames(tmp_path):
    poses = moving(left=hand(0.3, 0.6))
    write_poses(tmp_path / "poses.json", poses, height=64, width=96, fps=8, by="given")
    np.testing.assert_allclose(recorded_poses(tmp_path / "poses.json", FRAMES), poses, atol=1e-5)
    record = read_joints(tmp_path / "poses.json")
    assert (record.height, record.width, record.about) == (64, 96, {"by": "given"})
    assert record.visible.tolist() == [[True, False]] * FRAMES
    fewer = recorded_poses(tmp_path / "poses.json", 6)
    np.testing.assert_allclose(fewer, poses[[0, 3, 6, 9, 12, 15]], atol=1e-5)


def test_missing_frames_are_filled_evenly_and_a_hand_that_is_never_there_stays_away(tmp_path):
    poses = moving(right=hand(0.5, 0.5))
    holes = poses.copy()
    holes[[0, 4, 5, 6, 15]] = 0
    write_poses(tmp_path / "poses.json", holes, height=64, width=64, fps=8, by="given")
    filled = recorded_poses(tmp_path / "poses.json", FRAMES)
    np.testing.assert_allclose(filled[1:15], poses[1:15], atol=1e-4)
    np.testing.assert_allclose(filled[0], poses[1], atol=1e-4)
    assert not there(filled)[:, 0].any()
    write_poses(tmp_path / "none.json", np.zeros_like(poses), height=64, width=64, fps=8, by="given")
    with pytest.raises(InputError, match="shows no hand"):
        recorded_poses(tmp_path / "none.json", FRAMES)


def test_the_picture_shows_the_hands_and_their_way_and_nothing_else():
    picture = np.full((64, 96, 3), 100, np.uint8)
    poses = moving(left=hand(0.3, 0.5, 0.05))
    drawn = drawn_poses(picture, poses)
    assert drawn.shape == (512, 768, 3)
    touched = (drawn != drawn[0, 0]).any(-1)
    rows, columns = np.nonzero(touched)
    xs, ys = poses[..., :21, 0], poses[..., :21, 1]
    assert abs(columns.min() / 768 - xs.min()) < 0.03
    assert abs(columns.max() / 768 - xs.max()) < 0.03
    assert abs(rows.min() / 512 - ys.min()) < 0.03
    assert len(np.unique(drawn_poses(picture, np.zeros_like(poses)).reshape(-1, 3), axis=0)) == 1


# --------------------------------------------------------------------------------- one's own hands


def test_a_filmed_hand_starts_from_the_photos_at_its_size_and_moves_as_it_did():
    film = moving(right=hand(0.4, 0.4, 0.2), shift=0.4)
    photo = moving(left=hand(0.2, 0.7, 0.1), right=hand(0.7, 0.7, 0.1))[0]
    poses, notes = placed(film, photo, aspect=1.0, photo_aspect=1.0)
    np.testing.assert_allclose(poses[0], photo, atol=1e-6)
    np.testing.assert_allclose(poses[:, :21], np.repeat(photo[None, :21], FRAMES, 0), atol=1e-6)
    np.testing.assert_allclose(poses[-1, 21:] - photo[21:], np.tile([0.2, 0], (21, 1)), atol=1e-5)
    assert notes == []


def test_the_shape_goes_over_to_the_films_and_aspects_count():
    film = moving(left=hand(0.4, 0.4, 0.2)[:, ::-1])
    photo = moving(left=hand(0.5, 0.5))[0]
    poses, _ = placed(film, photo, aspect=1.0, photo_aspect=2.0)
    np.testing.assert_allclose(poses[0], photo, atol=1e-6)
    late = poses[8:, :21] - poses[8:, :1]
    shape = (film[8:, :21] - film[8:, :1]) * (0.5, 1)
    scale = late[0, 5] / shape[0, 5]
    np.testing.assert_allclose(late, shape * scale, rtol=1e-3, atol=1e-5)


def test_a_single_hand_is_the_photos_only_one_whatever_its_side_and_others_are_left_out():
    photo = moving(right=hand(0.7, 0.7))[0]
    poses, notes = placed(moving(left=hand(0.4, 0.4)), photo, aspect=1, photo_aspect=1)
    assert there(poses).tolist() == [[False, True]] * FRAMES
    assert notes == []
    both = moving(left=hand(0.4, 0.4), right=hand(0.6, 0.4))
    _, notes = placed(both, photo, aspect=1, photo_aspect=1)
    assert notes == ["the photo shows no left hand: the filmed one is left out"]
    with pytest.raises(InputError, match="no hand is found in the photo"):
        placed(both, np.zeros((42, 2)), aspect=1, photo_aspect=1)


# ---------------------------------------------------------------------------------------- generate


class Seer:
    """A stand-in for Υ that reads `film` in films and `photo` in pictures, whatever they show."""

    def __init__(self, film, photo):
        self.film, self.photo = film, photo

    def detect(self, frames, *, mode="image"):
        if mode == "video":
            joints = self.film[np.linspace(0, len(self.film) - 1, len(frames)).round().astype(int)]
        else:
            joints = np.repeat(self.photo[None], len(frames), 0)
        return SimpleNamespace(joints=torch.from_numpy(joints), visible=torch.from_numpy(there(joints)))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return posed_model(tmp_path_factory.mktemp("posed") / "model")


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photo") / "scene.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(path)
    return str(path)


def test_generate_writes_the_poses_and_takes_them_back_edited(model, photo, tmp_path, monkeypatch):
    settings = GenerationSettings(model=str(model), device="cpu")
    first = run_one(ClipRequest(photo, "Cut."), settings, tmp_path / "first")
    record = read_joints(tmp_path / "first" / "poses.json")
    np.testing.assert_allclose(record.joints, first.poses[0], atol=1e-5)
    assert record.about == {"by": "predicted"}
    assert (tmp_path / "first" / "poses.png").exists()
    assert "hands" not in json.loads((tmp_path / "first" / "run.json").read_text())["result"]

    edited = moving(left=hand(0.5, 0.5))
    write_poses(tmp_path / "edited.json", edited, height=32, width=32, fps=8, by="me")
    monkeypatch.setattr(HandDetector, "from_pretrained", lambda **_: Seer(edited, edited[0]))
    request = ClipRequest(photo, "Cut.", poses=str(tmp_path / "edited.json"))
    second = run_one(request, settings, tmp_path / "second")
    np.testing.assert_allclose(second.poses[0], edited, atol=1e-5)
    assert read_joints(tmp_path / "second" / "poses.json").about == {"by": "given"}
    hands = json.loads((tmp_path / "second" / "run.json").read_text())["result"]["hands"]
    moved = (edited[1:] - edited[0])[..., :21, :]
    assert hands["hands_matched"] == 1
    assert hands["hs_err_matched"] == pytest.approx(float(np.square(moved).sum(-1).mean()), rel=1e-3)
    assert hull_area(edited, 32, 32)[~second.motion_area[0]].sum() == 0  # where the hands go things may move


def test_generate_moves_the_hands_as_a_film_does(model, photo, tmp_path, monkeypatch):
    write_video(tmp_path / "film.mp4", np.zeros((20, 32, 64, 3), np.uint8))
    film = moving(right=hand(0.3, 0.5), frames=20)
    own = moving(right=hand(0.6, 0.6))[0]
    monkeypatch.setattr(HandDetector, "from_pretrained", lambda **_: Seer(film, own))
    request = ClipRequest(photo, "Cut.", poses=str(tmp_path / "film.mp4"))
    output = run_one(request, GenerationSettings(model=str(model), device="cpu"), tmp_path / "out")
    read, aspect = filmed_poses(tmp_path / "film.mp4", FRAMES, Seer(film, own))
    assert aspect == 2
    expected, _ = placed(read, own, aspect=2, photo_aspect=1)
    np.testing.assert_allclose(output.poses[0], expected, atol=1e-5)

    # Where Υ finds no hand in the photo, stage 1 says where they are.
    monkeypatch.setattr(
        HandDetector, "from_pretrained", lambda **_: Seer(film, np.zeros((42, 2), np.float32))
    )
    output = run_one(request, GenerationSettings(model=str(model), device="cpu"), tmp_path / "blind")
    predicted = run_one(
        ClipRequest(photo, "Cut."), GenerationSettings(model=str(model), device="cpu"), tmp_path / "own"
    )
    np.testing.assert_allclose(output.poses[0, 0], predicted.poses[0, 0], atol=1e-5)
    assert any("where stage 1 sees the hands" in note for note in output.notes)


def test_the_area_may_be_the_hulls_of_the_poses(model, photo):
    pipe = HandiPipeline.from_pretrained(model)
    pipe.set_progress_bar_config(disable=True)
    poses = moving(left=hand(0.5, 0.5))
    output = pipe(photo, "Cut.", poses=poses, area_from="poses", num_inference_steps=1)
    np.testing.assert_array_equal(output.motion_area[0], hull_area(poses, 32, 32))
    away = pipe(photo, "Cut.", poses=poses + 5 * (poses != 0), area_from="poses", num_inference_steps=1)
    assert away.motion_area.all()
    assert "no hand is in the picture" in away.notes[-1]
    with pytest.raises(InputError, match="area_from"):
        pipe(photo, "Cut.", area_from="hands")


def test_poses_that_are_of_no_use_are_refused(pipe, photo, tmp_path, model):
    pipe.source = "random"
    with pytest.raises(InputError, match="no such file of poses"):
        run_one(
            ClipRequest(photo, "Cut.", poses="nothing.json"),
            GenerationSettings(model=str(model)),
            tmp_path / "out",
        )
    write_poses(tmp_path / "p.json", moving(left=hand(0.5, 0.5)), height=9, width=9, fps=8, by="me")
    with pytest.raises(InputError, match="cannot be given poses"):
        run_one(
            ClipRequest(photo, "Cut.", poses=str(tmp_path / "p.json")),
            GenerationSettings(model="random"),
            tmp_path / "o",
        )
    with pytest.raises(InputError, match="there are none"):
        pipe(photo, "Cut.", area_from="poses")
    assert own_hands.is_record("a.JSON")
