"""Imports put off until they are needed: a heavy package that others import early and hardly ever use.

diffusers and transformers import torch's compiler, peft and scipy for features that a plain run of `handi
generate` never reaches, and wait seconds for them. Within `later(…)` such a package is not imported: names
taken from it are placeholders, each of which imports the package when it is first used.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


@contextmanager
def later(*packages: str) -> Iterator[None]:
    """Within this block, imports of these packages (and of modules in them) bind placeholders.

    A package that is imported already stays as it is; without packages nothing is put off. At the end of
    the block the placeholders leave `sys.modules`, so that the next import of the package is an ordinary one.
    A placeholder that decorates a function or class while the block lasts leaves it as it is: this is for
    decorators that mark code for a compiler, not for those that change what it does.
    """
    finder = _Finder([name for name in packages if name not in sys.modules])
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        finder.open = False
        for module in finder.made:
            if sys.modules.get(module.__name__) is module:
                del sys.modules[module.__name__]
            parent, _, name = module.__name__.rpartition(".")
            owner = sys.modules.get(parent)
            if owner is not None and owner.__dict__.get(name) is module:
                delattr(owner, name)


class _Finder(MetaPathFinder, Loader):
    """Answers for the packages that are put off."""

    def __init__(self, packages: Sequence[str]) -> None:
        self.packages = packages
        self.open = True
        self.made: list[ModuleType] = []

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if self.open and any(name == one or name.startswith(f"{one}.") for one in self.packages):
            return ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = _Module(spec.name, self)
        self.made.append(module)
        return module

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing to run."""


class _Module(ModuleType):
    """A module that is not imported: while the block lasts its names are placeholders, then the real ones."""

    def __init__(self, name: str, finder: _Finder) -> None:
        super().__init__(name)
        self.__dict__["_finder"] = finder

    def __getattr__(self, name: str) -> Any:
        if not self._finder.open:
            return _real(self.__name__, name)
        if name.startswith("__"):
            raise AttributeError(name)
        return _Name(self._finder, self.__name__, name)


class _Name:
    """A name of a module that is not imported: called, read or tested against, it is the real one."""

    def __init__(self, finder: _Finder, module: str, *path: str) -> None:
        self._finder, self._module, self._path = finder, module, path

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        if not self._finder.open:
            return _real(self._module, *self._path)(*arguments, **options)
        if arguments and callable(arguments[0]):
            return arguments[0]  # it decorates
        return lambda decorated: decorated  # it was given the decorator's options

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if self._finder.open:
            return _Name(self._finder, self._module, *self._path, name)
        return getattr(_real(self._module, *self._path), name)

    def __instancecheck__(self, one: Any) -> bool:
        # Of a class that was never imported there are no instances.
        return not self._finder.open and isinstance(one, _real(self._module, *self._path))


def _real(module: str, *path: str) -> Any:
    """What stands under a name of a module, and the names in it; imported now."""
    found: Any = importlib.import_module(module)
    for name in path:
        if isinstance(found, ModuleType) and not hasattr(found, name):
            importlib.import_module(f"{found.__name__}.{name}")
        found = getattr(found, name)
    return found
