"""Tensors from a pickled file (.pth, .pt, .bin) without running anything that it asks for.

A pickle is a program: it may name any function and have it called. torch's own restricted unpickler
(`weights_only`) makes tensors and nothing else. Trainers' files also name classes of the trainer (EgoVLP's
`config` is one): those are never imported, an empty object stands for them. A file that names anything else
of Python's library or of torch is refused.
"""

from __future__ import annotations

import pickletools
import sys
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from handi.core.errors import ModelError

# Of Python's library: records without a function, which trainers leave in their configurations.
_RECORDS = {"argparse.Namespace", "datetime.datetime", "datetime.timedelta", "uuid.UUID"} | {
    f"pathlib{place}.{kind}"
    for place in ("", "._local")  # Python 3.13
    for kind in ("Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath")
}
_TORCH_KNOWS = {"collections.OrderedDict", "collections.Counter", "_codecs.encode"} | {
    f"builtins.{kind}" for kind in ("set", "bytearray", "complex")
}
_NESTS = ("state_dict", "model_state_dict", "model")  # where files keep the weights, else they are the file
_LEGACY_PICKLES = 5  # of torch.save before 1.6: magic number, protocol, system, the content, storage keys


class _Nothing:
    """Stands for an object of a class that is not imported; swallows whatever it is given."""

    def __new__(cls, *args: Any, **kwargs: Any) -> _Nothing:
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...


def read_pickled(path: str | Path) -> dict[str, Tensor]:
    """The weights in a file of torch.save, by name, on the CPU; other content is left out.

    A `state_dict` in the file is unwrapped, and `module.` of a parallel training cut off the names.
    Raises: ModelError in one line for a file that is cut, not of torch, or asks for more than tensors.
    """
    path = Path(path)
    try:
        foreign = _foreign_names(path)
        with torch.serialization.safe_globals([(_Nothing, name) for name in sorted(foreign)]):
            # mmap: an optimizer's state beside the weights costs no memory
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except ModelError:
        raise
    except FileNotFoundError as error:
        raise ModelError("no such file", where=path) from error
    except Exception as error:  # torch and pickle raise a dozen unrelated kinds for a damaged file
        # torch says at length what else one could do, and then what is wrong
        message = str(error).rpartition("WeightsUnpickler error: ")[2]
        reason = " ".join(message.split(". ")[0].split())[:160] or type(error).__name__
        raise ModelError(
            f"cannot be read as weights ({reason})", where=path, hint="copy it again: it may be cut short"
        ) from error
    return _weights_in(content, path)


def is_program(path: Path) -> bool:
    """Whether the file is a TorchScript archive: code with weights."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _foreign_names(path: Path) -> set[str]:
    """Classes that the file names and that nobody needs. Raises: ModelError for names that are refused."""
    if is_program(path):
        raise ModelError(
            "is a TorchScript program, not a file of weights",
            where=path,
            hint="see `handi doctor` for the right file",
        )
    foreign = set()
    for name in _names_in(path):
        root = name.partition(".")[0]
        if root == "torch" or name in _TORCH_KNOWS:
            continue  # torch's unpickler judges these
        if root in sys.stdlib_module_names and name not in _RECORDS:
            raise ModelError(
                f"asks for {name}: it would run a program, and is refused",
                where=path,
                hint="do not use this file; take it from where it was published",
            )
        foreign.add(name)
    return foreign


def _names_in(path: Path) -> set[str]:
    """Everything that the pickles of a file import, read without running them."""
    names: set[str] = set()
    for pickle in _pickles(path):
        for code, argument, _ in pickletools.genops(pickle):
            if code.name in ("GLOBAL", "INST"):
                module, _, name = str(argument).partition(" ")
                module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
                names.add(f"{module}.{name}")
            elif code.name in ("STACK_GLOBAL", "EXT1", "EXT2", "EXT4"):
                raise ModelError(
                    "names what it imports in a way that torch.save does not",
                    where=path,
                    hint="do not use this file",
                )
    return names


def _pickles(path: Path) -> Iterator[BinaryIO | bytes]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith(".pkl"):
                    yield archive.read(name)
        return
    with path.open("rb") as file:
        for _ in range(_LEGACY_PICKLES):
            yield file


def _weights_in(content: Any, path: Path) -> dict[str, Tensor]:
    for nest in _NESTS:
        if isinstance(content, dict) and isinstance(content.get(nest), dict):
            content = content[nest]
            break
    tensors = {k: v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, dict) else {}
    if not tensors or not all(isinstance(key, str) for key in tensors):
        raise ModelError("holds no weights by name", where=path, hint="see `handi doctor` for the right file")
    if all(key.startswith("module.") for key in tensors):
        tensors = {key.removeprefix("module."): value for key, value in tensors.items()}
    return tensors
