"""`handi world`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from handi.commands.options import CORES, USUAL, Switch, Work, optional, say, say_summary, usage


def world(
    out: Annotated[Path | None, optional("DIR")] = None,
    prepare: Annotated[Path | None, optional("DIR")] = None,
    clips: int = 100,
    seed: int = 0,
    size: int = 128,
    action: Annotated[str | None, optional("NAME")] = None,
    motion_blur: Switch = False,
    handheld: Switch = False,
    pictures: Literal["png", "mp4"] = "png",
    siblings: int = 1,
    first_frames: Switch = False,
    area: Literal["moved", "hull"] = "moved",
    frames: int = 16,
    fps: float = 8.0,
    work: Work = USUAL,
) -> int:
    """Render clips of the synthetic hand-action world, with exact ground truth.

    With --prepare it writes shards for `handi train`, as `handi prepare` does. With --out it writes four
    files per clip to look at and to measure with: the video, id map, motion areas, and a JSON with text,
    joints, states and camera (docs/world.md). Stopped, it resumes when it is run again.

    A thousand clips to train on, with up to three actions from every first frame, so that only the text tells
    them apart:
        handi world --clips 1000 --siblings 3 --prepare data/world/train

    First frames alone, each with all that can be asked of it, for `handi train mini_poses`:
        handi world --clips 8000 --first-frames --prepare data/world/first

    A hundred test clips to measure with:
        handi world --clips 100 --seed 900000 --workers 2 --out data/world/test

    Args:
        out: Folder for the clips' files.
        prepare: Folder for shards to train on.
        clips: How many, one per seed.
        seed: The first seed. 0 to 799999 are for training, 800000 to 899999 for validation, 900000 and up
            for test.
        size: Side of the pictures in pixels.
        action: Only this one, e.g. "cut"; seeds whose scene does not allow it are skipped. First frames of
            the other seeds come with all their requests, of other actions too.
        motion_blur: Blur what moves, as an open shutter does.
        handheld: Let the camera sway.
        pictures: png, a lossless film strip, or mp4: smaller, and not quite the rendered pictures.
        siblings: Clips per seed at most, each of another action; --clips then counts the seeds.
        first_frames: First frames instead of clips, with what the words of every request mean in each.
        frames: Frames per clip; they show the whole action.
        fps: Frames per second: an action takes (frames - 1) / fps seconds.
        area: What the clips' motion area is in training and in all measuring: every pixel that changes, or
            the hulls of the hands as in the paper. Both are stored; world.json says which one counts.
    """
    from handi.world.rendering import WorldSettings, render_folder, seeds_of

    if (out is None) == (prepare is None):
        usage("world", "give --out or --prepare")
    settings = WorldSettings(
        size, action, motion_blur, handheld, pictures, siblings, first_frames, area, frames, fps
    )
    executor = work.open("world", CORES)
    if prepare is not None:
        from handi.data.prepare import prepare_world

        seeds = seeds_of(clips, seed, settings)
        return say_summary(prepare_world(seeds, settings, prepare, executor), prepare)
    assert out is not None
    failures = render_folder(out, clips=clips, seed=seed, settings=settings, executor=executor)
    for failure in failures:
        say(f"error: {failure}")
    what = "first frames" if first_frames else "clips" if siblings == 1 else "seeds"
    say(f"{clips - len(failures)} of {clips} {what} are in {out}")
    return 1 if failures else 0
