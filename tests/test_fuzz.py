"""A thousand damaged inputs to the commands, the same ones every time; `make fuzz` tries twenty thousand."""

from __future__ import annotations

import json
import os
import warnings

import pytest
from fuzzing import files
from fuzzing.bench import SURFACES, Bench

PIECE = 15  # cases of one test: small enough to be shared out evenly
PIECES = [(name, first) for name, cases in SURFACES.items() for first in range(0, cases, PIECE)]


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base  # by the workers of one run
    with Bench(tmp_path_factory.mktemp("fuzz"), shared / "materials") as bench:
        yield bench


@pytest.mark.parametrize(("name", "first"), PIECES)
def test_no_input_breaks_a_command(bench, name, first):
    problems = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(first, min(first + PIECE, SURFACES[name])):
            problems += [f"{name} {number}: {problem}" for problem in bench.run(name, number).problems]
    assert not problems, "\n".join(problems)


WHOLE = (
    "epic",
    "ego4d",
    "lego",
    "joints",
    "prepared",
    "shards",
    "areas",
    "loras",
    "worlds",
    "runs",
    "manifests",
    "arrays",
    "results",
)


@pytest.mark.parametrize("name", WHOLE)
def test_the_inputs_are_whole_before_they_are_damaged(bench, name, monkeypatch):
    """Else every damage would be refused for one and the same reason."""
    for damage in ("damage_file", "damage_json"):
        monkeypatch.setattr(files, damage, lambda rng, path: None)
    monkeypatch.setattr(files, "damaged_table", lambda rng, text: text.encode())
    monkeypatch.setattr(files, "damaged_safetensors", lambda rng, data: data)
    monkeypatch.setattr("fuzzing.surfaces.damaged", lambda rng, data: data)
    lines = "".join
    monkeypatch.setattr(
        files, "damaged_lines", lambda rng, rows: lines(json.dumps(row) + "\n" for row in rows).encode()
    )
    outcome = bench.run(name, 0)
    assert (outcome.code, outcome.problems) == (0, []), outcome.said


def test_the_suite_is_as_large_as_it_says():
    inputs = sum(SURFACES.values()) + 5 * SURFACES["images"] + 3 * SURFACES["masks"] + SURFACES["footage"]
    assert inputs >= 1000


def test_the_harness_sees_what_it_should(bench, tmp_path):
    """Each property fails for a command that breaks it."""
    from fuzzing.harness import Case, run_case

    from handi.commands import app as cli

    def outcome(command) -> list[str]:
        box_of = {}

        def surface(box):
            box_of["box"] = box
            return Case(["doctor"])

        before = cli.COMMANDS["doctor"]
        cli.COMMANDS["doctor"] = lambda: command(box_of["box"])
        try:
            return run_case(surface, "probe", 0, tmp_path).problems
        finally:
            cli.COMMANDS["doctor"] = before

    def crash(box) -> int:
        raise KeyError("x")

    def stray(box) -> int:
        (box.folder.parent / "stray").write_text("x")
        return 0

    def beside(box) -> int:
        (box.files / "new").write_text("x")
        return 0

    def half(box) -> int:
        box.out.mkdir()
        (box.out / ".unfinished-1").write_text("x")
        return 0

    def mute(box) -> int:
        return 1

    def greedy(box) -> int:
        return len(bytearray(1 << 34)) * 0

    def fine(box) -> int:
        return 0

    assert outcome(fine) == []
    for command, words in (
        (crash, "not a HandiError"), (stray, "outside the output folder"), (beside, "inputs were changed"),
        (half, "unfinished work"), (mute, "without an error line"), (greedy, "not enough memory"),
    ):  # fmt: skip
        assert any(words in problem for problem in outcome(command)), words
