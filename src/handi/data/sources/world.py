"""Clips of the synthetic world with their ground truth: read from a folder, or rendered for a shard.

A clip's `truth` is the JSON file that describes it, or, of one that is rendered, its seed or itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from handi.core.errors import InputError
from handi.core.reading import read_json
from handi.core.types import BinaryMask, Frames
from handi.data.known_hands import READABLE
from handi.data.sources.common import Clip, SourceClips, check_split
from handi.data.stages import PrepareSettings
from handi.world.clip import WorldClip, meant_ids
from handi.world.files import Area, kind_of_area, name_of, read_clip, read_record, strays
from handi.world.first_frames import FORMAT as FIRST_FRAME
from handi.world.first_frames import FirstFrame, SceneRequest, read_first_frame
from handi.world.rendering import LISTS, WorldSettings, render_seed
from handi.world.seeds import split_of
from handi.world.truth import OCCLUDED, VISIBLE


@dataclass(frozen=True)
class Truth:
    """What the world knows of a clip, beside its words."""

    frames: Frames  # F×H×W×3; of a first frame 1×H×W×3
    fps: float
    joints: np.ndarray  # F×42×2 float32, left hand first, zeros for a hand that is not there
    visible: np.ndarray  # F×2 bool: most of the hand is in the picture
    areas: dict[Area, BinaryMask]  # H×W; none of a first frame
    ids: np.ndarray  # H×W uint8: what the first frame's pixels show
    referents: np.ndarray | None  # 2×H×W bool: where the first frame shows what the words mean
    mirrors: bool = True
    requests: tuple[SceneRequest, ...] = ()  # of a first frame

    @property
    def requests_mirror(self) -> list[bool]:
        """As `mirrors`, of each request."""
        return [_mirrors(request.action) for request in self.requests]


@dataclass(frozen=True)
class Seed:
    """Clips that are rendered when their shard is made."""

    seed: int
    settings: WorldSettings


def read_world(folder: Path) -> SourceClips:
    """All clips or first frames of a world folder, each in its seed's split. Raises: InputError."""
    paths = _records(folder)
    return SourceClips([_clip(path) for path in paths], strays(folder, [path.stem for path in paths], LISTS))


def world_settings(folder: Path, truth: Literal["auto", "hull", "moved", "none"]) -> PrepareSettings:
    """How a world folder is prepared where nothing else is asked for, as its first clip is.

    truth: which exact area is taken; auto: the folder's own; none: hands are detected. Raises: InputError.
    """
    path = _records(folder)[0]
    record = read_json(path)
    if isinstance(record, dict) and record.get("format") == FIRST_FRAME:
        return settings_for(WorldSettings(size=len(read_first_frame(path).ids), first_frames=True))
    record = read_record(path)
    area = kind_of_area(folder) if truth == "auto" or truth == "none" else truth
    settings = settings_for(WorldSettings(size=record["size"], frames=record["frames"], area=area))
    return replace(settings, truth=None, camera="measure") if truth == "none" else settings


def settings_for(world: WorldSettings) -> PrepareSettings:
    """How clips of the world are prepared: lossless, with their exact hands and areas."""
    return PrepareSettings(
        size=(world.size, world.size),
        frames=1 if world.first_frames else world.frames,
        pictures="png",
        camera="ignore",
        truth=None if world.first_frames else world.area,
        first_frames=world.first_frames,
    )


def rendered_world(seeds: list[int], settings: WorldSettings) -> SourceClips:
    """The clips of these seeds, which are rendered when their shards are made."""
    return SourceClips([_planned(seed, settings) for seed in seeds])


def _planned(seed: int, settings: WorldSettings) -> Clip:
    truth = Seed(seed, settings)
    return Clip(name_of(seed), None, 0.0, None, "", split=check_split(split_of(seed)), truth=truth)


def render_clips(clip: Clip) -> list[Clip]:
    """The clips of a planned seed, rendered. Raises: InputError, and what else rendering raises."""
    assert isinstance(clip.truth, Seed)
    return [_described(name, truth) for name, truth in render_seed(clip.truth.seed, clip.truth.settings)]


