"""Tests that fork run in a process of their own: a fork of one that has started threads of torch may hang."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable

import pytest

FLAG = "HANDI_TEST_ALONE"


def alone(test: Callable[..., None]) -> Callable[..., None]:
    """The test, run by a pytest of its own."""

    @pytest.mark.filterwarnings("ignore:This process")  # of forking beside threads: the child starts none
    @functools.wraps(test)
    def wrapper(*given: object, **fixtures: object) -> None:
        if os.environ.get(FLAG):
            test(*given, **fixtures)
            return
        name = os.environ["PYTEST_CURRENT_TEST"].rpartition(" ")[0]
        command = [sys.executable, "-m", "pytest", "-n0", "-q", "-p", "no:cacheprovider", name]
        done = subprocess.run(command, env=os.environ | {FLAG: "1"}, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    return wrapper
