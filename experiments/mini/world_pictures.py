"""The statistics by which `handi generate` knows that a photo is not of mini's world, and how well they tell.

    handi world --first-frames --clips 1152 --seed 400000 --out data/world/first_frames
    handi world --first-frames --clips 250 --seed 800000 --out data/world/first_frames_val
    python -m experiments.mini.world_pictures data/world/first_frames --world data/world/first_frames_val \
        --other FOLDER_OF_PHOTOS

writes src/handi/assets/world_pictures.npz from the first folder, and prints the distances of pictures of the
world and of others. LOG.md has what it printed.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import numpy as np

import handi.assets
from handi.core.images import read_image
from handi.generation.mini_check import ASSET, LIMIT, description, distance, statistics


def first_frames(folder: Path) -> list[Path]:
    """The pictures of a folder that `handi world --first-frames` wrote."""
    return [path for path in sorted(folder.glob("*.png")) if re.fullmatch(r"\d+\.png", path.name)]


def main() -> None:
    """Make the statistics, then measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("frames", type=Path)
    parser.add_argument("--world", type=Path)
    parser.add_argument("--other", type=Path)
    parser.add_argument("--out", type=Path, default=Path(handi.assets.__file__).parent / ASSET)
    options = parser.parse_args()
    own = first_frames(options.frames)
    found = statistics(np.stack([description(read_image(path)) for path in own]))
    with options.out.open("wb") as file:
        np.savez_compressed(file, **{name: values.astype(np.float32) for name, values in found.items()})
    print(f"{options.out}: from {len(own)} first frames")
    for name, folder in (("world", options.world), ("other", options.other)):
        if folder is None:
            continue
        paths = first_frames(folder) if name == "world" else sorted(folder.glob("*.png"))
        far = np.array([distance(read_image(path)) for path in paths])
        low, middle, high = np.min(far), np.median(far), np.max(far)
        print(f"{name}: {len(far)} pictures, {low:.2f} to {high:.2f}, median {middle:.2f}; "
              f"{(far > LIMIT).sum()} above {LIMIT}")  # fmt: skip


if __name__ == "__main__":
    main()
