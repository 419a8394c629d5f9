"""A video's way through the evaluation goes one way, and metrics know nothing of where videos come from."""

from __future__ import annotations

from test_layers import imports_of, modules

HERE = "handi.evaluation."
# Each module imports from modules before it alone.
ORDER = (
    "metrics", "videos", "world", "folder", "features", "pairs", "scoring", "aggregate", "results", "run",
    "paper", "methods", "clips", "study", "layout", "origins", "tables", "ablate", "gallery_scores",
    "gallery", "catalogue", "publish",
)  # fmt: skip


def place_of(module: str) -> int:
    return ORDER.index(module.removeprefix(HERE).split(".")[0])


def test_no_module_imports_from_a_later_one():
    known = modules()
    ours = {name: path for name, path in known.items() if name.startswith(HERE)}
    assert {name.removeprefix(HERE).split(".")[0] for name in ours} == set(ORDER)
    for name, path in ours.items():
        for other in imports_of(path, known) & ours.keys():
            assert place_of(other) <= place_of(name), f"{name} imports {other}"


def test_metrics_know_nothing_of_the_world_nor_of_commands():
    known = modules()
    for name, path in known.items():
        if name.startswith(f"{HERE}metrics"):
            assert not [other for other in imports_of(path, known) if other.startswith("handi.world")]
        if not name.startswith(("handi.commands", "handi.__main__")):
            assert not [other for other in imports_of(path, known) if other.startswith("handi.commands")]
