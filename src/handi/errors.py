"""What can go wrong, in the user's words: where, what, and the mend."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class HandiError(Exception):
    """A failure that the user can mend. Its text is one line: `where: what; mend`.

    The command line prints it without a traceback and exits with 1.
    """

    def __init__(self, what: str, *, where: str | Path | None = None, mend: str | None = None) -> None:
        self.what, self.where, self.mend = what, where, mend
        text = f"{where}: {what}" if where is not None else what
        super().__init__(" ".join((f"{text}; {mend}" if mend else text).split()))


class InputError(HandiError):
    """A picture, video, mask, prompt or argument that cannot be used."""


class ModelError(HandiError):
    """A model folder that is missing, incomplete, damaged or of another kind."""


class OutputError(HandiError):
    """A result that cannot be written."""


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turn the operating system's failures while writing `path` into an OutputError.

    Raises: OutputError (disk full, no permission, a file where a folder should be, ...).
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise OutputError(
            f"cannot be written ({reason})", where=path, mend="free some space or choose another --out"
        ) from error
