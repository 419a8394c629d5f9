"""handi: hand-centric video generation. A photo, one sentence, and the hands in it do it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from handi.method.pipeline import HandiPipeline, HandiPipelineOutput

try:
    __version__ = version("handi")
except PackageNotFoundError:  # a source tree on the path, not installed
    __version__ = "0.0.0"

__all__ = ["HandiPipeline", "HandiPipelineOutput", "__version__"]


def __getattr__(name: str) -> Any:
    # torch and diffusers take seconds to import: `handi --help` must not wait for them.
    if name in ("HandiPipeline", "HandiPipelineOutput"):
        from handi.method import pipeline

        return getattr(pipeline, name)
    raise AttributeError(f"module 'handi' has no attribute {name!r}")
