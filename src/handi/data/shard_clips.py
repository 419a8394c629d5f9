"""Prepared clips as a clip set: any clip at random out of the shards, nothing decoded that is not needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from handi.core.errors import InputError
from handi.core.images import open_image
from handi.core.types import BinaryMask
from handi.data import shards
from handi.data.areas import StoredAreas
from handi.data.clips import TrainingClip
from handi.data.prepare import texts_of
from handi.data.sources.common import FRAMES
from handi.method.area import hull_masks

HELD_OUT = ("val", "test")  # the first of them that there is


class ShardClips:
    """The kept clips of one split of a folder that `handi prepare` wrote.

    split: "train", "val", "test"; "held-out": val where there is one, else test. `latents` and `embeddings`,
    off at first, say whether clips bear what is cached of them, and `areas` what stage 1 made of them.
    `per_frame`: whether they bear the area of each frame. Raises: InputError.
    """

    latents = embeddings = per_frame = False
    areas: StoredAreas | None = None

    def __init__(self, folder: str | Path, split: str = "train") -> None:
        self.folder = Path(folder).expanduser()
        self.about = shards.read_prepared(self.folder)
        counts = {name: split["kept"] for name, split in self.about["splits"].items() if split["kept"]}
        if split == "held-out":
            split = next((name for name in HELD_OUT if name in counts), "val")
        if split not in counts:
            raise InputError(
                f"holds no clips of the split {split!r}",
                where=self.folder,
                mend=f"it has {', '.join(f'{n} {name}' for name, n in counts.items()) or 'none at all'}",
            )
        settings = self.about["settings"]
        self.split, self.size, self.frames = split, (settings["size"][0], settings["size"][1]), FRAMES
        self.name, self.notes = str(self.folder), list[str]()
        self.kind_of_area = shards.kind_of_area(self.about)
        self.pictures: str = settings["pictures"]
        self.models: dict[str, str] = settings["models"]
        self._rows = shards.read_clip_rows(self.folder, split)
        if len(self._rows) != counts[split]:
            raise InputError(
                f"lists {len(self._rows)} clips of {split}, there should be {counts[split]}",
                where=self.folder / shards.INDEX,
                mend=shards.AGAIN,
            )

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, index: int) -> dict[str, Any]:
        """The clip's row of the index."""
        return {name: self._rows[name][index].as_py() for name in self._rows.column_names}

    def places(self) -> list[dict[str, Any]]:
        """Of every clip what says which bytes it is: its id, shard and hash."""
        return self._rows.select(["id", "shard", "sha256"]).to_pylist()

    def use_areas(self) -> None:
        """Let clips bear the areas that `handi areas` made. Raises: InputError where any has none."""
        self.areas = StoredAreas(self.folder)
        self.areas.require(self.places())

    def __getitem__(self, index: int) -> TrainingClip:
        row = self.row(index)
        members = shards.read_piece(self.folder, row)
        generated = self.areas.area(row) if self.areas else None  # a damaged one is not the shard's fault
        try:
            return self._clip(row, members, generated)
        except (KeyError, ValueError) as error:
            raise InputError(
                f"clip {row['id']} is damaged ({type(error).__name__}: {error})",
                where=self.folder / shards.SHARDS / f"{row['shard']}.tar",
                mend=shards.DELETE,
            ) from error

    def _clip(
        self, row: dict[str, Any], members: dict[str, bytes], generated: BinaryMask | None
    ) -> TrainingClip:
        hands = shards.decode_array(members["hands.npz"])
        if self.pictures == "none":
            frames = np.zeros((FRAMES, 0, 0, 3), np.uint8)  # who looks at them fails, and does not see black
        else:
            names = [f"{number:02d}.{self.pictures}" for number in range(FRAMES)]
            frames = np.stack([shards.decode_picture(members[name]) for name in names])
        area = shards.decode_picture(members["area.png"], grey=True) > 127
        texts = texts_of(row["action"], row["paraphrases"] or (), row["description"])
        return TrainingClip(
            name=row["id"],
            frames=frames,
            area=area,
            joints=hands["joints"],
            visible=hands["visible"],
            rois=hands["rois"],
            texts=texts,
            mirrors=row["mirrors"],
            latents=shards.decode_array(members["latents.npy"]) if self.latents else None,
            embeddings=self._embeddings(texts, members) if self.embeddings else None,
            generated=generated,
            # A stabilised frame counts only where it shows something of its own: the area knows.
            frame_areas=self._hulls(hands["joints"]) & area if self.per_frame else None,
        )

    def _hulls(self, joints: np.ndarray) -> np.ndarray:
        return hull_masks(joints, *self.size, hull=self.about["settings"]["hull"])

    def _embeddings(
        self, texts: dict[str, tuple[str, ...]], members: dict[str, bytes]
    ) -> dict[str, np.ndarray]:
        sentences = [sentence for kind in texts.values() for sentence in kind]
        return dict(zip(sentences, shards.decode_array(members["text.npy"]), strict=True))

    def prior(self) -> np.ndarray:
        """H×W float32, mean motion area of the training clips, whatever the split. Raises: InputError."""
        path = self.folder / shards.PRIOR
        return (np.asarray(open_image(path)) / 65535).astype(np.float32)

    def fingerprint(self) -> str:
        """Hash over the content of every clip of the split, in order."""
        return self.about["splits"][self.split]["sha256"]
