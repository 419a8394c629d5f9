"""Ids, which anybody may have written, as names of files: the one place where that is done."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from handi.core.errors import InputError

MAX_BYTES = 120  # of a name in UTF-8: a file system holds 255, and something is put behind it
_RESERVED = {"con", "prn", "aux", "nul", "conin$", "conout$",
             *(f"{port}{n}" for port in ("com", "lpt") for n in "0123456789¹²³")}  # on Windows  # fmt: skip
_SEPARATORS = re.compile(r'[<>:"/\\|?*]')


def safe_name(id: str) -> str:
    """An id as a file's or folder's name on any system: one part, not hidden, no device, ≤ 120 bytes.

    An id that is such a name stays as it is; another gets a hash, by which different ids stay apart. Ids that
    differ in case alone are told apart by `distinct_names`.
    """
    name = unicodedata.normalize("NFC", id)
    name = "".join("_" if unicodedata.category(letter)[0] == "C" or letter in "\u2028\u2029" else letter
                   for letter in _SEPARATORS.sub("_", name))  # fmt: skip
    name = re.sub(r"^[. ~-]", "_", name)
    name = re.sub(r"[. ]$", "_", name)
    if name.partition(".")[0].rstrip().lower() in _RESERVED:
        name = f"_{name}"
    name = name.encode()[:MAX_BYTES].decode(errors="ignore") or "_"
    return name if name == id else hashed_name(name, id)


def distinct_names(ids: Iterable[str]) -> dict[str, str]:
    """Id → `safe_name`; ids whose names a file system may take for one another get their hashes too."""
    names = {id: safe_name(id) for id in ids}
    counts = Counter(alike(name) for name in names.values())
    return {id: name if counts[alike(name)] == 1 else hashed_name(name, id) for id, name in names.items()}


def is_name_of(name: str, id: str) -> bool:
    """Whether a file's name is one that `distinct_names` gives to an id."""
    return name in (safe_name(id), hashed_name(safe_name(id), id))


def alike(name: str) -> str:
    """Equal for names that a file system may take for one another: of other case, or other Unicode form."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def check_name(id: str, what: str = "id") -> str:
    """The id, where it is a safe name. Raises: InputError with one that is."""
    if (name := safe_name(id)) != id:
        shown = id if len(id) <= 80 else f"{id[:77]}…"
        raise InputError(f"the {what} {shown!a} cannot be the name of a folder", hint=f"write {name!r}, say")
    return id


def place_in(folder: Path, name: str) -> Path:
    """The path of a safe name in a folder. Raises: InputError for a link there that leads out of it."""
    path = folder / name
    if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
        raise InputError("is a link that leads out of the folder", where=path, hint="remove the link")
    return path


def hashed_name(name: str, id: str) -> str:
    """A name with a hash of the id that it stands for, within MAX_BYTES."""
    digest = hashlib.sha256(id.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{name.encode()[: MAX_BYTES - 9].decode(errors='ignore')}-{digest}"
