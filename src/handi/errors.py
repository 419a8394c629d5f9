"""What can go wrong, in the user's words: where, what, and the mend."""

from __future__ import annotations

from pathlib import Path


class HandiError(Exception):
    """A failure that the user can mend. Its text is one line: `where: what; mend`.

    The command line prints it without a traceback and exits with 1.
    """

    def __init__(self, what: str, *, where: str | Path | None = None, mend: str | None = None) -> None:
        self.what, self.where, self.mend = what, where, mend
        text = f"{where}: {what}" if where is not None else what
        super().__init__(" ".join((f"{text}; {mend}" if mend else text).split()))


class InputError(HandiError, ValueError):
    """A picture, video, mask, prompt or argument that cannot be used."""


class ModelError(HandiError):
    """A model folder that is missing, incomplete, damaged or of another kind."""


class OutputError(HandiError):
    """A result that cannot be written."""

    everywhere = False  # nor can any other: the disk is full, or read-only


def reason(error: Exception) -> str:
    """An exception in one line: a HandiError's own text, or the kind of an unexpected one too."""
    if isinstance(error, HandiError):
        return str(error)
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]


def item_failure(error: Exception, item: str) -> HandiError:
    """The failure of one of many items, of whatever kind, so that the others go on.

    Raises: the error itself where no other item can do better.
    """
    if isinstance(error, OutputError) and error.everywhere:
        raise error
    return InputError(reason(error), where=item)
