"""Clips: the same again, true ground truth, visible changes, first frames that give nothing away."""

from __future__ import annotations

import json
from itertools import combinations

import numpy as np
import pytest

from handi.core.errors import InputError
from handi.world import (
    ACTIONS,
    TEST,
    TRAIN,
    VALIDATION,
    find_seed,
    judges,
    possible_actions,
    read_clip,
    render_clip,
    require_training,
    siblings,
    split_of,
    write_clip,
)
from handi.world.clip import either_hand
from handi.world.scenes import affordances, build_scene
from handi.world.seeds import stream
from handi.world.truth import ABSENT, MOVED_LEVELS, OUTSIDE, VISIBLE

SIZE = 64


@pytest.fixture(scope="module")
def clip():
    return render_clip(3, size=SIZE)


def test_the_same_seed_gives_the_same_clip(clip):
    again = render_clip(3, size=SIZE)
    np.testing.assert_array_equal(clip.frames, again.frames)
    np.testing.assert_array_equal(clip.ids, again.ids)
    assert (clip.text, clip.paraphrases, clip.enriched) == (again.text, again.paraphrases, again.enriched)
    assert (clip.frames != render_clip(4, size=SIZE).frames).mean() > 0.5


def test_shapes_and_ranges(clip):
    assert clip.frames.shape == (16, SIZE, SIZE, 3)
    assert clip.frames.dtype == np.uint8
    assert clip.joints2d.shape == (16, 42, 2)
    assert clip.joints3d.shape == (16, 42, 3)
    assert clip.visible.shape == (16, 42)
    assert clip.ids.shape == (16, SIZE, SIZE)
    assert 60 < clip.frames[0].mean() < 190  # neither dark nor burnt out
    present = clip.visible[0] != ABSENT
    assert present.any()
    assert ((clip.joints2d[0] != 0).any(-1) == present).all()


def test_joints_against_an_independent_projection(clip):
    """The 2D joints from the 3D ones by a 3×4 camera matrix built from the camera's plain numbers."""
    for frame, camera in enumerate(clip.cameras):
        focal = SIZE / 2 / np.tan(camera.fov / 2)
        intrinsic = np.array([[focal, 0, SIZE / 2], [0, focal, SIZE / 2], [0, 0, 1]])
        matrix = intrinsic @ np.concatenate(
            [camera.rotation, -(camera.rotation @ camera.eye)[:, None]], axis=1
        )
        points = np.concatenate([clip.joints3d[frame], np.ones((42, 1))], axis=1) @ matrix.T
        pixels = points[:, :2] / points[:, 2:]
        present = clip.visible[frame] != ABSENT
        expected = (pixels[present] - 0.5) / SIZE
        np.testing.assert_allclose(clip.joints2d[frame][present], expected, atol=2e-5)


