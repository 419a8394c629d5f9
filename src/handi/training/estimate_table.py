"""An estimate as a table for people."""

from __future__ import annotations

from rich.table import Table

from handi.core.progress import duration
from handi.training.estimate import Estimate

GIB = 2**30


def table(found: Estimate) -> Table:
    """One row per figure, memory from what stays to what comes and goes."""
    out = Table(
        box=None, show_header=False, pad_edge=False, title=f"{found.recipe or found.stage}, one process"
    )
    out.add_column()
    out.add_column(justify="right")
    out.add_column()
    shape = f"{found.clips} × {found.frames} frames {found.height}×{found.width}"
    out.add_row(
        "a forward pass",
        shape,
        f"precision {found.precision}{', checkpointed' if found.checkpointing else ''}",
    )
    out.add_row("parameters", f"{found.parameters / 1e6:,.1f} M", f"{found.trained / 1e6:,.1f} M are trained")
    out.add_row(
        "arithmetic of a step", f"{found.flops_per_step / 1e12:,.2f} TFLOP", f"{found.accumulate} passes"
    )
    for name, size in (
        ("weights", found.weights_bytes),
        ("gradients", found.gradients_bytes),
        ("optimiser", found.optimizer_bytes),
        ("averaged weights", found.average_bytes),
        ("beside them at the peak", found.work_bytes),
    ):
        out.add_row(
            name, gib(size), "checkpointed" if found.checkpointing and size == found.work_bytes else ""
        )
    out.add_row("[bold]peak[/]", f"[bold]{gib(found.peak_bytes)}[/]", found.device)
    if found.seconds_per_step is not None and found.hours is not None:
        out.add_row("a step", f"{found.seconds_per_step:.3g} s", "")
        out.add_row(f"{found.steps:,} steps", duration(found.hours * 3600), "without validation and samples")
    else:
        out.add_row("a step", "not timed", "it was not run")
    return out


def gib(size: int) -> str:
    """1.25 GiB, or in MiB where that reads better."""
    return f"{size / GIB:.2f} GiB" if size >= GIB / 10 else f"{size / 2**20:.1f} MiB"
