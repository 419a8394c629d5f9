"""Clips of the synthetic world (`handi world --out FOLDER`) as a clip set."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from handi.core.errors import InputError
from handi.core.reading import read_json
from handi.data.clips import TrainingClip
from handi.data.packed import Packed, PackedClip
from handi.hands.regions import tracked_region
from handi.world.clip import WorldClip, meant_ids
from handi.world.files import (
    BITS,
    HULL_BIT,
    MANIFEST,
    MOVED_BIT,
    kind_of_area,
    read_clip,
    seed_of,
    strays,
)
from handi.world.produce import LISTS
from handi.world.seeds import require_training
from handi.world.truth import OCCLUDED, VISIBLE

# Of a hand's 21 joints that must be in the picture for the detector to read it. Joints that are hidden by the
# hand itself or by a thing in it count: to ask for half of them in plain sight drops two hands of three.
READABLE = 11
# Of the packed masks, beside the bits of a clip's area map: what the words mean, in the context image.
THING_BIT, HAND_BIT = 4, 8


class WorldClips:
    """All clips of a world folder, by seed; packed into `FOLDER/.packed` on first use, grown later.

    Their motion area is what the folder's manifest says (`kind_of_area`): every pixel that changes, or the
    hands' hulls. training: refuse validation and test seeds. Raises: InputError, OutputError.
    """

    def __init__(self, folder: str | Path, *, training: bool = False) -> None:
        folder = Path(folder).expanduser()
        names = sorted(path.stem for path in folder.glob("[0-9]*.json"))
        if not names:
            raise InputError(
                "holds no clips of the synthetic world",
                where=folder,
                mend=f"render some: handi world --clips 1000 --out {folder}",
            )
        if training:
            require_training(map(seed_of, names))
        self.name, self.notes = str(folder), strays(folder, names, LISTS)
        self.kind_of_area = kind_of_area(folder)
        self._bit = BITS[self.kind_of_area]
        self._packed = Packed(
            folder, {"kind": "world", "masks": "areas, referents", "manifest": _manifest(folder)}
        )
        self._packed.fill(
            names,
            lambda name: _pack(name, read_clip(folder / f"{name}.json")),
            what="pack",
            threads=os.cpu_count() or 1,
        )
        self.frames, *size = self._packed.shape
        self.size = size[0], size[1]

    def __len__(self) -> int:
        return len(self._packed.names)

    def __getitem__(self, index: int) -> TrainingClip:
        return self._packed.clip(index, lambda masks: (masks & self._bit) > 0, _referents)

    def fingerprint(self) -> str:
        """Hash of the clips and the kind of area."""
        return f"{self.kind_of_area}-{self._packed.fingerprint()}"


def _manifest(folder: Path) -> dict[str, object]:
    """The settings that the clips were rendered with; {} where the folder was put together by hand.

    Without the kind of area, as both kinds are packed.
    """
    path = folder / MANIFEST
    if not path.exists():
        return {}
    manifest = read_json(path)
    if not isinstance(manifest, dict):
        raise InputError("is not a JSON object", where=path)
    return {name: value for name, value in manifest.items() if name != "area"}


def _pack(name: str, clip: WorldClip) -> PackedClip:
    """A world clip with its true hands: read where most of a hand is in the picture."""
    height, width = clip.frames.shape[1:3]
    visible = visible_hands(clip)
    things, hands = referents_of(clip)
    return PackedClip(
        name=name,
        frames=clip.frames,
        areas=clip.area_hull * np.uint8(HULL_BIT)
        + clip.area_moved * np.uint8(MOVED_BIT)
        + things * np.uint8(THING_BIT)
        + hands * np.uint8(HAND_BIT),
        joints=clip.joints2d,
        visible=visible,
        rois=rois_of(clip.joints2d, visible, height, width),
        texts={"short": (clip.text,), "paraphrase": clip.paraphrases, "enriched": (clip.enriched,)},
        # A stove's heat rises clockwise: mirrored, it would rise anticlockwise, against the other clips.
        mirrors="clockwise" not in clip.action,
    )


def referents_of(clip: WorldClip) -> np.ndarray:
    """2×H×W bool: where the first frame shows the things that the action is done with, and the hands, with
    their sleeves, that do it."""
    identities = {str(thing["name"]): thing["id"] for thing in clip.objects}
    meant = meant_ids(clip.choice, clip.hands, identities)
    return np.stack([np.isin(clip.ids[0], which) for which in meant])


def _referents(masks: np.ndarray) -> np.ndarray:
    return np.stack([(masks & bit) > 0 for bit in (THING_BIT, HAND_BIT)])


def visible_hands(clip: WorldClip) -> np.ndarray:
    """F×2 bool: most of the hand is in the picture."""
    inside = np.isin(clip.visible, (VISIBLE, OCCLUDED)).reshape(-1, 2, 21)
    return inside.sum(axis=2) >= READABLE


def rois_of(joints: np.ndarray, visible: np.ndarray, height: int, width: int) -> np.ndarray:
    """F×2×4 regions that MediaPipe's tracking would read for F×42×2 joints; zeros where F×2 is False."""
    rois = np.zeros((len(joints), 2, 4), np.float32)
    hands = joints.reshape(len(joints), 2, 21, 2).astype(np.float32)
    for frame, hand in np.argwhere(visible):
        rois[frame, hand] = tracked_region(hands[frame, hand], height, width).square(height, width)
    return rois
