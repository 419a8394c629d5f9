"""What the parts of the page share: how their events run, and how they say what failed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from handi.app.session import Report, Session
from handi.core.errors import expected

# One at a time, whichever button it was: the others wait their turn.
MODEL: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "model", "api_visibility": "private"}
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

Updates = dict[Any, Any]  # component → what it becomes


def begin(session: Session) -> str:
    """Forget an earlier stop, and give what to say until the model's turn comes."""
    session.begin()
    return "Waiting for the model …"


def report(progress: Callable[..., Any]) -> Report:
    """A session's reports as Gradio's bar."""

    def tell(what: str, done: int, total: int) -> None:
        progress((done, total), desc=what, unit="steps")

    return tell


def failed(status: gr.Markdown, error: Exception) -> Updates:
    """Say what is wrong, for as long as nothing else happens. Raises: what is no fault of the user's."""
    known = expected(error)
    if known is None:
        raise error
    gr.Warning(str(known), title="That did not work")
    return {status: f"**{known}**"}
