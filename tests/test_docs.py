"""The commands of README and docs are understood as they stand, and their links lead somewhere."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
from helpers.command_lines import understood

from experiments.docs import commands, reason_to_skip, smaller

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md")]
PAGES += sorted((ROOT / "docs").glob("*.md")) + sorted((ROOT / "experiments").glob("*/LOG.md"))
PLACEHOLDERS = re.compile(r"[…<>]|\.\.\.")  # what a reader fills in, such as `handi train … --resume`


LINES = list(
    dict.fromkeys(
        (page.name, line)
        for page in PAGES
        for line in commands(page)
        if re.match(r"handi |python -m (?!pip|venv)", line)
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
    assert list(commands(page)) == ["handi doctor --json  # here", "handi app"]


def test_which_commands_are_run_as_they_stand():
    run = [line for line in commands(ROOT / "README.md") if reason_to_skip(line) is None]
    assert [line.split()[1] for line in run] == ["generate", "prepare", "report", "train"]
    assert smaller("handi world --clips 4000 --out data/x  # many") == "handi world --clips 2 --out data/x"
    assert "form" in str(reason_to_skip("handi prepare folder SOURCE --out DIR"))


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
