"""One line per rendered clip with a hash of all that it holds: two versions of the renderer print the same
lines exactly where they make the same pixels, ids, areas, joints and words.

    python -m experiments.world.digests > new.txt
    PYTHONPATH=OLD/src python experiments/world/digests.py > old.txt    # OLD: a checkout of another version
    diff old.txt new.txt

It renders `--seeds` seeds with up to three siblings each, at every one of `--sizes`, and for every fifth seed
also the first frame with its requests, a clip with a camera that sways and one with motion blur.
"""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import asdict, is_dataclass
from typing import Any

import numpy as np

from handi.world import render_clip, siblings
from handi.world.first_frames import render_first_frame


def digest(value: Any) -> str:
    """SHA-256 of all that a value holds: dataclasses, mappings, sequences, arrays with shapes and types."""
    hasher = hashlib.sha256()
    _feed(hasher, asdict(value) if is_dataclass(value) and not isinstance(value, type) else value)
    return hasher.hexdigest()[:16]


def _feed(hasher: Any, value: Any) -> None:
    if isinstance(value, dict):
        for key in sorted(value):
            hasher.update(str(key).encode())
            _feed(hasher, value[key])
    elif isinstance(value, list | tuple):
        hasher.update(str(len(value)).encode())
        for item in value:
            _feed(hasher, item)
    elif isinstance(value, np.ndarray):
        hasher.update(f"{value.dtype}{value.shape}".encode() + value.tobytes())
    else:
        hasher.update(repr(value).encode())


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=910_000, help="the first seed")
    parser.add_argument("--sizes", type=int, nargs="*", default=[64, 128])
    arguments = parser.parse_args()
    for size in arguments.sizes:
        for n, seed in enumerate(range(arguments.first, arguments.first + arguments.seeds)):
            made: dict[str, Any] = {
                f"sibling {k}": c for k, c in enumerate(siblings(seed, size=size, count=3))
            }
            if n % 5 == 0:
                made["first frame"] = render_first_frame(seed, size=size)
                made["handheld"] = render_clip(seed, size=size, handheld=True)
                made["motion blur"] = render_clip(seed, size=size, motion_blur=True, frames=5)
            for name, clip in made.items():
                print(size, seed, name, digest(clip), flush=True)


if __name__ == "__main__":
    main()
