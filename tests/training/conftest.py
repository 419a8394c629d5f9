"""Tiny trainings (see tests/helpers/tiny_training.py)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.tiny_training import TINY, tiny_shards

from handi.training.recipe import Recipe, load_recipe


@pytest.fixture(scope="session")
def tiny_world(tmp_path_factory) -> Path:
    return tiny_shards(tmp_path_factory.mktemp("tiny-world"), *range(6))


@pytest.fixture(scope="session")
def tiny_recipe(tiny_world) -> Callable[..., Path]:
    """`tiny_recipe(folder, optim={"batch": 1}, …)` → a recipe file in `folder` whose run is `folder`/run."""

    def write(folder: Path, **changes: Any) -> Path:
        content = copy.deepcopy(TINY)
        content["data"]["path"] = str(tiny_world)
        content["run"]["out"] = str(folder / "run")
        for section, entries in changes.items():
            if isinstance(entries, dict):
                content[section] = {**content[section], **entries}
            else:
                content[section] = entries
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "recipe.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    return write


@pytest.fixture(scope="session")
def load(tiny_recipe) -> Callable[..., Recipe]:
    """The same as a `Recipe`."""
    return lambda folder, **changes: load_recipe(tiny_recipe(folder, **changes))
