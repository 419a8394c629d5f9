"""Another project's own inference in its own environment, through our wrapper of it (`wrappers/`).

A method file (its paths count from its own folder):

    kind: external
    project: dynamicrafter                     default: the method's name
    checkout: ../DynamiCrafter                 the project's code
    weights: ../weights/model.ckpt             a file or folder
    python: ../DynamiCrafter/.venv/bin/python  default: that of a .venv in the checkout
    trained_on: EPIC-KITCHENS, 200,000 steps   for the tables; nothing can tell
    steps: 50                                  and other options of the wrapper
"""

from __future__ import annotations

import json
import shlex
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from handi.core.errors import InputError
from handi.evaluation.methods.base import Origin, hash_of, revision_of
from handi.evaluation.methods.program import Command
from handi.evaluation.paper import method_key

# What the paper's tables call a project → its wrapper.
PROJECTS = {"aa": "animate_anything", "avdc": "avdc", "dynamicrafter": "dynamicrafter", "lfdm": "lfdm",
            "open_sora": "open_sora", "pia": "pia"}  # fmt: skip
WRAPPERS = Path(__file__).parent / "wrappers"


class External(Command):
    """A project's own inference; see the top of this file."""

    def __init__(
        self, checkout: str, *, project: str, weights: str | None = None, python: str | None = None,
        folder: Path = Path(), parameters: float | None = None, **options: Any,
    ) -> None:  # fmt: skip
        self.wrapper = wrapper_of(project)
        if weights is None:
            raise InputError("has no weights", where=project, hint=f"weights: {self.wrapper.WEIGHTS}")
        if unknown := sorted(set(options) - set(self.wrapper.OPTIONS)):
            known = ", ".join(self.wrapper.OPTIONS)
            raise InputError(f"has no option {unknown[0]!r}", where=project, hint=f"its options are {known}")
        self.checkout, self.weights = _path(folder, checkout), _path(folder, weights)
        self.python = _path(folder, python) if python else self.checkout / ".venv/bin/python"
        given = {name: _as_path(folder, value) for name, value in options.items()}
        settings = {**self.wrapper.OPTIONS, **given}
        given_to_it = json.dumps(settings | {"weights": str(self.weights)})
        words = [
            str(self.python), str(WRAPPERS / "start.py"), self.wrapper.__name__.rpartition(".")[2],
            "--requests", "{inputs}/requests.jsonl", "--out", "{out}",
            "--options", given_to_it.replace("{", "{{").replace("}", "}}"),
        ]  # fmt: skip
        super().__init__(
            shlex.join(words), cwd=str(self.checkout), output=self.wrapper.OUTPUT, parameters=parameters
        )
        self.check()
        revision = revision_of(self.checkout)
        weights_are = f"{self.weights.name}, SHA-256 {hash_of(self.weights)[:12]}"
        self.origin = Origin(self.wrapper.PROJECT, revision, weights_are)
        self.config = {
            "kind": "external",
            "project": self.wrapper.PROJECT,
            "revision": revision,
            "weights": weights_are,
            **settings,
        }

    def check(self) -> None:
        """Raises: InputError naming the checkout, environment or weights that are not there."""
        if not (self.checkout / self.wrapper.ENTRY).is_file():
            hint = f"name a checkout of {self.wrapper.PROJECT}"
            raise InputError(f"holds no {self.wrapper.ENTRY}", where=self.checkout, hint=hint)
        if not self.python.is_file():
            hint = "python: the interpreter of the environment that runs the project"
            raise InputError("no such interpreter", where=self.python, hint=hint)
        if not self.weights.exists():
            hint = f"weights: {self.wrapper.WEIGHTS}"
            raise InputError("no such weights", where=self.weights, hint=hint)


def wrapper_of(project: str) -> ModuleType:
    """The wrapper of a project. Raises: InputError for one that has none."""
    if (name := PROJECTS.get(method_key(project) or "")) is None:
        hint = f"project: {', '.join(PROJECTS.values())}"
        raise InputError(f"there is no wrapper of {project!r}", hint=hint)
    return import_module(f"handi.evaluation.methods.wrappers.{name}")


def _path(folder: Path, text: str) -> Path:
    """A path that counts from a folder. Links stay: that of an environment's interpreter is what it is."""
    return (folder / Path(text).expanduser()).absolute()


def _as_path(folder: Path, value: Any) -> Any:
    """An option's value; one that is a file or folder beside the method file becomes its path."""
    if isinstance(value, str) and (path := _path(folder, value)).exists():
        return str(path)
    return value
