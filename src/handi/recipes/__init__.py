"""The recipes that ship with handi, one YAML file each."""

from __future__ import annotations

from pathlib import Path

from handi.core.errors import InputError

HOME = Path(__file__).parent


def bundled() -> list[str]:
    """Their names."""
    return sorted(path.stem for path in HOME.glob("*.yaml"))


def find_recipe(name: str | Path) -> Path:
    """The file of a recipe: the path itself, or the one of that name that ships with handi.

    Raises: InputError naming those that ship.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    if path.parent == Path() and path.name.removesuffix(".yaml") in bundled():
        return HOME / f"{path.name.removesuffix('.yaml')}.yaml"
    raise InputError(
        "no such recipe", where=name, hint=f"give a YAML file, or one of: {', '.join(bundled())}"
    )
