"""Contact sheets of the synthetic world: python -m experiments.world.sheets OUT [--size 128] [--seeds 2]

One row per clip, every action, the first seeds from `--first` on whose scenes afford it: unpicked. Writes
JPEG pages of ten rows, and one page of siblings: different actions from the identical first frame.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from experiments.world.contact import contact_sheet
from handi.world import ACTIONS, find_seed, render_clip, siblings


def save(path: Path, picture: np.ndarray) -> None:
    """Write a JPEG."""
    Image.fromarray(picture).save(path, quality=85)
    print(path)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--seeds", type=int, default=1, help="for each action")
    parser.add_argument("--first", type=int, default=920_000)
    parser.add_argument("--rows", type=int, default=10, help="on a page")
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--actions", nargs="*", default=list(ACTIONS))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    clips = []
    for action in arguments.actions:
        seed = arguments.first - 1
        for _ in range(arguments.seeds):
            seed = find_seed(action, seed + 1)
            clips.append(render_clip(seed, size=arguments.size, action=action))
    for start in range(0, len(clips), arguments.rows):
        page = clips[start : start + arguments.rows]
        labels = [f"{clip.text}   (seed {clip.seed})" for clip in page]
        sheet = contact_sheet([clip.frames for clip in page], labels=labels, columns=arguments.columns)
        save(arguments.out / f"world_actions_{start // arguments.rows + 1}.jpg", sheet)
    family = siblings(arguments.first + 4, size=arguments.size)
    sheet = contact_sheet(
        [clip.frames for clip in family], labels=[clip.text for clip in family], columns=arguments.columns
    )
    save(arguments.out / "world_siblings.jpg", sheet)


if __name__ == "__main__":
    main()
