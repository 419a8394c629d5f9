"""Whether a command line is one that handi understands, without running it."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import pytest

from handi.commands import app as cli


def understood(words: Sequence[str], monkeypatch: pytest.MonkeyPatch, capsys: Any) -> dict[str, Any]:
    """Parse `handi …` as the program does, and give what its command would have been called with."""
    called = []

    def stand_in(command):
        def run(**given):
            called.append(given)
            return 0

        run.__signature__ = inspect.signature(command, eval_str=True)
        run.__doc__ = command.__doc__
        run.__annotations__ = {n: p.annotation for n, p in run.__signature__.parameters.items()} | {
            "return": int
        }
        return run

    if words[1] in cli.COMMANDS:
        monkeypatch.setitem(cli.COMMANDS, words[1], stand_in(cli.COMMANDS[words[1]]))
    monkeypatch.setattr("sys.argv", list(words))
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code, capsys.readouterr().err
    return called[0] if called else {}
