"""Many clips into a folder: in several processes, to be stopped and resumed at any time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from handi.core.errors import InputError, item_failure
from handi.core.executors import HERE, Executor
from handi.core.files import sweep, write_json, writing
from handi.core.progress import Progress
from handi.core.reading import read_json
from handi.world.clip import (
    FPS,
    FRAMES,
    WorldClip,
    check_action,
    check_length,
    check_size,
    find_seed,
    possible_actions,
    render_clip,
    siblings,
)
from handi.world.files import (
    FORMAT,
    MANIFEST,
    VERSION,
    Area,
    Pictures,
    kind_of_area,
    name_of,
    read_record,
    write_clip,
)
from handi.world.first_frames import FirstFrame, render_first_frame, write_first_frame
from handi.world.seeds import check_seed

MOST_CLIPS = 10_000_000
CAPTIONS = "clips.json"  # AnimateAnything-style list of captions and videos
LISTS = (MANIFEST, CAPTIONS)  # what is said of a folder's clips; they are none


@dataclass(frozen=True)
class WorldSettings:
    """What the clips of a folder have in common."""

    size: int = 128
    action: str | None = None
    motion_blur: bool = False
    handheld: bool = False
    pictures: Pictures = "png"
    siblings: int = 1  # clips of one seed at most: different actions from the identical first frame
    first_frames: bool = False  # no clips: what each begins with, and all that can be asked of it
    area: Area = "moved"  # which of the clips' two areas is their motion area (`files.kind_of_area`)
    frames: int = FRAMES
    fps: float = FPS  # so that an action takes (frames - 1) / fps seconds


def render_folder(
    out: Path, *, clips: int, seed: int, settings: WorldSettings, executor: Executor = HERE
) -> list[str]:
    """Render the clips of seeds `seed` … `seed + clips - 1` into `out`; returns one line for every failure.

    With `settings.action` the clips are those of the first `clips` seeds from `seed` on whose scenes afford
    it. With `settings.siblings` above 1 every seed gives as many clips as its scene affords, up to that. With
    `settings.first_frames` every seed gives its first frame with all its requests, of whatever action.
    Clips that are there already are kept. Stopped by Ctrl-C, all that is finished stays. A folder of other
    settings is refused. Raises: InputError, OutputError.
    """
    seeds = seeds_of(clips, seed, settings)
    _claim(out, settings)
    sweep(out)
    first = None if settings.siblings == 1 else 0
    pending = [number for number in seeds if not (out / f"{name_of(number, first)}.json").exists()]
    failures: list[str] = []
    with Progress("render", len(seeds), "first frames" if settings.first_frames else "clips") as bar:
        bar.advance(len(seeds) - len(pending))
        for failure in executor.run(_Renderer(out, settings), pending, lost=_lost):
            bar.advance()
            if failure:
                failures.append(failure)
    if not settings.first_frames:
        _write_captions(out)
    return failures


def seeds_of(clips: int, seed: int, settings: WorldSettings) -> list[int]:
    """The seeds that give so many clips of these settings, from `seed` on. Raises: InputError."""
    if clips < 1:
        raise InputError(f"{clips} clips", where="--clips", hint="use 1 or more")
    if clips > MOST_CLIPS:
        raise InputError(f"{clips} clips", where="--clips", hint=f"{MOST_CLIPS:,} at most go into a folder")
    check_size(settings.size)
    check_length(settings.frames, settings.fps)
    check_seed(seed)
    check_seed(seed + clips - 1)
    if settings.action is not None:
        check_action(settings.action)
    if settings.siblings < 1:
        raise InputError(f"{settings.siblings} siblings", where="--siblings", hint="use 1 or more")
    if settings.siblings > 1 and settings.action is not None:
        raise InputError("siblings are of different actions", where="--siblings", hint="leave out --action")
    plain = WorldSettings(
        settings.size, settings.action, first_frames=True, frames=settings.frames, fps=settings.fps
    )
    if settings.first_frames and settings != plain:
        raise InputError(
            "first frames have no blur, sway, video or siblings",
            where="--first-frames",
            hint="leave the other options out",
        )
    seeds = []
    for _ in range(clips):
        if settings.action is not None:
            seed = find_seed(settings.action, seed)
        seeds.append(seed)
        seed += 1
    return seeds


def _claim(out: Path, settings: WorldSettings) -> None:
    """Write the folder's manifest, or check that it has the same settings."""
    manifest = {"format": FORMAT, "version": VERSION, **asdict(settings)}
    # As folders have always been: clips say nothing of first frames, and these have no motion area.
    del manifest["area" if settings.first_frames else "first_frames"]
    path = out / MANIFEST
    if path.exists():
        found = read_json(path)
        if isinstance(found, dict):  # older folders say less
            known = {"frames": FRAMES, "fps": FPS}
            found = known | ({} if settings.first_frames else {"area": kind_of_area(out)}) | found
        if found != manifest:
            raise InputError(
                "the folder holds clips of other settings", where=path, hint="choose another --out"
            )
        return
    if out.exists() and not out.is_dir():
        raise InputError("is a file, not a folder", where=out, hint="choose another --out")
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    write_json(path, manifest, indent=2)


@dataclass(frozen=True)
class _Renderer:
    """What a worker is made of."""

    out: Path
    settings: WorldSettings

    def __call__(self, number: int) -> Callable[[int], str | None]:
        return lambda seed: _one(self.out, seed, self.settings)


def _lost(seed: int) -> str:
    return f"seed {seed}: the processes that render it die; use fewer --workers if memory is short"


def _one(out: Path, seed: int, settings: WorldSettings) -> str | None:
    try:
        made = render_seed(seed, settings)
        for name, clip in reversed(made):  # number 0 comes last: where it is, all are
            if isinstance(clip, FirstFrame):
                write_first_frame(out, clip)
            else:
                write_clip(out, clip, pictures=settings.pictures, name=name)
    except Exception as error:
        return str(item_failure(error, f"seed {seed}"))
    return None


def render_seed(seed: int, settings: WorldSettings) -> list[tuple[str, WorldClip | FirstFrame]]:
    """A seed's clips (or its first frame) with the names of their files. Raises: InputError."""
    if settings.first_frames:
        first = render_first_frame(seed, size=settings.size, frames=settings.frames)
        return [(name_of(seed), first)]
    look: Any = {
        name: getattr(settings, name) for name in ("size", "motion_blur", "handheld", "frames", "fps")
    }
    if settings.siblings == 1:
        return [(name_of(seed), render_clip(seed, action=settings.action, **look))]
    if len(possible_actions(seed)) == 1:
        return [(name_of(seed, 0), render_clip(seed, **look))]
    clips = siblings(seed, count=settings.siblings, **look)
    return [(name_of(seed, n), clip) for n, clip in enumerate(clips)]


def _write_captions(out: Path) -> None:
    """List all clips of the folder as [{"caption", "video"}], by seed."""
    rows = []
    for path in sorted(out.glob("[0-9]*.json")):
        record = read_record(path)
        rows.append({"caption": record["text"], "video": record["video"]})
    write_json(out / CAPTIONS, rows, indent=1)
