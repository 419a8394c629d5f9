"""Files from the network or a mirror: resumed where they were cut, taken only when their hash is right."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from handi.core.errors import ModelError
from handi.core.files import replacing

PART = ".part"  # behind the name of a file that is not whole yet


def fetch_file(address: str, target: Path, check: Callable[[Path], None], *, hint: str) -> None:
    """Download `address`, or copy it where it is a local path, to `target`; a cut download is resumed.

    check(path) raises ModelError for content that is not what it should be; then nothing is kept. Raises:
    ModelError with the hint where the file cannot be had; what has come so far stays for the next try.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + PART)
    try:
        if "://" in address:
            _download(address, part)
        else:
            with replacing(part) as copy:
                shutil.copyfile(address, copy)
    except Exception as error:  # the client raises httpx' errors, the operating system's and its own
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ModelError(f"cannot be fetched ({reason})", where=address, hint=hint) from error
    try:
        check(part)
    except ModelError:
        part.unlink()
        raise
    part.replace(target)


def _download(address: str, part: Path) -> None:
    """The rest of a file, appended to what is there. Raises: whatever the client raises."""
    from huggingface_hub.file_download import http_get

    with part.open("ab") as file:
        http_get(address, file, resume_size=file.tell(), displayed_filename=part.name.removesuffix(PART))
