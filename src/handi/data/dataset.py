"""Prepared clips as training reads them: any clip at random, decoding only what is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from handi.core.errors import InputError
from handi.core.images import open_image
from handi.core.reading import parse_json
from handi.core.stores import local, url_of
from handi.core.types import BinaryMask, Frames
from handi.data import shards
from handi.data.areas import StoredAreas
from handi.data.stages import HANDS, THINGS, texts_of
from handi.method.area import hull_masks

HELD_OUT = ("val", "test")  # the first of them that there is
# Samples of one first frame: one of every action that it affords, then the next of each, and so on; one that
# affords fewer is asked the same again, in other words.
REQUESTS = 6
Texts = dict[str, tuple[str, ...]]  # by kind: "short", and where there are any "paraphrase", "enriched"


@dataclass(frozen=True)
class ClipWords:
    """What a sample is drawn from before anything of the clip is decoded."""

    name: str
    texts: Texts
    mirrors: bool  # the mirrored clip shows what its mirrored words say


@dataclass(frozen=True)
class TrainingClip:
    """The frames of a clip that were asked for, here F, and what is known of them."""

    name: str
    frames: Frames  # F×H×W×3, frame 0 is the context image; F×0×0×3 where only latents are kept
    area: BinaryMask  # H×W, the true motion area of the whole clip
    joints: np.ndarray  # F×42×2 in [0, 1], left hand first, zeros for a hand that is not there
    way: np.ndarray  # L×42×2, the joints in every frame of the whole clip
    visible: np.ndarray  # F×2 bool: the hand can be read in that frame
    rois: np.ndarray  # F×2×4 as `Hands.rois`, side 0 where not visible
    texts: Texts
    mirrors: bool = True
    latents: np.ndarray | None = None  # f×C×h×w float16, scaled: the frames as an autoencoder made them
    still: np.ndarray | None = None  # likewise, of frame 0 as a still clip, where the autoencoder needs that
    embeddings: dict[str, np.ndarray] | None = None  # sentence → N×D float16 of a text encoder
    # 2×H×W bool: where the context image shows things, and hands, that the words mean; None: not known
    referents: np.ndarray | None = None
    generated: BinaryMask | None = None  # H×W, the area that stage 1 made (`handi areas`), where it is stored
    frame_areas: BinaryMask | None = None  # F×H×W, the part of `area` in each frame, where it is asked for


class PreparedClips:
    """The kept clips of one split of a folder that `handi prepare` wrote.

    split: "train", "val", "test"; "held-out": val where there is one, else test. unfinished: take the shards
    that there are, of a folder that may still be written. Of first frames each of `REQUESTS` requests is a
    clip of one frame; those of one picture follow each other.
    `latents` and `embeddings`, off at first, say whether clips bear what is cached of them, and `areas` what
    stage 1 made of them. `per_frame`: whether they bear the area of each frame. Raises: InputError.
    """

    latents = embeddings = per_frame = False
    areas: StoredAreas | None = None

    def __init__(self, folder: str | Path, split: str = "train", *, unfinished: bool = False) -> None:
        self.folder = local(folder)
        self.name = url_of(folder) or str(self.folder)
        table: dict[str, Any] | None = None
        self._prior: np.ndarray | None = None  # of an unfinished folder
        if unfinished and not (self.folder / shards.PREPARED).is_file():
            self.about, table, self._prior = shards.read_unfinished(self.folder)
        else:
            self.about = shards.read_prepared(self.folder)
        counts = {name: split["kept"] for name, split in self.about["splits"].items() if split["kept"]}
        if split == "held-out":
            split = next((name for name in HELD_OUT if name in counts), "val")
        if split not in counts:
            raise InputError(
                f"holds no clips of the split {split!r}",
                where=self.folder,
                hint=f"it has {', '.join(f'{n} {name}' for name, n in counts.items()) or 'none at all'}",
            )
        settings = self.about["settings"]
        self.split, self.size = split, (int(settings["size"][0]), int(settings["size"][1]))
        self.first_frames: bool = settings["first_frames"]
        self.frames: int = settings["frames"]
        self.fps: float | None = settings["fps"]
        self.together = REQUESTS if self.first_frames else 1  # clips of one picture
        self.kind_of_area: str = self.about["area"]
        self.pictures: str = settings["pictures"]
        self.models: dict[str, str] = settings["models"]
        self._rows = shards.read_clip_rows(self.folder, split) if table is None else table[split]
        if len(self._rows) != counts[split]:
            raise InputError(
                f"lists {len(self._rows)} clips of {split}, there should be {counts[split]}",
                where=self.folder / shards.INDEX,
                hint=shards.AGAIN,
            )
        self.chunked: bool = settings.get("chunk", 1) > 1  # a latent is of several frames
        self._row = lru_cache(maxsize=4096)(self._read_row)
        self._requests = lru_cache(maxsize=64)(self._read_requests)

    def __len__(self) -> int:
        return len(self._rows) * self.together

    def row(self, index: int) -> dict[str, Any]:
        """The clip's row of the index."""
        place = index // self.together
        return {name: self._rows[name][place].as_py() for name in self._rows.column_names}

    def places(self) -> list[dict[str, Any]]:
        """Of every piece of the shards what says which bytes it is: its id, shard and hash."""
        return self._rows.select(["id", "shard", "sha256"]).to_pylist()

    def use_areas(self) -> None:
        """Let clips bear the areas that `handi areas` made. Raises: InputError where any has none."""
        self.areas = StoredAreas(self.folder)
        self.areas.require(self.places())

    def words(self, index: int) -> ClipWords:
        """Name and texts of a clip, without decoding it. Raises: InputError (damaged)."""
        if self.first_frames:
            return self._requests(index // REQUESTS)[index % REQUESTS][0]
        row = self._row(index)
        return ClipWords(row["id"], _texts(row), row["mirrors"])

    def __getitem__(self, index: int) -> TrainingClip:
        return self.read(index)

    def read(self, index: int, frames: Sequence[int] | np.ndarray | None = None) -> TrainingClip:
        """A clip with these of its frames; None: all. Raises: InputError (damaged)."""
        if self.first_frames:
            return self._requests(index // REQUESTS)[index % REQUESTS][1]
        row = self._row(index)
        members = shards.read_piece(self.folder, row)
        generated = self.areas.area(row) if self.areas else None  # a damaged one is not the shard's fault
        chosen = np.arange(self.frames) if frames is None else np.asarray(frames)
        try:
            return self._clip(row, members, chosen, generated)
        except (KeyError, ValueError, IndexError) as error:
            raise self._damaged(row, error) from error

    def _read_row(self, index: int) -> dict[str, Any]:
        """What training needs of a clip's row."""
        return {name: self._rows[name][index].as_py() for name in shards.NEEDED}

    def _damaged(self, row: dict[str, Any], error: Exception) -> InputError:
        return InputError(
            f"clip {row['id']} is damaged ({type(error).__name__}: {error})",
            where=self.folder / shards.SHARDS / f"{row['shard']}.tar",
            hint=shards.DELETE,
        )

    def _clip(
        self,
        row: dict[str, Any],
        members: dict[str, bytes],
        chosen: np.ndarray,
        generated: BinaryMask | None,
    ) -> TrainingClip:
        hands = shards.decode_array(members["hands.npz"], "joints", "visible", "rois")
        if self.pictures == "none":
            frames = np.zeros((len(chosen), 0, 0, 3), np.uint8)  # who looks at them fails, and sees no black
        else:
            names = [f"{number:02d}.{self.pictures}" for number in chosen]
            frames = np.stack([shards.decode_picture(members[name]) for name in names])
        area = shards.decode_picture(members["area.png"], grey=True) > 127
        texts = _texts(row)
        referents = None
        if "referents.png" in members:
            marks = shards.decode_picture(members["referents.png"], grey=True)
            referents = np.stack([(marks & bit) > 0 for bit in (THINGS, HANDS)])
        joints = hands["joints"][chosen]
        return TrainingClip(
            name=row["id"],
            frames=frames,
            area=area,
            joints=joints,
            way=hands["joints"],
            visible=hands["visible"][chosen],
            rois=hands["rois"][chosen],
            texts=texts,
            mirrors=row["mirrors"],
            latents=self._latents(members, chosen) if self.latents else None,
            still=shards.decode_array(members["still.npy"]) if self.latents and self.chunked else None,
            embeddings=self._embeddings(texts, members) if self.embeddings else None,
            referents=referents,
            generated=generated,
            # A stabilised frame counts only where it shows something of its own: the area knows.
            frame_areas=self._hulls(joints) & area if self.per_frame else None,
        )

    def _hulls(self, joints: np.ndarray) -> np.ndarray:
        return hull_masks(joints, *self.size, hull=self.about["settings"]["hull"])

    def _embeddings(self, texts: Texts, members: dict[str, bytes]) -> dict[str, np.ndarray]:
        sentences = [sentence for kind in texts.values() for sentence in kind]
        states = shards.decode_array(members["text.npy"])
        if len(states) == len(sentences) + 1:  # models whose text encoder is not at hand in training
            sentences.append("")
        return dict(zip(sentences, states, strict=True))

    def _latents(self, members: dict[str, bytes], chosen: np.ndarray) -> np.ndarray:
        latents = shards.decode_array(members["latents.npy"])
        return latents if self.chunked else latents[chosen]

    def _read_requests(self, place: int) -> list[tuple[ClipWords, TrainingClip]]:
        """The `REQUESTS` clips of one first frame: the actions in turn, as some afford many ("pick up")."""
        row = self._row(place)
        members = shards.read_piece(self.folder, row)
        try:
            requests = parse_json(members["requests"], row["id"])
            frame = shards.decode_picture(members[f"00.{self.pictures}"])[None]
            ids = shards.decode_picture(members["ids.png"], grey=True)
            ways = shards.decode_array(members["joints.npy"]).astype(np.float32)
            clips = []
            for number in range(REQUESTS):
                asked = _in_turn([request["action"] for request in requests], number)
                request, way = requests[asked], ways[asked]
                texts = {kind: tuple(sentences) for kind, sentences in request["texts"].items()}
                clip = TrainingClip(
                    name=row["id"],
                    frames=frame,
                    area=np.zeros(self.size, bool),  # not known without the clip
                    joints=way[:1],
                    way=way,
                    visible=np.zeros((1, 2), bool),
                    rois=np.zeros((1, 2, 4), np.float32),
                    texts=texts,
                    mirrors=request["mirrors"],
                    referents=np.stack([np.isin(ids, request[which]) for which in ("things", "hands")]),
                )
                clips.append((ClipWords(clip.name, texts, clip.mirrors), clip))
            return clips
        except (KeyError, ValueError, IndexError, TypeError) as error:
            raise self._damaged(row, error) from error

    def prior(self) -> np.ndarray:
        """H×W float32, mean motion area of the training clips, whatever the split. Raises: InputError."""
        if self._prior is not None:
            return self._prior
        path = self.folder / shards.PRIOR
        return (np.asarray(open_image(path)) / 65535).astype(np.float32)

    def fingerprint(self) -> str:
        """Hash over the content of every clip of the split, in order."""
        return str(self.about["splits"][self.split]["sha256"])


def _texts(row: dict[str, Any]) -> Texts:
    return texts_of(row["action"], row["paraphrases"] or (), row["description"])


def _in_turn(actions: Sequence[str], number: int) -> int:
    """Request `number` of a picture, by its place among all: one of each action, then the next of each."""
    kinds = list(dict.fromkeys(actions))
    turn, which = divmod(number, len(kinds))
    same = [place for place, action in enumerate(actions) if action == kinds[which]]
    return same[turn % len(same)]
