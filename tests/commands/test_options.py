"""The options of all commands together: what is the same is called the same."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterator

import pytest
import tyro

from handi.commands.app import COMMANDS

# Names that commands share though the values are of two kinds: what each is for is one thing all the same.
KINDS = {
    "--size": "generate and prepare take HxW; clips of the world are square",
    "--methods": "bench makes videos from a SPEC, gallery shows folders",
    "--data": "areas takes one prepared folder, bench and ablate name true videos",
    "--flow": "hands: whether to measure it; gallery: which picture of it",
    "--truth": "prepare: which ground truth of the world; gallery: whether to show it",
    "--pictures": "world writes png or mp4, prepare jpg, png or none",
    "--text": "export has the same two choices in another order",
}
# One thing, and other words that it might be called.
ONE_NAME = {
    "--limit": {"--clips", "--max", "--max-clips", "--count"},
    "--batch-size": {"--batch"},
    "--area-steps": {"--steps"},
    "--area-guidance": {"--guidance"},
    "--workers": {"--jobs", "--processes"},
    "--out": {"--output", "--into"},
}


def options() -> Iterator[tuple[str, str, str]]:
    """(command, option, its values) of every option but --help."""
    for name, command in COMMANDS.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            parser = tyro.extras.get_parser(command, prog=f"handi {name}")
        for action in parser._actions:
            option = action.option_strings[0] if action.option_strings else ""
            if option.startswith("--") and option != "--help":
                values = str(action.metavar).removeprefix("{None}|").strip("[]")
                yield name, option, values if "{" in values else ""


def test_an_option_of_several_commands_has_the_same_choices_in_each():
    kinds = defaultdict(set)
    for _, option, values in options():
        kinds[option].add(values)
    assert {option for option, values in kinds.items() if len(values) > 1} <= set(KINDS)


@pytest.mark.parametrize("name", ONE_NAME)
def test_one_thing_has_one_name(name):
    taken = defaultdict(set)
    for command, option, _ in options():
        taken[command].add(option)
    own = {"generate": {"--batch", "--steps", "--guidance"}, "world": {"--clips"}}  # these are other things
    for command, found in taken.items():
        assert not found & ONE_NAME[name] - own.get(command, set()), command
