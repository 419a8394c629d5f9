"""What this machine has: libraries, devices, a video encoder. `handi doctor` shows it."""

from __future__ import annotations

import importlib.util
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

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
    """One line of the report; `hint` is what to run where `ok` is False."""

    topic: str
    text: str
    ok: bool = True
    hint: str = ""
    optional: bool = False  # absent, and nothing is wrong


def libraries() -> Iterator[Finding]:
    """Python, handi, and the libraries that it needs or that break it."""
    yield Finding("system", f"Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    yield Finding("handi", version("handi"))
    for name in LIBRARIES:
        try:
            yield Finding(name, version(name))
        except PackageNotFoundError:
            yield Finding(name, "missing", ok=False, hint=f"pip install {name}")
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
                hint=f"pip uninstall {name}",
            )


def devices() -> Iterator[Finding]:
    """CPU and GPUs, with their memory."""
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


def video_encoder() -> Finding:
    """Whether videos can be written."""
    import av

    if "libx264" in av.codecs_available:
        return Finding("video", f"H.264 by libx264, PyAV {av.__version__}")
    return Finding("video", "PyAV has no libx264", ok=False, hint="pip install --force-reinstall av")
