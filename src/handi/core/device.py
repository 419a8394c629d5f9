"""Which device and precision to compute in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from handi.core.errors import InputError


def choose_device(name: str) -> str:
    """ "auto" → "cuda" or "mps" where there is one, else "cpu". Raises: InputError for one that is not."""
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    kind = name.split(":")[0]
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    number = name.removeprefix(kind).removeprefix(":")
    count = torch.cuda.device_count() if kind == "cuda" else 1
    known = not number or (number.isdecimal() and int(number) < count)
    if not there.get(kind) or not known:
        usable = ", ".join(k for k, v in there.items() if v)
        raise InputError(f"there is no device {name!r} here", hint=f"use one of: {usable}")
    return name


def gpu_count() -> int:
    """How many GPUs this process may use."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def worker_device(name: str, number: int) -> str:
    """The device of worker `number`; "auto" deals the GPUs out in turn. Raises: as `choose_device`."""
    if name == "auto" and (count := gpu_count()):
        return f"cuda:{number % count}"
    return choose_device(name)


def choose_dtype(name: str, device: str) -> Any:
    """ "auto" → bfloat16 on a GPU, float32 on a CPU."""
    import torch

    names = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
    return names["bfloat16" if device.startswith("cuda") else "float32"] if name == "auto" else names[name]


@contextmanager
def one_thread() -> Iterator[None]:
    """Networks and OpenCV on one CPU thread: sums come out the same anywhere, and workers do not crowd."""
    import cv2
    import torch

    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])
