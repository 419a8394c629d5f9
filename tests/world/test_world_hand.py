"""The hand: proportions, skinning, grasps that touch and do not pierce."""

from __future__ import annotations

import numpy as np
import pytest

from handi.world.anatomy import BONES_MM, LANDMARKS, LENGTH_MM, PULP_MM, Person, random_person, rest_joints
from handi.world.choreography import clearance, take_hold
from handi.world.geometry import to_cylinder, turn
from handi.world.hand import Grip, Hand, rest_hand
from handi.world.poses import POSES, facing


@pytest.fixture(scope="module")
def grip():
    return Grip(np.array([0.1, 0.2, 0.15]), facing((-0.3, 0.9, -0.1), (0.1, 0.0, 1.0)), POSES["relaxed"])


def test_bones_have_the_published_lengths():
    joints = rest_joints() * 1000
    for base, lengths in BONES_MM.items():
        found = np.linalg.norm(np.diff(joints[base : base + len(lengths) + 1], axis=0), axis=1)
        np.testing.assert_allclose(found, lengths, atol=1e-6)


def test_mesh_ends_where_the_fingertips_are():
    rest = rest_hand()
    middle = rest_joints()[14]
    near = np.abs(rest.vertices[:, 0] - middle[0]) < 0.012
    reach = middle[2] - rest.vertices[near, 2].min()
    assert reach * 1000 == pytest.approx(PULP_MM[10], abs=2.5)  # a grid of 2.5 mm


def test_hand_breadth_is_in_the_surveys_ratio():
    vertices = rest_hand().vertices
    knuckles = vertices[(vertices[:, 2] < -0.080) & (vertices[:, 2] > -0.090) & (vertices[:, 0] > -0.045)]
    breadth = np.ptp(knuckles[:, 0]) * 1000
    assert 76 < breadth < 90  # women 79.4 ± 3.8, men 90.4 ± 4.2 mm (Greiner 1991), for a hand of 182 mm


def test_people_vary_in_size_as_the_survey_says():
    sizes = [random_person(np.random.default_rng(n), np.zeros(3)).size for n in range(400)]
    lengths = np.array(sizes) * 181.9
    assert abs(lengths.mean() - np.mean([mean for mean, _ in LENGTH_MM.values()])) < 2
    assert 9 < lengths.std() < 14


@pytest.mark.parametrize("side", ["left", "right"])
def test_skin_goes_with_the_bones(grip, side):
    """Near the fingertips the mesh is as far from the posed joints as at rest, whatever the pose."""
    hand, rest = Hand(Person(), side), rest_hand()
    for pose in ("open", "fist", "pinch"):
        posed = Grip(grip.position, grip.rotation, POSES[pose])
        body = hand.parts(posed, np.array([0.2 * hand.sign, -0.3, 0.1]), 2, 4)[0].mesh
        skeleton = hand.skeleton(posed)
        for tip in (4, 9, 14, 19, 24):
            nearest = np.linalg.norm(rest.vertices - rest.frames[tip, :3, 3], axis=1)
            own = (nearest < 0.012) & (rest.weights[:, tip - 1] > 0.95)
            before = nearest[own]
            after = np.linalg.norm(body.vertices[own] - skeleton[tip], axis=1)
            np.testing.assert_allclose(after, before, atol=1e-3)


def test_left_is_the_mirror_of_right(grip):
    person = Person(size=1.05)
    right, left = Hand(person, "right"), Hand(person, "left")
    mirror = np.diag([-1.0, 1, 1])
    other = Grip(grip.position * [-1, 1, 1], mirror @ grip.rotation @ mirror, grip.angles)
    np.testing.assert_allclose(left.landmarks(other), right.landmarks(grip) * [-1, 1, 1], atol=1e-12)


def test_flexion_closes_the_fingers_towards_the_palm(grip):
    hand = Hand(Person(), "right")
    local = [
        (hand.skeleton(Grip(grip.position, grip.rotation, POSES[pose])) - grip.position) @ grip.rotation
        for pose in ("open", "fist")
    ]
    palm_side = local[1][
        [8, 13, 18, 23], 1
    ]  # in a fist the last finger joints lie deep on the palm's side, -y
    assert (palm_side < local[0][[8, 13, 18, 23], 1] - 0.015).all()
    assert (local[1][[9, 14, 19, 24], 2] > local[0][[9, 14, 19, 24], 2] + 0.05).all()


def test_size_scales_every_bone(grip):
    small, large = (Hand(Person(size=s), "right").landmarks(grip) - grip.position for s in (0.9, 1.1))
    np.testing.assert_allclose(large, small * 1.1 / 0.9, atol=1e-9)


def test_landmarks_are_the_detectors_21():
    assert list(LANDMARKS) == [0, 1, 2, 3, 4, 6, 7, 8, 9, 11, 12, 13, 14, 16, 17, 18, 19, 21, 22, 23, 24]


@pytest.mark.parametrize("radius", [0.03, 0.04])
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_grasp_touches_and_does_not_pierce(side, radius):
    hand = Hand(Person(), side)
    sign = hand.sign
    rotation = facing((-0.62 * sign, 0.78, -0.10), (0.62 * sign, -0.26, 0.74))
    body = to_cylinder((0, 0.15, 0.05), (0, 0, 1), radius, 0.05)
    opened, closed = take_hold(
        hand, np.array([0, 0.15, 0.05]), rotation, (0.006, -radius - 0.017, -0.08), body,
        opened="opposed", closed="wrapped", away=rotation[:, 1],
    )  # fmt: skip
    assert clearance(hand, opened, body) > -0.0015
    assert clearance(hand, closed, body) > -0.006  # flesh gives way
    tips = hand.skeleton(closed)[[4, 9, 14, 19, 24]]
    gap = body(tips) - 0.007
    assert (gap < 0.012).sum() >= 3, "fingers must reach what they hold"


def test_turn_is_a_rotation():
    np.testing.assert_allclose(turn("z", np.pi / 2) @ [1, 0, 0], [0, 1, 0], atol=1e-12)
