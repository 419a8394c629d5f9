"""`handi doctor`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING

from handi.commands.options import Switch, print_json

if TYPE_CHECKING:
    from handi.core.machine import Finding


def doctor(json: Switch = False) -> int:
    """Show versions, devices, memory and models; name what is missing and the command that fixes it.

    Args:
        json: Print a list of findings, {topic, text, ok, hint, optional}, instead of a table.
    """
    if json:
        findings = list(examine())
        print_json([asdict(finding) for finding in findings])
        return 0 if all(finding.ok for finding in findings) else 1
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column()
    table.add_column(overflow="fold")  # a path that is cut cannot be used
    broken = 0
    for finding in examine():
        mark = "[red]fix[/]" if not finding.ok else "[dim]–[/]" if finding.optional else "[green]ok[/]"
        table.add_row(mark, finding.topic, finding.text)
        if not finding.ok:
            broken += 1
            table.add_row("", "", f"[bold]run: {finding.hint}[/]")
    Console().print(table)
    return 1 if broken else 0


def examine() -> Iterator[Finding]:
    """Everything worth knowing, one finding at a time."""
    from handi.core.machine import devices, libraries, video_encoder

    yield from libraries()  # first: the others import what may be broken
    yield from devices()
    yield video_encoder()
    from handi.models.inventory import models_found

    yield from models_found()
    yield from _hand_models()
    yield from _metric_weights()


def _hand_models() -> Iterator[Finding]:
    """MediaPipe's two networks, and what runs them on a CPU."""
    from handi.core.errors import ModelError
    from handi.core.machine import Finding
    from handi.hands.networks import litert_installed
    from handi.hands.weights import VERSION, load_hand_weights

    try:
        source = load_hand_weights().source
        yield Finding("hand models", f"{VERSION}, SHA-256 as it should be, in {source}")
    except ModelError as error:
        yield Finding("hand models", f"{error.where}: {error.what}", ok=False, hint=error.hint or "")
    if litert_installed():
        yield Finding("hand backend", f"ai-edge-litert {version('ai-edge-litert')} on a CPU, else torch")
    else:
        yield Finding("hand backend", "torch; on a CPU `pip install handi[litert]` is faster")


def _metric_weights() -> Iterator[Finding]:
    """Each weight file of `handi evaluate`. A missing one breaks nothing: its metrics say "skipped"."""
    from handi.core.machine import Finding
    from handi.evaluation.metrics.weights import survey

    for place in survey():
        topic = f"weights: {place.weights.name}"
        if place.state == "refused":
            yield Finding(topic, place.text, ok=False, hint=place.hint)
        elif place.state == "missing":
            yield Finding(topic, f"{place.text}; {place.hint}", optional=True)
        else:
            yield Finding(topic, place.text)
