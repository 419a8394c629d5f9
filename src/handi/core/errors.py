"""What can go wrong, in the user's words: where, what, and a hint how to fix it."""

from __future__ import annotations

import os
import re
from pathlib import Path

LONGEST = 600  # characters of each part of an error's text: a value that it quotes may have any length


class HandiError(Exception):
    """A failure that the user can fix. Its text is one line: `where: what; hint`.

    The command line prints it without a traceback and exits with 1.
    """

    def __init__(self, what: str, *, where: str | Path | None = None, hint: str | None = None) -> None:
        self.what, self.where, self.hint = what, where, hint
        parts = [_short(part) for part in (where, what, hint) if part]
        text = ": ".join(parts[:-1] if hint else parts)
        super().__init__(f"{text}; {parts[-1]}" if hint else text)


def _short(part: str | Path) -> str:
    """One line of it, of what it quotes no more than its beginning and its end."""
    line = " ".join(str(part).split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} … {line[-LONGEST // 2 :]}"


class InputError(HandiError, ValueError):
    """A picture, video, mask, prompt or argument that cannot be used."""


class ModelError(HandiError):
    """A model folder that is missing, incomplete, damaged or of another kind."""


class OutputError(HandiError):
    """A result that cannot be written."""

    everywhere = False  # nor can any other: the disk is full, or read-only


# Libraries that only some commands need, and the extra of handi that installs each.
EXTRAS = {
    "numba": "world", "scipy": "world", "skimage": "data,world", "pyarrow": "data", "h5py": "data",
    "peft": "train", "ray": "ray", "gradio": "app",
    "ai_edge_litert": "litert", "tensorboard": "track", "trackio": "track",
}  # fmt: skip


def expected(error: Exception) -> HandiError | None:
    """The failure that a user can fix, else None: a HandiError itself, a file that the system refuses, or a
    library of an extra that is not installed."""
    if isinstance(error, ModuleNotFoundError) and (name := (error.name or "").split(".")[0]) in EXTRAS:
        return InputError(f"{name} is not installed", hint=f"run pip install 'handi[{EXTRAS[name]}]'")
    if isinstance(error, OSError) and isinstance(error.filename, str | bytes | os.PathLike):
        what = f"cannot be used ({error.strerror})"
        return InputError(what, where=os.fsdecode(error.filename), hint="check the path")
    return error if isinstance(error, HandiError) else None


def reason(error: Exception) -> str:
    """An exception in one line: a HandiError's own text, or the kind of an unexpected one too."""
    if (known := expected(error)) is not None:
        return str(known)
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]


def failure(error: Exception) -> HandiError:
    """Any exception as a HandiError: itself, or one that names its kind."""
    return error if isinstance(error, HandiError) else InputError(reason(error))


def item_failure(error: Exception, item: str) -> HandiError:
    """The failure of one of many items, of whatever kind, so that the others continue.

    Raises: the error itself where no other item can do better.
    """
    if isinstance(error, OutputError) and error.everywhere:
        raise error
    return InputError(reason(error), where=item)


def without_paths(text: str) -> str:
    """A message for readers elsewhere, to whom this machine's folders mean nothing: paths as bare names."""
    parts = r"(?:[^\s/\\,;:()'\"]+[/\\])*"
    return re.sub(rf"(?<![\w.:/])(?:~|[A-Za-z]:)?[/\\]{parts}([^\s/\\,;:()'\"]+)", r"\1", text)
