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
