"""The synthetic hand-action world: seeded clips of hands at work, with exact ground truth.

    from handi.world import render_clip
    clip = render_clip(7)          # clip.frames, clip.text, clip.joints2d, clip.area_hull, ...

See docs/world.md for what is in it, and `handi world --help` for writing many clips to files.
"""

from handi.world import judges
from handi.world.actions import ACTIONS
from handi.world.clip import WorldClip, find_seed, possible_actions, render_clip, siblings
from handi.world.files import read_clip, write_clip
from handi.world.seeds import TEST, TRAIN, VALIDATION, require_training, split_of

__all__ = [
    "ACTIONS",
    "TEST",
    "TRAIN",
    "VALIDATION",
    "WorldClip",
    "find_seed",
    "judges",
    "possible_actions",
    "read_clip",
    "render_clip",
    "require_training",
    "siblings",
    "split_of",
    "write_clip",
]
