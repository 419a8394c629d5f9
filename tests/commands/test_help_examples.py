"""Every example of every --help can be run: its options exist, and what it reads is made by another one."""

from __future__ import annotations

import inspect
import re
import shlex
from pathlib import Path

import pytest
from helpers.command_lines import understood

from handi.commands import app as cli
from handi.recipes import bundled

# What a user has: everything else that an example reads is the --out of another one.
OWN = ("EPIC-KITCHENS", "ego4d_data", "footage", "models/animate-anything", "my/clips")
OUTPUTS = ("--out", "--run.out", "--prepare")
MADE_BELOW = ("data/", "out/", "runs/", "results")


def examples() -> list[list[str]]:
    """The examples as lists of words."""
    found = []
    for command in cli.COMMANDS.values():
        text = re.sub(r"\\\n\s*", "", inspect.getdoc(command) or "")
        found += [shlex.split(line) for line in text.splitlines() if line.strip().startswith("handi ")]
    return found


def test_examples_are_found():
    assert {words[1] for words in examples()} >= set(cli.COMMANDS) - {"doctor"}


@pytest.mark.parametrize("words", examples(), ids=" ".join)
def test_an_example_is_understood(words, monkeypatch, capsys):
    understood(words, monkeypatch, capsys)


def test_what_an_example_reads_is_made_by_another():
    made = [words[place + 1] for words in examples() for place, word in enumerate(words) if word in OUTPUTS]
    made += [f"runs/{name}" for name in bundled()]
    missing = []
    for words in examples():
        for place, word in enumerate(words):
            path = re.split(r"[=:]", word)[-1]
            if words[place - 1] in OUTPUTS or not path.startswith(MADE_BELOW) or path in OWN:
                continue
            if not any(Path(path) == Path(one) or Path(one) in Path(path).parents for one in made):
                missing.append(f"{' '.join(words)}: nothing makes {path}")
    assert not missing, "\n".join(missing)
