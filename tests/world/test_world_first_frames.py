"""First frames with their requests: the pictures that clips begin with, and what is meant in them."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest

from handi.core.errors import InputError
from handi.data.sources.world import referents_of
from handi.world import find_seed, render_clip
from handi.world.clip import either_hand
from handi.world.first_frames import read_first_frame, render_first_frame
from handi.world.scenes import affordances, build_scene
from handi.world.truth import SIDES

SIZE = 64


def assert_same(requests, others):
    for one, other in zip(requests, others, strict=True):
        assert asdict(one) | {"joints": None} == asdict(other) | {"joints": None}
        np.testing.assert_allclose(one.joints, other.joints, atol=1e-3)  # kept in 16 bits


@pytest.mark.parametrize("seed", [3, 11, 20])
def test_it_is_what_the_clip_of_the_seed_begins_with(seed):
    first, clip = render_first_frame(seed, size=SIZE), render_clip(seed, size=SIZE)
    np.testing.assert_array_equal(first.frame, clip.frames[0])
    np.testing.assert_array_equal(first.ids, clip.ids[0])
    (request,) = [request for request in first.requests if request.text == clip.text]
    assert request.action == clip.action
    meant = [np.isin(first.ids, which) for which in (request.things, request.hands)]
    np.testing.assert_array_equal(meant, referents_of(clip))
    assert np.any(meant, axis=(1, 2)).all()
    np.testing.assert_array_equal(request.joints[0], clip.joints2d[0])
    if not either_hand(seed, clip.action, clip.choice):  # else chance may choose the other one
        assert request.sides == clip.hands
    # The way is one of those that the action may take: the hands that act move, the others stay.
    moved = np.ptp(request.joints, axis=0).reshape(2, -1).max(axis=1) > 0
    assert {side for side, moves in zip(SIDES, moved, strict=True) if moves} == set(request.sides)


def test_everything_that_can_be_done_is_asked_once():
    first = render_first_frame(11, size=SIZE)
    options = affordances(build_scene(11))
    assert sorted(request.action for request in first.requests) == sorted(name for name, _ in options)
    assert len({request.text for request in first.requests}) == len(options) == 8


def test_the_command_writes_what_is_read_back_and_goes_on_where_it_stopped(handi, tmp_path):
    command = ("world", "--first-frames", "--clips", 2, "--seed", 5, "--size", SIZE, "--workers", 1,
               "--out", tmp_path)  # fmt: skip
    code, _, err = handi(*command)
    assert code == 0, err
    assert "2 of 2 first frames" in err
    found, rendered = read_first_frame(tmp_path / "0000000006.json"), render_first_frame(6, size=SIZE)
    np.testing.assert_array_equal(found.frame, rendered.frame)
    np.testing.assert_array_equal(found.ids, rendered.ids)
    assert_same(found.requests, rendered.requests)

    kept, gone = tmp_path / "0000000005.json", tmp_path / "0000000006.json"
    before, text = kept.stat().st_mtime_ns, gone.read_text()
    gone.unlink()
    assert handi(*command)[0] == 0
    assert (kept.stat().st_mtime_ns, gone.read_text()) == (before, text)

    code, _, err = handi("world", "--clips", 2, "--size", SIZE, "--out", tmp_path)
    assert (code, "of other settings" in err) == (1, True)


def test_with_an_action_only_scenes_that_afford_it_are_rendered_with_all_their_requests(handi, tmp_path):
    code, _, err = handi("world", "--first-frames", "--action", "stir", "--clips", 2, "--size", SIZE,
                         "--workers", 1, "--out", tmp_path)  # fmt: skip
    assert code == 0, err
    seed = find_seed("stir")
    first = read_first_frame(tmp_path / f"{seed:010d}.json")
    assert_same(first.requests, render_first_frame(seed, size=SIZE).requests)
    assert (tmp_path / f"{find_seed('stir', seed + 1):010d}.json").exists()


def test_options_of_clips_are_refused(handi, tmp_path):
    code, _, err = handi("world", "--first-frames", "--handheld", "--clips", 1, "--out", tmp_path)
    assert (code, "leave the other options out" in err) == (1, True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", [{"version": 1}, {"format": "other"}, {"requests": [{"action": "cut"}]}])
def test_what_is_damaged_is_named(handi, tmp_path, damage):
    handi("world", "--first-frames", "--clips", 1, "--size", SIZE, "--workers", 1, "--out", tmp_path)
    path = tmp_path / "0000000000.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | damage))
    with pytest.raises(InputError, match=r"0000000000\.json.*not a first frame"):
        read_first_frame(path)
