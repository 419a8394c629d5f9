"""`handi doctor`: what this machine has, what is missing, and the command that mends it."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LIBRARIES = (
    "torch",
    "diffusers",
    "transformers",
    "accelerate",
    "safetensors",
    "numpy",
    "opencv-python-headless",
    "av",
    "pillow",
)
# Next to a CPU build of torch, the registry's build of these cannot load, and then transformers cannot.
BREAKERS = ("torchvision", "torchaudio")


@dataclass(frozen=True)
class Finding:
    """One line of the report; `mend` is what to run where `ok` is False."""

    topic: str
    text: str
    ok: bool = True
    mend: str = ""
    optional: bool = False  # absent, and nothing is wrong


def examine() -> Iterator[Finding]:
    """Everything worth knowing, one finding at a time."""
    yield Finding("system", f"Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    yield from _libraries()
    yield from _devices()
    yield _video_encoder()
    yield from _models()
    yield from _hand_models()
    yield from _metric_weights()


def _libraries() -> Iterator[Finding]:
    yield Finding("handi", version("handi"))
    for name in LIBRARIES:
        try:
            yield Finding(name, version(name))
        except PackageNotFoundError:
            yield Finding(name, "missing", ok=False, mend=f"pip install {name}")
    for name in BREAKERS:
        if importlib.util.find_spec(name) is None:
            continue
        try:
            importlib.import_module(name)
            yield Finding(name, f"{version(name)}, loads (handi does not use it)")
        except Exception as error:  # a binary that does not fit raises anything
            yield Finding(
                name,
                f"cannot be loaded, and breaks transformers ({type(error).__name__})",
                ok=False,
                mend=f"pip uninstall {name}",
            )


def _devices() -> Iterator[Finding]:
    import torch

    threads = torch.get_num_threads()
    yield Finding("cpu", f"{os.cpu_count()} cores, {threads} threads{_memory()}")
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(index)
            name = torch.cuda.get_device_name(index)
            yield Finding(
                f"cuda:{index}", f"{name}, {total / 2**30:.0f} GiB, {free / 2**30:.0f} GiB free (bfloat16)"
            )
    elif torch.backends.mps.is_available():
        yield Finding("mps", "Apple GPU")
    else:
        build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU"
        yield Finding("gpu", f"none that torch can use (this torch is a {build} build)")


def _memory() -> str:
    try:
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError):  # not a POSIX system
        return ""
    return f", {pages * size / 2**30:.0f} GiB"


def _video_encoder() -> Finding:
    import av

    if "libx264" in av.codecs_available:
        return Finding("video", f"H.264 by libx264, PyAV {av.__version__}")
    return Finding("video", "PyAV has no libx264", ok=False, mend="pip install --force-reinstall av")


def _models() -> Iterator[Finding]:
    from huggingface_hub import constants, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    from handi.assets import MINI
    from handi.models.folder import CARD, COMPONENTS

    if (MINI / CARD).exists():
        yield Finding("model", f'"mini": {sum(p.stat().st_size for p in MINI.rglob("*")) / 2**20:.0f} MiB')
    else:
        yield Finding("model", f"mini is not in {MINI}", ok=False, mend="install handi again")
    yield Finding("model", '"random": built in, untrained; its pixels mean nothing')
    cache = Path(constants.HF_HUB_CACHE)
    home = next(p for p in (cache, *cache.parents) if p.exists())
    yield Finding("hub cache", f"{cache}, {shutil.disk_usage(home).free / 2**30:.0f} GiB free on its disk")
    try:
        repositories = scan_cache_dir(cache).repos
    except CacheNotFound:
        repositories = frozenset()
    for repository in sorted(repositories, key=lambda r: r.repo_id):
        for revision in repository.revisions:
            folders = {p.name for p in revision.snapshot_path.iterdir() if p.is_dir()}
            if "unet" not in folders:
                continue
            if missing := [c for c in COMPONENTS if c not in folders]:
                yield Finding(
                    "model",
                    f"{repository.repo_id}: incomplete, no {', '.join(missing)}",
                    ok=False,
                    mend=f"hf download {repository.repo_id}",
                )
            else:
                stages = "both stages" if "area_unet" in folders else "stage 2"
                yield Finding("model", f"{repository.repo_id}, {stages}")


def _hand_models() -> Iterator[Finding]:
    """MediaPipe's two networks, and what runs them on a CPU."""
    from handi.hands.networks import litert_installed
    from handi.hands.weights import VERSION, survey

    places = survey()
    for place in places:
        if place.state == "refused":
            yield Finding("hand models", place.detail, ok=False, mend=f"rm '{place.path}'")
    found = next((place for place in places if place.state == "found"), None)
    if found is not None:
        yield Finding("hand models", f"{VERSION}, SHA-256 as it should be, in {found.path}")
    elif places[0].state == "missing":
        how = f"fetched with pip at first use (36 MB); without a network: {places[0].detail}"
        yield Finding("hand models", f"not in {places[0].path} yet; {how}")
    if litert_installed():
        yield Finding("hand backend", f"ai-edge-litert {version('ai-edge-litert')} on a CPU, else torch")
    else:
        yield Finding("hand backend", "torch; on a CPU `pip install handi[litert]` is faster")


def _metric_weights() -> Iterator[Finding]:
    """Each weight file of `handi evaluate`. A missing one breaks nothing: its metrics say "skipped"."""
    from handi.evaluation.metrics.weights import survey

    for place in survey():
        topic = f"weights: {place.weights.name}"
        if place.state == "refused":
            yield Finding(topic, place.text, ok=False, mend=place.mend)
        elif place.state == "missing":
            yield Finding(topic, f"{place.text}; {place.mend}", optional=True)
        else:
            yield Finding(topic, place.text)


def doctor() -> int:
    """Show versions, devices, memory and models; name what is missing and the command that mends it."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column()
    table.add_column(overflow="fold")  # a path that is cut cannot be used
    broken = 0
    for finding in examine():
        mark = "[red]mend[/]" if not finding.ok else "[dim]–[/]" if finding.optional else "[green]ok[/]"
        table.add_row(mark, finding.topic, finding.text)
        if not finding.ok:
            broken += 1
            table.add_row("", "", f"[bold]run: {finding.mend}[/]")
    Console().print(table)
    return 1 if broken else 0