def read_truth(truth: Path | WorldClip | FirstFrame) -> Truth:
    """The ground truth of a clip. Raises: InputError."""
    if isinstance(truth, Path):
        first = dict(read_json(truth)).get("format") == FIRST_FRAME
        truth = read_first_frame(truth) if first else read_clip(truth)
    if isinstance(truth, FirstFrame):
        joints = truth.requests[0].joints.astype(np.float16).astype(np.float32)  # as in its file
        seen = np.zeros((len(joints), 2), bool)
        frames = truth.frame[None]
        return Truth(frames, 1.0, joints, seen, {}, truth.ids, None, requests=truth.requests)
    return Truth(
        frames=truth.frames,
        fps=truth.fps,
        # As a JSON file holds them, so that a clip is the same whether it was written to one or not.
        joints=np.round(truth.joints2d.astype(np.float64), 6).astype(np.float32),
        visible=visible_hands(truth),
        areas={"hull": truth.area_hull, "moved": truth.area_moved},
        ids=truth.ids[0],
        referents=referents_of(truth),
        mirrors=_mirrors(truth.action),
    )


def part_of(truth: Truth, chosen: list[int]) -> Truth:
    """The truth of some of a clip's frames; its areas stay those of the whole clip."""
    return replace(
        truth, frames=truth.frames[chosen], joints=truth.joints[chosen], visible=truth.visible[chosen]
    )


def _mirrors(action: str) -> bool:
    """Whether the mirrored clip of an action shows what its mirrored words say: a stove's heat rises
    clockwise, and mirrored it would rise anticlockwise, against the other clips."""
    return "clockwise" not in action


def referents_of(clip: WorldClip) -> np.ndarray:
    """2×H×W bool: where the first frame shows the things that the action is done with, and the hands, with
    their sleeves, that do it."""
    identities = {str(thing["name"]): thing["id"] for thing in clip.objects}
    meant = meant_ids(clip.choice, clip.hands, identities)
    return np.stack([np.isin(clip.ids[0], which) for which in meant])


def visible_hands(clip: WorldClip) -> np.ndarray:
    """F×2 bool: most of the hand is in the picture."""
    inside = np.isin(clip.visible, (VISIBLE, OCCLUDED)).reshape(-1, 2, 21)
    return inside.sum(axis=2) >= READABLE


def _records(folder: Path) -> list[Path]:
    paths = sorted(folder.glob("[0-9]*.json")) if folder.is_dir() else []
    if not paths:
        raise InputError(
            "holds no clips of the synthetic world",
            where=folder,
            hint=f"render some: handi world --clips 1000 --out {folder}",
        )
    return paths


def _described(name: str, truth: WorldClip | FirstFrame) -> Clip:
    """A rendered clip, with its words."""
    said, noun = (
        (truth, truth.choice.get("object")) if isinstance(truth, WorldClip) else (truth.requests[0], None)
    )
    return Clip(
        id=name,
        video=None,
        start=0.0,
        end=None,
        action=said.text,
        description=said.enriched,
        split=check_split(split_of(truth.seed)),
        verb=said.action,
        noun=noun,
        paraphrases=said.paraphrases,
        truth=truth,
    )


def _clip(path: Path) -> Clip:
    try:
        record = read_json(path)
        if isinstance(record, dict) and record.get("format") == FIRST_FRAME:
            said, noun, pictures = record["requests"][0], None, path.with_suffix(".png")
        else:
            said = read_record(path)
            noun, pictures = said["choice"].get("object"), path.parent / said["video"]
        return Clip(
            id=path.stem,
            video=None,
            start=0.0,
            end=None,
            action=said["text"],
            description=said["enriched"],
            split=check_split(record["split"]),
            verb=said["action"],
            noun=noun,
            paraphrases=tuple(said["paraphrases"]),
            problem=None if pictures.is_file() else f"there is no {pictures.name}",
            truth=path,
        )
    except InputError as error:
        return Clip(path.stem, None, 0.0, None, "", problem=f"{path.name} {error.what}")
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        return Clip(path.stem, None, 0.0, None, "", problem=f"{path.name} is damaged ({error})")
