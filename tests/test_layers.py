"""The house: imports go down only, files stay short, and tests use what users can use."""

from __future__ import annotations

import ast
from pathlib import Path

import handi

ROOT = Path(handi.__file__).parent
TESTS = Path(__file__).parent

# The longest matching prefix counts. Every module must be covered: a new one is given its floor here.
LAYERS = {
    "handi": 0,  # the package's __init__ imports its pipeline only when asked for it
    "handi.core": 0,
    "handi.assets": 0,
    "handi.recipes": 0,
    "handi.hands": 1,
    "handi.motion": 1,
    "handi.method": 1,  # the paper's equations; the world draws the same areas
    "handi.world": 1,
    "handi.training.recipe": 1,
    "handi.training.counting": 1,
    "handi.models": 2,
    "handi.evaluation.metrics": 2,
    "handi.method.stages": 3,
    "handi.method.pipeline": 4,
    "handi.data": 4,
    "handi.training": 5,
    "handi.hands.report": 5,
    "handi.generation": 6,
    "handi.app": 7,
    "handi.evaluation": 7,
    "handi.export": 7,
    "handi.commands": 8,
    "handi.__main__": 9,
}


def modules() -> dict[str, Path]:
    names = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def layer_of(name: str) -> tuple[str, int]:
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        if (prefix := ".".join(parts[:end])) in LAYERS and (prefix != "handi" or name == "handi"):
            return prefix, LAYERS[prefix]
    raise AssertionError(f"{name} has no layer: add it to LAYERS")


def imports_of(path: Path, known: dict[str, Path]) -> set[str]:
    """Modules of the package that a file imports anywhere in it, functions and TYPE_CHECKING included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names if a.name.split(".")[0] == "handi"}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write absolute imports"
            if (node.module or "").split(".")[0] == "handi":
                full = {f"{node.module}.{a.name}" for a in node.names}
                found |= {name if name in known else str(node.module) for name in full}
    return found


def test_every_module_has_a_layer():
    for name in modules():
        layer_of(name)


def test_imports_go_down_only():
    known = modules()
    wrong = []
    for name, path in known.items():
        if name == "handi":
            continue
        place, floor = layer_of(name)
        for other in imports_of(path, known) - {"handi"}:
            target, target_floor = layer_of(other)
            inside = place == target
            if not inside and (target_floor > floor or (target_floor == floor > 1)):
                wrong.append(f"{name} (layer {floor}) imports {other} (layer {target_floor})")
    assert not wrong, "\n".join(wrong)


def test_the_walk_sees_imports(tmp_path):
    probe = tmp_path / "probe.py"
    probe.write_text("def f():\n    from handi.method import pipeline\n    from handi.models import folder\n")
    assert imports_of(probe, modules()) == {"handi.method.pipeline", "handi.models.folder"}


# ----------------------------------------------------------------------------------- what stays readable

LONGEST = 400  # lines of a source file


def test_no_file_is_too_long():
    lines = {name: len(path.read_text().splitlines()) for name, path in modules().items()}
    assert not {name: count for name, count in lines.items() if count > LONGEST}


def test_tests_use_public_names_only():
    found = {
        str(path.relative_to(TESTS)): names
        for path in sorted(TESTS.rglob("*.py"))
        if (names := private_names(path.read_text()))
    }
    assert not found


def private_names(source: str) -> list[str]:
    """Names of the package with a leading underscore that a test imports, reaches for or replaces."""
    tree = ast.parse(source)
    found, ours = [], set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "handi":
            ours |= {alias.asname or alias.name for alias in node.names}
            found += [f"{node.module}.{a.name}" for a in node.names if is_private(f"{node.module}.{a.name}")]
        elif isinstance(node, ast.Import):
            ours |= {(a.asname or a.name).split(".")[0] for a in node.names if a.name.startswith("handi")}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node).split(".")[0] in ours:
            found += [ast.unparse(node)] if is_private(node.attr) else []
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "setattr"
        ):
            target, *rest = [ast.unparse(argument).strip("'\"") for argument in node.args]
            name = ".".join([target, *rest[:-1]])
            found += [name] if target.split(".")[0] in {*ours, "handi"} and is_private(name) else []
    return found


def is_private(name: str) -> bool:
    return any(part.startswith("_") and not part.startswith("__") for part in name.split("."))


def test_the_search_finds_private_names():
    source = """
from handi.core import files, video as film
from handi.core.files import _HOST
film._decoded(1)
patch.setattr(films, "_x", 1)
patch.setattr(film, "_x", 1)
patch.setattr("handi.core.files._x", 1)
patch.setattr(files, "replace", 1)
files.Name.__init__
"""
    assert private_names(source) == [
        "handi.core.files._HOST",
        "film._x",
        "handi.core.files._x",
        "film._decoded",
    ]
