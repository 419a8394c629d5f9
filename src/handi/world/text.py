"""What is said of an action: a grammar that makes the short text, paraphrases and the enriched description.

An action's words are verbs with a frame ("{verb} {object}"), nouns come from the props with their colours,
and synonyms are chosen word by word. Two actions of opposite meaning share no sentence: their verbs differ
or the direction is named in every sentence, and a test goes through all that the grammar can say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from string import Formatter

import numpy as np

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
    Prop,
    Sponge,
    Stove,
    Vessel,
)

# Synonyms of nouns; the first is the one that the short text uses.
NOUNS = {
    "cup": ("cup", "mug"),
    "can": ("can", "tin"),
    "box": ("box", "carton"),
    "block": ("block", "cube"),
    "drawer": ("drawer",),
    "chest": ("box", "chest"),
    "dial": ("knob", "dial"),
    "button": ("button",),
    "sponge": ("sponge",),
    "table": ("table", "counter", "tabletop"),
    "bowl": ("bowl",),
    "cloth": ("towel", "cloth"),
    "paper": ("paper", "sheet of paper"),
    "pot": ("pot", "saucepan"),
}


@dataclass(frozen=True)
class Rule:
    """How an action is said. Every sentence is a frame with one word for each name in braces.

    `words` are this action's own synonyms, first the plainest; `middle` tells in the third person how it is
    done, with the sides of the hands in {hand} and {other}.
    """

    frames: tuple[str, ...]
    middle: tuple[str, ...]
    words: dict[str, tuple[str, ...]]


RULES: dict[str, Rule] = {
    "pick up": Rule(
        ("{verb} {the_object}",),
        ("reaches for {the_object} with the {hand} hand, closes the fingers around it and lifts it"
         " off the {table}",),
        {"verb": ("pick up", "lift", "raise", "take")},
    ),
    "put down": Rule(
        ("{verb} {the_object}", "{verb2} {the_object} on the {table}"),
        ("lowers {the_object} onto the {table} with the {hand} hand, opens the fingers and draws"
         " the hand back",),
        {"verb": ("put down", "set down"), "verb2": ("put", "place", "set")},
    ),
    "push left": Rule(
        ("{verb} {the_object} to the left", "{verb} {the_object} leftward"),
        ("lays the {hand} hand against {the_object} and slides it across the {table} to the left",),
        {"verb": ("push", "slide", "move", "shove")},
    ),
    "push right": Rule(
        ("{verb} {the_object} to the right", "{verb} {the_object} rightward"),
        ("lays the {hand} hand against {the_object} and slides it across the {table} to the right",),
        {"verb": ("push", "slide", "move", "shove")},
    ),
    "stack": Rule(
        ("{verb} {the_object} on {the_base}", "{verb2} {the_object} on top of {the_base}"),
        ("takes {the_object} between the thumb and fingers of the {hand} hand, carries it over and"
         " sets it on top of"
         " {the_base}",),
        {"verb": ("stack", "set"), "verb2": ("stack", "put", "place")},
    ),
    "pour": Rule(
        ("{verb} the {drink} into {the_into}", "{verb} the {drink} from {the_object} into {the_into}"),
        ("holds {the_object} in the {hand} hand above {the_into}, tilts it and lets the {drink} run out",),
        {"verb": ("pour", "tip")},
    ),
    "lift pot": Rule(
        ("{verb} {the_object} with both hands", "{verb} {the_object} by its handles"),
        ("takes {the_object} by its handles, one in the left hand and one in the right hand, and"
         " lifts it straight up",),
        {"verb": ("lift", "pick up", "raise")},
    ),
    "open drawer": Rule(
        ("{verb} {the_object}",),
        ("hooks the fingers of the {hand} hand over the handle of {the_object} and pulls it all the"
         " way out",),
        {"verb": ("open", "pull open", "pull out")},
    ),
    "close drawer": Rule(
        ("{verb} {the_object}",),
        ("takes the handle of {the_object} with the {hand} hand and pushes it all the way in",),
        {"verb": ("close", "shut", "push in")},
    ),
    "open lid": Rule(
        ("{verb} the lid of {the_object}", "{verb2} {the_object}"),
        ("takes the knob of the lid of {the_object} with the {hand} hand and swings it up",),
        {"verb": ("open", "lift", "raise"), "verb2": ("open",)},
    ),
    "close lid": Rule(
        ("{verb} the lid of {the_object}", "{verb2} {the_object}"),
        ("takes the knob of the lid of {the_object} with the {hand} hand and swings it down",),
        {"verb": ("close", "shut", "lower"), "verb2": ("close", "shut")},
    ),
    "turn clockwise": Rule(
        ("{verb} the {dial} clockwise", "{verb} the {dial} of the stove clockwise", "{up} the heat"),
        ("takes the {dial} between the thumb and fingers of the {hand} hand and turns it clockwise,"
         " and the hot"
         " plate glows brighter",),
        {"verb": ("turn", "rotate", "twist"), "up": ("turn up",)},
    ),
    "turn anticlockwise": Rule(
        ("{verb} the {dial} {way}", "{verb} the {dial} of the stove {way}", "{off} the stove"),
        ("takes the {dial} between the thumb and fingers of the {hand} hand and turns it {way}, and"
         " the hot plate"
         " goes dark",),
        {"verb": ("turn", "rotate", "twist"), "way": ("counterclockwise", "anticlockwise"),
         "off": ("turn off", "switch off")},
    ),
    "press button": Rule(
        ("{verb} {the_object}",),
        ("points with the index finger of the {hand} hand and presses {the_object}, and the lamp behind it"
         " lights up",),
        {"verb": ("press", "push", "hit")},
    ),
    "wipe": Rule(
        ("{verb} the {table} with {the_object}", "{verb2} the stains with {the_object}"),
        ("presses {the_object} on the {table} with the {hand} hand and moves it to and fro until"
         " the stains are"
         " gone",),
        {"verb": ("wipe", "clean", "scrub"), "verb2": ("wipe away", "wipe off")},
    ),
    "stir": Rule(
        ("{verb} the {content}", "{verb} the {content} in {the_object}", "{verb} the {content} with"
         " the spoon"),
        ("holds the spoon in the {hand} hand and moves it round and round in {the_object} until the"
         " {content} is"
         " evenly mixed",),
        {"verb": ("stir", "mix")},
    ),
    "cut": Rule(
        ("{verb} the {vegetable}", "{verb} the {vegetable} with the knife", "{verb2} the"
         " {vegetable} into pieces"),
        ("holds the {vegetable} on the board with the {other} hand and uses the knife in the {hand}"
         " hand to slice"
         " pieces off its end",),
        {"verb": ("cut", "slice", "chop"), "verb2": ("cut", "chop")},
    ),
    "fold": Rule(
        ("{verb} {the_object}",),
        ("takes the near corners of {the_object}, one in each hand, and folds it over",),
        {"verb": ("fold", "fold over", "fold up")},
    ),
    "unfold": Rule(
        ("{verb} {the_object}",),
        ("takes the folded edge of {the_object} with both hands and lays it out flat",),
        {"verb": ("unfold", "open out", "spread out")},
    ),
    "tear": Rule(
        ("{verb} {the_object} in two", "{verb} {the_object} in half", "{verb} {the_object} apart"),
        ("holds one edge of {the_object} in the left hand and the other in the right hand, tears it down the"
         " middle and pulls the halves apart",),
        {"verb": ("tear", "rip")},
    ),
}  # fmt: skip

OPENINGS = ("The person", "A person", "The person at the table")


def _said(noun: str, colour: str | None) -> tuple[str, ...]:
    paint = f"{colour} " if colour else ""
    return tuple(f"the {paint}{word}" for word in NOUNS[noun])


def names_of(prop: Prop, which: int | None = None) -> tuple[str, ...]:
    """What a prop may be called, with its colour, the plainest first; `which` names one of two buttons."""
    match prop:
        case Vessel() | Block():
            return _said(prop.noun, prop.colour)
        case Buttons():
            assert which is not None
            return _said("button", prop.colours[which])
        case Drawer():
            return _said("drawer", None)
        case Stove():
            return ("the stove",)
        case Pot():
            return _said("pot", None)
        case Board():
            return ("the board",)
        case Chest() | Sponge() | Bowl() | Cloth() | Paper():
            return _said(prop.kind, prop.colour)
        case _:
            raise TypeError(f"no name for a {type(prop).__name__}")


@dataclass(frozen=True)
class Slots:
    """The words that a scene and a choice fix: slot name -> the ways to say it."""

    action: str
    words: dict[str, tuple[str, ...]]
    hand: str = ""  # the side that acts; empty where both do the same


def slots_for(action: str, roles: dict[str, Prop], which: int | None, hand: str) -> Slots:
    """The slots of an action on these props; `hand` is the side that leads."""
    words = {f"the_{role}": names_of(prop, which) for role, prop in roles.items()}
    for prop in roles.values():
        if isinstance(prop, Bowl):
            words["content"] = (prop.content,)
        elif isinstance(prop, Board):
            words["vegetable"] = (prop.vegetable,)
        elif isinstance(prop, Vessel) and prop.drink:
            words["drink"] = (prop.drink,)
    return Slots(action, words, hand)


def _options(slots: Slots) -> dict[str, tuple[str, ...]]:
    other = {"left": "right", "right": "left", "": ""}[slots.hand]
    shared = {"table": NOUNS["table"], "dial": NOUNS["dial"], "hand": (slots.hand,), "other": (other,)}
    return {**shared, **RULES[slots.action].words, **slots.words}


def _fields(frame: str) -> list[str]:
    return [field for _, field, _, _ in Formatter().parse(frame) if field]


def sentences(slots: Slots) -> list[str]:
    """Every short sentence that the grammar has for these slots, the plainest first, without repeats."""
    options = _options(slots)
    found = []
    for frame in RULES[slots.action].frames:
        fields = list(dict.fromkeys(_fields(frame)))
        for words in product(*(options[field] for field in fields)):
            found.append(frame.format(**dict(zip(fields, words, strict=True))))
    return list(dict.fromkeys(found))


def short_text(slots: Slots) -> str:
    """The action in the plainest words."""
    return sentences(slots)[0]


def paraphrases(slots: Slots, rng: np.random.Generator, count: int = 4) -> list[str]:
    """Other ways to say it, at most `count`, drawn without repeats."""
    others = sentences(slots)[1:]
    order = rng.permutation(len(others))[:count]
    return [others[i] for i in order]


def enriched_text(slots: Slots, rng: np.random.Generator) -> str:
    """The full description in the paper's style: who does what with which hand."""
    options = _options(slots)
    middle = _any(RULES[slots.action].middle, rng)
    words = {field: _any(options[field], rng) for field in dict.fromkeys(_fields(middle))}
    return f"{_any(OPENINGS, rng)} {middle.format(**words)}."


def _any(options: Sequence[str], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]
