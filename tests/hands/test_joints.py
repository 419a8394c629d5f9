from __future__ import annotations

import numpy as np

from handi.hands import BONES, JOINT_NAMES, draw_hands
from handi.hands.joints import assign_slots


def test_names_and_bones():
    assert len(JOINT_NAMES) == 21
    assert (JOINT_NAMES[0], JOINT_NAMES[4], JOINT_NAMES[8], JOINT_NAMES[20]) == (
        "wrist", "thumb_tip", "index_tip", "pinky_tip",
    )  # fmt: skip
    assert {joint for bone in BONES for joint in bone} == set(range(21))


def test_hands_go_where_they_belong():
    assert assign_slots([], []) == []
    assert assign_slots([0.9], [0.8]) == [(0, 1)]
    assert sorted(assign_slots([0.9, 0.8], [0.9, 0.1])) == [(0, 1), (1, 0)]


def test_two_hands_of_one_label_both_stay():
    # both are taken for right hands: the surer one keeps the right slot
    assert sorted(assign_slots([0.99, 0.7], [0.6, 0.95])) == [(0, 0), (1, 1)]
    assert sorted(assign_slots([0.7, 0.99], [0.02, 0.3])) == [(0, 0), (1, 1)]


def test_of_three_hands_the_two_most_present_stay():
    slots = assign_slots([0.6, 0.9, 0.8], [0.1, 0.2, 0.9])
    assert sorted(slots) == [(1, 0), (2, 1)]


def test_a_skeleton_is_drawn_where_the_joints_are():
    picture = np.zeros((120, 160, 3), np.uint8)
    joints = np.zeros((42, 2))
    joints[21:] = np.linspace((0.2, 0.5), (0.8, 0.5), 21)  # a right hand along the middle row
    drawn = draw_hands(picture, joints)
    assert picture.max() == 0  # a copy
    assert drawn[60, 32:129].max(axis=1).min() > 0
    assert drawn[:50].max() == 0
    orange = drawn[60, 34].astype(int)
    assert orange[0] > orange[2]
    assert draw_hands(picture, joints * 0).max() == 0
    far = draw_hands(picture, joints * 1e6)  # beyond any picture: no crash, nothing wrapped around
    assert far.shape == picture.shape
