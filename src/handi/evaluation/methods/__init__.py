"""Methods by name: NAME=SPEC on the command line, where SPEC is one of

videos:FOLDER              videos that exist already
handi:MODEL                a model of handi's, both stages
animate-anything:FOLDER    an AnimateAnything folder; its mask is the whole frame
pia:FOLDER                 diffusers' PIAPipeline
cogvideox:FOLDER           diffusers' CogVideoX pipelines, image-to-video or text-to-video
external:CHECKOUT,weights=PATH,…    another project's own inference, see external.py; NAME says which project
static                     floor: the context image, 16 times
flow                       floor: the context image moved on by the optical flow to the next TRUE frame
FILE.yaml                  kind: one of the above or `command` (any program), and its options
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from handi.core.errors import InputError
from handi.core.names import check_name
from handi.core.reading import read_yaml
from handi.evaluation.methods.base import Method

# Kind → "module:class", imported when it is asked for; what the part behind the colon is called; options.
OURS = "model:Handi"
KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "static": ("base:Static", "", {}),
    "flow": ("base:FlowExtrapolation", "", {}),
    "handi": (OURS, "model", {}),
    "animate-anything": (OURS, "model", {"mask": "full"}),
    "pia": ("published:Pia", "model", {}),
    "cogvideox": ("published:CogVideoX", "model", {}),
    "external": ("external:External", "checkout", {}),
    "command": ("program:Command", "command", {}),
}
STORED = "videos"


@dataclass(frozen=True)
class Spec:
    """A method as it was named; `build` loads it, which may take a while."""

    name: str
    kind: str
    options: Mapping[str, Any]
    trained_on: str = ""  # as a method file says

    @property
    def stored(self) -> Path | None:
        """The folder of its videos, if they exist already."""
        return Path(self.options["folder"]) if self.kind == STORED else None

    def check(self) -> None:
        """Check that what it names is there, without loading it. Raises: HandiError."""
        if self.stored is not None:
            if not self.stored.exists():
                raise InputError("no such folder or manifest of videos", where=self.stored)
        elif self.kind in ("command", "external"):
            self.build().check()  # type: ignore[attr-defined]  # it loads nothing
        elif "model" in self.options and KINDS[self.kind][0] == OURS:
            from handi.models.folder import require

            require(str(self.options["model"]))
        elif "model" in self.options and not Path(self.options["model"]).expanduser().is_dir():
            raise InputError("no such model folder", where=str(self.options["model"]))

    def build(self, device: str | None = None) -> Method:
        """The method, ready to generate, on this device unless it names its own. Raises: HandiError."""
        place, argument, preset = KINDS[self.kind]
        if argument == "model" and device is not None:
            preset = preset | {"device": device}
        module, _, kind = place.partition(":")
        try:
            method: Method = getattr(import_module(f"{__name__}.{module}"), kind)(
                **(preset | dict(self.options))
            )
        except TypeError as error:  # an option that the class does not have
            raise InputError(f"{error}", where=self.name) from error
        method.origin = replace(method.origin, trained_on=self.trained_on or method.origin.trained_on)
        return method


def parse_specs(texts: tuple[str, ...]) -> list[Spec]:
    """Several methods, each called by a name of its own. Raises: InputError."""
    specs = [parse_spec(text) for text in texts]
    for number, spec in enumerate(specs):
        if spec.name in [other.name for other in specs[:number]]:
            raise InputError(f"two methods are called {spec.name!r}", hint="write NAME=SPEC")
    return specs


def parse_spec(text: str) -> Spec:
    """NAME=SPEC, or SPEC alone, which is then its own name; see the top of this file. Raises: InputError."""
    name, equals, rest = text.partition("=")
    if not equals:
        name, rest = text.partition(":")[0], text
    name = Path(name).stem if name.endswith((".yaml", ".yml")) else name
    if not name:
        raise InputError(f"{text!r} has no name that a folder may have", hint="write NAME=SPEC")
    check_name(name, "name of a method")
    if rest.endswith((".yaml", ".yml")):
        return _of_file(name, Path(rest))
    kind, _, value = rest.partition(":")
    if kind not in (known := [*KINDS, STORED]):
        hint = f"use {', '.join(known)}, or a FILE.yaml"
        raise InputError(f"{text!r}: no kind of method {kind!r}", hint=hint)
    if kind == "command":
        hint = "write NAME=FILE.yaml, see docs/baselines.md"
        raise InputError(f"{text!r}: a command needs a file", hint=hint)
    argument = "folder" if kind == STORED else KINDS[kind][1]
    if bool(argument) != bool(value):
        hint = f"write {kind}:{argument.upper()}" if argument else f"write {kind}"
        raise InputError(f"{text!r}", hint=hint)
    if kind == "external":
        return Spec(name, kind, _of_list(name, value))
    return Spec(name, kind, {argument: value} if argument else {})


def _of_list(name: str, text: str) -> dict[str, Any]:
    """CHECKOUT,OPTION=VALUE,… as the options of an external method. Raises: InputError."""
    checkout, *rest = text.split(",")
    options: dict[str, Any] = {"checkout": checkout, "project": name}
    for part in rest:
        key, equals, value = part.partition("=")
        if not equals:
            raise InputError(f"{part!r} in {text!r} is no OPTION=VALUE", hint="or write a FILE.yaml")
        options[key] = yaml.safe_load(value)
    return options


def _of_file(name: str, path: Path) -> Spec:
    content = read_yaml(path)
    if not isinstance(content, dict) or content.get("kind") not in list(KINDS):
        raise InputError("does not say which kind of method", where=path, hint=f"kind: {' | '.join(KINDS)}")
    options = {key: value for key, value in content.items() if key != "kind"}
    trained_on = str(options.pop("trained_on", ""))
    if content["kind"] in ("command", "external"):
        options["folder"] = path.parent  # its paths count from there
    if content["kind"] == "external":
        options.setdefault("project", name)
    return Spec(name, content["kind"], options, trained_on)
