"""Settings as dataclasses, read from nested mappings: every entry is checked, and named where it is wrong."""

from __future__ import annotations

import copy
import difflib
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from handi.core.errors import InputError
from handi.core.reading import finite

T = TypeVar("T")
SWITCH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
KINDS = {int: "a whole number", float: "a number", str: "text"}


@dataclass(frozen=True)
class Only:
    """What a type does not say of its values: `Annotated[int, Only(lambda n: n > 0, "1 or more")]`."""

    holds: Callable[[Any], bool]
    text: str  # what to use instead of a value for which it does not hold


def read_entries(cls: type[T], content: Any, where: str | Path, prefix: str = "") -> T:
    """Build a dataclass from a nested mapping, as YAML, JSON or a command line give it.

    Text is read as an entry's type wants it: "1e-4", "true", "none", "a, b". A field with compare=False is
    no entry. prefix: dotted name of the mapping, for errors. Raises: InputError that names the entry, the
    remedy, and for one that is unknown the nearest name.
    """
    if not isinstance(content, Mapping):
        raise InputError(f"{prefix.rstrip('.')} must hold entries, not {content!r}", where=where)
    hints = get_type_hints(cls, include_extras=True)
    known = {f.name: f for f in fields(cls) if f.compare}  # type: ignore[arg-type]
    values = {}
    for key, value in content.items():
        name = str(key).lower() if isinstance(key, bool) else key  # YAML reads a bare `true` as a truth value
        if name not in known:
            near = difflib.get_close_matches(str(name), known, 1)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"known are: {', '.join(known)}"
            raise InputError(f"{prefix}{name} is not an entry", where=where, hint=hint)
        values[name] = _value(hints[name], value, where, f"{prefix}{name}")
    for name, entry in known.items():
        if name not in values and entry.default is MISSING and entry.default_factory is MISSING:
            raise InputError(
                f"has no {prefix}{name}", where=where, hint=f"write {name}: {_wanted(hints[name])}"
            )
    return cls(**values)


def overridden(content: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """A nested mapping with entries replaced by their dotted names: {"optim.lr": "1e-4"}."""
    nested = copy.deepcopy(dict(content))
    for dotted, value in overrides.items():
        *parents, last = dotted.split(".")
        place = nested
        for parent in parents:
            if not isinstance(place.get(parent), dict):
                place[parent] = {}
            place = place[parent]
        place[last] = value
    return nested


def _value(hint: Any, value: Any, where: str | Path, key: str) -> Any:
    """A value as the type of its entry. Raises: InputError."""
    if get_origin(hint) is Annotated:
        hint, *extras = get_args(hint)
        parsed = _value(hint, value, where, key)
        for only in extras:
            if isinstance(only, Only) and parsed is not None and not only.holds(parsed):
                raise InputError(f"{key} is {parsed}", where=where, hint=f"use {only.text}")
        return parsed
    if is_dataclass(hint):
        return read_entries(hint, value, where, f"{key}.")  # type: ignore[arg-type]
    kind, arguments, text = get_origin(hint) or hint, get_args(hint), str(value).lower()
    if kind in (Union, types.UnionType):  # with None, as all unions are here
        return None if text in ("none", "null", "~", "") else _value(arguments[0], value, where, key)
    if kind is tuple:
        if isinstance(value, str):
            value = [part.strip() for part in value.strip("[]").split(",") if part.strip()]
        items = value if isinstance(value, Sequence) else [value]
        return tuple(_value(arguments[0], item, where, key) for item in items)
    if kind is Literal:
        # YAML reads a bare `no` as False.
        text = {"true": "yes", "false": "no"}.get(text, str(value)) if "no" in arguments else str(value)
        if text in arguments:
            return text
    elif kind is bool:
        if text in SWITCH:
            return SWITCH[text]
    elif isinstance(value, str | int | float) and not isinstance(value, bool):
        try:
            parsed = kind(value)
            if not (kind is int and isinstance(value, float)) and (
                kind is not float or finite(parsed) is not None
            ):
                return parsed
        except (ValueError, OverflowError):
            pass
    raise InputError(f"{key} is {value!r}", where=where, hint=f"use {_wanted(hint)}")


def _wanted(hint: Any) -> str:
    """What an entry of a type takes, for an error."""
    if get_origin(hint) is Literal:
        return " or ".join(get_args(hint))
    return "true or false" if hint is bool else KINDS.get(hint, "a value")