def test_visible_joints_lie_on_their_own_hand(clip):
    pixels = np.floor(clip.joints2d * SIZE + 0.5).astype(int)
    seen = 0
    for frame in range(16):
        for joint in np.flatnonzero(clip.visible[frame] == VISIBLE):
            x, y = pixels[frame, joint]
            assert clip.ids[frame, y, x] == (2, 3)[joint // 21]
            seen += 1
        for joint in np.flatnonzero(clip.visible[frame] == OUTSIDE):
            assert (pixels[frame, joint] < 0).any() or (pixels[frame, joint] >= SIZE).any()
    assert seen > 100


@pytest.mark.parametrize("seed", [3, 21])
def test_the_moved_area_covers_every_pixel_that_changes(seed):
    """Measured on the noisy frames: outside the area nothing changes by more than the sensor's noise."""
    clip = render_clip(seed, size=SIZE)
    change = np.abs(clip.frames.astype(int) - clip.frames[:1]).max((0, 3))
    noise = 5.5 * np.sqrt(2) * 0.008 * 255  # of 15 × 3 differences of two noisy values
    assert (change[~clip.area_moved] <= noise + 2 * MOVED_LEVELS).all()
    acting = np.isin(clip.ids, [{"left": 2, "right": 3}[side] for side in clip.hands]).any(0)
    assert (clip.area_moved | ~acting).all()
    assert 0.02 < clip.area_moved.mean() < 0.9


def test_the_hull_area_is_the_hull_of_the_joints(clip):
    from handi.method.area import hull_area

    np.testing.assert_array_equal(clip.area_hull, hull_area(clip.joints2d, SIZE, SIZE))
    assert 0.02 < clip.area_hull.mean() < 0.7


@pytest.mark.parametrize("action", ACTIONS)
def test_every_action_changes_its_object(action):
    """In the states and in the pixels: the end differs from the start beside the hands too."""
    clip = render_clip(find_seed(action, 400), size=SIZE, action=action)
    assert clip.action == action
    assert clip.before.keys() == clip.after.keys()
    changed = [name for name in clip.before if clip.before[name] != clip.after[name]]
    assert changed
    assert clip.choice["object"] in changed
    hands = np.isin(clip.ids[[0, -1]], [2, 3, 4, 5]).any(0)
    change = np.abs(clip.frames[-1].astype(int) - clip.frames[0]).mean(-1)
    assert (change[~hands] > judges.CHANGED_LEVELS).sum() >= 6, "the change cannot be seen"
    assert judges.state_change(clip.frames, clip.frames) == 1
    assert judges.state_change(np.repeat(clip.frames[:1], 16, 0), clip.frames) == 0


@pytest.mark.parametrize("seed", [5, 17])
def test_siblings_share_the_first_frame_and_differ_after(seed):
    clips = siblings(seed, size=SIZE, count=3)
    assert len({clip.action for clip in clips}) == len(clips) >= 2
    for a, b in combinations(clips, 2):
        np.testing.assert_array_equal(a.frames[0], b.frames[0])
        np.testing.assert_array_equal(a.ids[0], b.ids[0])
        np.testing.assert_array_equal(a.joints3d[0], b.joints3d[0])
        assert a.before == b.before
        assert a.text != b.text
        assert (a.frames[-1] != b.frames[-1]).mean() > 0.2
    assert judges.same_context([c.frames for c in clips], [c.frames for c in clips]) == 1
    assert render_clip(seed, size=SIZE).frames[0].tolist() == clips[0].frames[0].tolist()


def test_the_first_frame_affords_several_actions_and_opposites():
    both = 0
    for seed in range(40):
        names = set(possible_actions(seed))
        assert len(names) >= 3
        for one, other in (
            ("open", "close"),
            ("left", "right"),
            ("clockwise", "anticlockwise"),
            ("fold", "unfold"),
        ):
            both += any(one in a.split() for a in names) and any(other in a.split() for a in names)
    assert both > 15


def test_nothing_has_moved_at_the_start_of_any_action():
    for seed in range(12):
        scene = build_scene(seed)
        for name, choice in affordances(scene):
            action = ACTIONS[name](scene, choice, stream(seed, "test"))
            for prop, state in action.states(0.0).items():
                for key, value in state.items():
                    np.testing.assert_allclose(value, scene.prop(prop).initial[key], atol=1e-12)
            for side, track in action.tracks.items():
                np.testing.assert_array_equal(track.at(0.0).position, scene.start[side].position)
                np.testing.assert_array_equal(track.at(0.0).angles, scene.start[side].angles)


def test_motion_blur_keeps_the_first_frame_and_blurs_the_others(clip):
    blurred = render_clip(3, size=SIZE, motion_blur=True)
    np.testing.assert_array_equal(blurred.frames[0], clip.frames[0])
    assert (blurred.frames[4] != clip.frames[4]).any()
    np.testing.assert_array_equal(blurred.joints2d, clip.joints2d)


def test_a_handheld_camera_moves_and_the_area_does_not(clip):
    swaying = render_clip(3, size=SIZE, handheld=True)
    np.testing.assert_array_equal(swaying.frames[0], clip.frames[0])
    assert np.abs(swaying.cameras[-1].eye - swaying.cameras[0].eye).max() > 1e-4
    np.testing.assert_array_equal(swaying.area_hull, clip.area_hull)
    np.testing.assert_array_equal(swaying.area_moved, clip.area_moved)


@pytest.mark.parametrize("pictures", ["mp4", "png"])
def test_files_bring_the_clip_back(clip, pictures, tmp_path):
    back = read_clip(write_clip(tmp_path, clip, pictures=pictures))
    for name in ("seed", "action", "choice", "hands", "text", "paraphrases", "enriched", "objects"):
        assert getattr(back, name) == getattr(clip, name)
    for name in ("before", "after"):
        assert getattr(back, name) == json.loads(json.dumps(getattr(clip, name)))
    for name in ("ids", "visible", "area_hull", "area_moved"):
        np.testing.assert_array_equal(getattr(back, name), getattr(clip, name))
    np.testing.assert_allclose(back.joints2d, clip.joints2d, atol=1e-6)
    np.testing.assert_allclose(back.joints3d, clip.joints3d, atol=1e-5)
    error = np.abs(back.frames.astype(int) - clip.frames).mean()
    assert error == 0 if pictures == "png" else 0 < error < 6
    assert back.cameras[0].fov == clip.cameras[0].fov


def test_damaged_files_are_named(clip, tmp_path):
    path = write_clip(tmp_path, clip)
    with pytest.raises(InputError, match="no such file"):
        read_clip(tmp_path / "other.json")
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "version": 99}))
    with pytest.raises(InputError, match="version 99"):
        read_clip(path)
    del record["joints2d"]
    path.write_text(json.dumps(record))
    with pytest.raises(InputError, match="joints2d"):
        read_clip(path)
    path.write_text("{")
    with pytest.raises(InputError, match="JSON"):
        read_clip(path)


def test_splits_are_kept_apart():
    assert [split_of(s) for s in (0, 799_999, 800_000, 899_999, 900_000)] == [
        "train", "train", "validation", "validation", "test",
    ]  # fmt: skip
    require_training(range(5))
    for seed in (VALIDATION[0], TEST[0]):
        with pytest.raises(InputError, match=f"seed {seed} is kept for"):
            require_training([TRAIN[-1], seed])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"seed": -1}, "not a seed"),
        ({"seed": 1.5}, "whole number"),
        ({"seed": 1, "size": 65}, "65 is not a size"),
        ({"seed": 1, "size": 8}, "8 is not a size"),
        ({"seed": 1, "action": "dance"}, "no action 'dance'"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(arguments, said):
    with pytest.raises(InputError, match=said) as error:
        render_clip(**arguments)
    assert "\n" not in str(error.value)


def test_an_action_that_the_scene_does_not_afford_is_refused():
    seed = next(s for s in range(50) if "cut" not in possible_actions(s))
    with pytest.raises(InputError, match="does not afford 'cut'"):
        render_clip(seed, size=SIZE, action="cut")
    with pytest.raises(InputError, match="1 clips"):
        siblings(seed, count=1)


def test_which_hand_acts_can_be_seen_or_is_said_to_be_left_to_chance():
    tossed = 0
    for seed in range(40):
        scene = build_scene(seed)
        for name, choice in affordances(scene):
            plans = [ACTIONS[name](scene, choice, np.random.default_rng(n)) for n in range(6)]
            hands = {tuple(plan.tracks) for plan in plans}
            if either_hand(seed, name, choice):
                tossed += len(hands) > 1
            else:
                assert len(hands) == 1, (seed, name)
    assert tossed > 5
