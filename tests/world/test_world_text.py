"""The grammar: what is said is true, varied, and never the opposite."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from handi.world import ACTIONS
from handi.world.clip import slots_of
from handi.world.props import (
    Block,
    Board,
    Bowl,
    Buttons,
    Chest,
    Cloth,
    Drawer,
    Paper,
    Pot,
    Sponge,
    Stove,
    Vessel,
)
from handi.world.scenes import affordances, build_scene
from handi.world.seeds import stream
from handi.world.text import RULES, enriched_text, paraphrases, sentences, short_text, slots_for

AT = {"at": (0.0, 0.2), "identity": 10}


def every_slot():
    """Slots of every action, in one scene where everything has the same colour but for what must differ."""
    red = {"colour": "red", **AT}
    cup, bowl = Vessel(name="cup", noun="cup", drink="milk", **red), Bowl(name="bowl", **red)
    small = Block(name="a", noun="block", **red)
    other = Block(name="b", noun="block", colour="blue", **AT)
    big = Block(name="box", noun="box", **red)
    roles = {
        "pick up": [{"object": cup}, {"object": small}],
        "put down": [{"object": cup}],
        "push left": [{"object": big}],
        "push right": [{"object": big}],
        "stack": [{"object": small, "base": other}, {"object": other, "base": small}],
        "pour": [{"object": cup, "into": bowl}],
        "lift pot": [{"object": Pot(name="pot", **red)}],
        "open drawer": [{"object": Drawer(name="d", **red)}],
        "close drawer": [{"object": Drawer(name="d", **red)}],
        "open lid": [{"object": Chest(name="c", **red)}],
        "close lid": [{"object": Chest(name="c", **red)}],
        "turn clockwise": [{"object": Stove(name="s", **red)}],
        "turn anticlockwise": [{"object": Stove(name="s", **red)}],
        "press button": [{"object": Buttons(name="k", colours=("red", "blue"), **red)}],
        "wipe": [{"object": Sponge(name="w", **red)}],
        "stir": [{"object": bowl}],
        "cut": [{"object": Board(name="v", **red)}],
        "fold": [{"object": Cloth(name="t", **red)}],
        "unfold": [{"object": Cloth(name="t", **red)}],
        "tear": [{"object": Paper(name="p", **red)}],
    }
    for action, cases in roles.items():
        for number, case in enumerate(cases):
            for which in (0, 1) if action == "press button" else (None,):
                yield (action, number, which), slots_for(action, case, which, "left")


def test_every_action_has_a_rule():
    assert set(RULES) == set(ACTIONS)


def test_no_sentence_means_two_things():
    meanings = defaultdict(set)
    for meaning, slots in every_slot():
        for sentence in sentences(slots):
            meanings[sentence.lower()].add(meaning)
    shared = {sentence: found for sentence, found in meanings.items() if len(found) > 1}
    assert len(meanings) > 150
    assert not shared


def test_synonyms_are_many_and_different():
    for meaning, slots in every_slot():
        said = sentences(slots)
        assert len(said) >= 3, meaning
        assert len(said) == len(set(said))
        others = paraphrases(slots, np.random.default_rng(0))
        assert len(others) >= 2, meaning
        assert short_text(slots) not in others


@pytest.mark.parametrize("seed", range(6))
def test_the_text_of_a_scene_names_one_choice(seed):
    """Within a scene the short text decides what happens: no two choices are said alike."""
    scene = build_scene(seed)
    said = defaultdict(list)
    for name, choice in affordances(scene):
        slots = slots_of(scene, ACTIONS[name](scene, choice, stream(seed, "x")))
        for sentence in sentences(slots):
            said[sentence].append((name, choice))
    assert all(len(found) == 1 for found in said.values()), said


def test_the_enriched_text_names_the_hands():
    for (action, _, _), slots in every_slot():
        text = enriched_text(slots, np.random.default_rng(1))
        assert text.endswith(".")
        assert "left hand" in text or "both hands" in text or "each hand" in text, (action, text)
        assert "{" not in text
