"""The commands of README and docs are understood as they stand, and their links lead somewhere."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
from helpers.command_lines import understood

from experiments.docs import NOT_RUN, Command, commands, smaller
from experiments.docs import PAGES as RUN_PAGES

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md")]
PAGES += sorted((ROOT / "docs").glob("*.md")) + sorted((ROOT / "experiments").glob("*/LOG.md"))
PLACEHOLDERS = re.compile(r"[…<>]|\.\.\.")  # what a reader fills in, such as `handi train … --resume`


LINES = list(
    dict.fromkeys(
        (page.name, command.line)
        for page in PAGES
        for command in commands(page)
        if re.match(r"handi |python -m (?!pip|venv)", command.line)
    )
)


def test_commands_are_found():
    assert len({page for page, _ in LINES}) > 8
    assert len(LINES) > 60


def test_a_command_after_code_of_another_kind_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "```python\nhandi = 1\n```\ntext\n```\nhandi doctor \\\n    --json  # here\n```\n\n    $ handi app\n"
    )
    assert [command.line for command in commands(page)] == ["handi doctor --json  # here", "handi app"]


def test_a_comment_says_what_is_not_run_and_why_of_the_next_block_alone(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- not run: `handi app`: it stays -->\n<!-- not run: `handi train`: hours -->\n\n"
        "```\nhandi app --browser\nhandi weights\nhandi train x\n```\n\n"
        "<!-- not run: a GPU -->\n\n    handi bench x\n    handi ablate y\n\ntext\n\n    handi app\n"
    )
    assert list(commands(page)) == [
        Command("handi app --browser", "it stays"),
        Command("handi weights"),
        Command("handi train x", "hours"),
        Command("handi bench x", "a GPU"),
        Command("handi ablate y", "a GPU"),
        Command("handi app"),
    ]


def test_what_is_run_is_complete_and_what_is_not_has_a_reason():
    found = [(name, command) for name in RUN_PAGES for command in commands(ROOT / name)]
    run = [(name, command.line) for name, command in found if not command.not_run]
    assert [line.split()[1] for name, line in run if name == "README.md"] == [
        "generate", "prepare", "report", "train",
    ]  # fmt: skip
    assert not [line for _, line in run if PLACEHOLDERS.search(line) or line.startswith(("make", "pip"))]
    stated = {(name, mark[2]) for name in RUN_PAGES for mark in NOT_RUN.finditer((ROOT / name).read_text())}
    assert stated == {(name, command.not_run) for name, command in found if command.not_run}
    assert smaller("handi world --clips 4000 --out data/x  # many") == "handi world --clips 2 --out data/x"


@pytest.mark.parametrize(("page", "line"), LINES, ids=[f"{page}: {line[:60]}" for page, line in LINES])
def test_a_command_is_understood(page, line, monkeypatch, capsys):
    if PLACEHOLDERS.search(line):
        line = PLACEHOLDERS.sub("x", line)
    words = shlex.split(line, comments=True)
    if "|" in words:
        words = words[: words.index("|")]
    if words[0] == "handi":
        understood(words, monkeypatch, capsys)
        return
    module = words[2]
    spec = importlib.util.find_spec(module)
    assert spec is not None, f"{page}: there is no {module}"
    if spec.submodule_search_locations:
        spec = importlib.util.find_spec(f"{module}.__main__")
    if not module.startswith(("experiments", "benchmarks")):
        return
    source = Path(spec.origin).read_text()
    for other in re.findall(r"^from ((?:experiments|benchmarks)\.\S+) import", source, re.MULTILINE):
        source += Path(importlib.util.find_spec(other).origin).read_text()  # options that commands share
    for word in words[3:]:
        if word == "--":  # what follows is another command's
            break
        if word.startswith("--"):
            assert f'"{word.partition("=")[0]}"' in source, f"{page}: {module} has no {word}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page):
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target and not target.startswith("mailto:"):
            assert (page.parent / target).exists(), target
