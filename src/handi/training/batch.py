"""What a training step gets: some frames of some clips, as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """What a training step gets."""

    names: list[str]  # of clips and whether mirrored: samples of one name are of one picture
    frames: Tensor  # B×F×H×W×3 uint8; frame 0 is always the context image
    frame_index: Tensor  # B×F int64: which of the clip's frames (0 first)
    area: Tensor  # B×H×W float32 in {0, 1}: the true motion area
    texts: list[str]  # a sentence per clip, "" where dropped for classifier-free guidance
    joints: Tensor  # B×F×42×2 in [0, 1], left hand first, zeros for a hand that is not there
    visible: Tensor  # B×F×2 bool: the hand can be read in that frame
    rois: Tensor  # B×F×2×4 as `Hands.rois` (px of the frame), side 0 where not visible
    latents: Tensor | None = None  # B×C×f×h×w float16, where they are cached
    still: Tensor | None = None  # likewise, of the context image as a still clip, where they are cached
    embeddings: Tensor | None = None  # B×N×D float16 where they are cached; zeros for the text "" …
    has_blank: bool = False  # … unless those of "" are cached, too
    referents: Tensor | None = None  # B×2×H×W float32 in {0, 1} where known, as of a clip
    poses: Tensor | None = None  # B×F×42×2: the joints that stage 2 is given; zeros: none
    generated: Tensor | None = None  # B×H×W float32 in {0, 1} where stored, as of a clip
    frame_areas: Tensor | None = None  # B×F×H×W float32 in {0, 1} where asked for, as of a clip
    kinds: Sequence[str] | None = None  # of the areas that stage 2 is given (`MaskRecipe`); None: all true
    prior: Tensor | None = None  # H×W float32 in {0, 1}: the area of the kind "prior"
    way: Tensor | None = None  # B×L×42×2: the joints in every frame of the whole clips, shown or not

    def __len__(self) -> int:
        return len(self.names)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on a device."""
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        moved = {
            name: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
            for name, value in moved.items()
        }
        return Batch(**moved)

    @property
    def mask(self) -> Tensor:
        """The motion area that stage 2 is given, B×H×W float32 in {0, 1}; in rows `to_generate` the true one.

        Raises: ValueError for the kind "prior" without one.
        """
        mask = self.area.clone()
        known = {"generated": self.generated, "full": torch.ones_like(mask)}
        if self.kinds is not None and "prior" in self.kinds:
            if self.prior is None:
                raise ValueError("the mask prior needs the prior area")
            known["prior"] = self.prior.expand_as(mask)  # the same place in every picture, mirrored or not
        for row, kind in enumerate(self.kinds or ()):
            if (area := known.get(kind)) is not None:
                mask[row] = area[row]
        return mask

    @property
    def to_generate(self) -> Tensor | None:
        """B bool: the rows of which stage 1 makes the area in the step, as none is stored; None: none."""
        if self.generated is not None or "generated" not in (self.kinds or ()):
            return None
        return torch.tensor([kind == "generated" for kind in self.kinds or ()], device=self.area.device)
