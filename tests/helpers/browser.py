"""A headless Chromium for the tests of pages: the system's, or playwright's own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

NAMES = ("chromium", "chromium-headless-shell", "chromium-browser", "google-chrome")


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser of playwright's; the test is skipped, with the reason, where none starts."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with playwright.sync_playwright() as manager:
        found = next(filter(None, map(shutil.which, NAMES)), None)
        try:
            browser = manager.chromium.launch(executable_path=found, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(
                f"needs a Chromium that starts: apt-get install chromium ({str(error).splitlines()[0]})"
            )
        yield browser
        browser.close()
