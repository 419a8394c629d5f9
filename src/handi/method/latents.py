"""From pictures and sentences to what networks compute with, and back: the one copy of each core step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

MaskMode = Literal["bilinear", "area"]


def as_video(frames: Tensor) -> Tensor:
    """Frames as an autoencoder takes them: B×F×H×W×3 uint8 → B×3×F×H×W float32 in [-1, 1]."""
    return frames.permute(0, 4, 1, 2, 3).float() / 127.5 - 1


def grey(masks: Tensor) -> Tensor:
    """Masks as a grey video: B×F×H×W in {0, 1} → B×3×F×H×W in {-1, 1}."""
    return (2 * masks - 1)[:, None].expand(-1, 3, -1, -1, -1)


def unit(video: Tensor) -> Tensor:
    """Decoded pixels about [-1, 1] → in [0, 1]."""
    return (video / 2 + 0.5).clamp(0, 1)


def encode(vae: Any, video: Tensor) -> Tensor:
    """Latents of B×3×F×H×W in [-1, 1], frame by frame: B×C×F×h×w float32, scaled; no gradient."""
    with torch.no_grad():
        # Frames are flattened with their channels last, as they are stored: a view that gives a single frame
        # the strides of a picture. Kernels choose by strides, and results differ in the last bit.
        flat = video.permute(0, 2, 3, 4, 1).flatten(0, 1).permute(0, 3, 1, 2)
        z = vae.encode(flat.to(vae.dtype)).latent_dist.mode().float() * vae.config.scaling_factor
        return z.unflatten(0, (len(video), -1)).transpose(1, 2)


def decode(vae: Any, z: Tensor, *, together: int | None = None) -> Tensor:
    """Pixels of latents B×C×F×h×w: B×3×F×H×W float32, about [-1, 1], with a gradient.

    together: frames that are decoded at once (default: all).
    """
    flat = z.transpose(1, 2).flatten(0, 1) / vae.config.scaling_factor
    parts = flat.split(together or len(flat))
    pixels = torch.cat([vae.decode(part.to(vae.dtype)).sample.float() for part in parts])
    return pixels.unflatten(0, (len(z), -1)).transpose(1, 2)


def text_states(
    encoder: Any,
    tokenizer: Any,
    texts: Sequence[str],
    device: torch.device,
    notes: list[str] | None = None,
) -> Tensor:
    """E_text of sentences: B×N×D, a CLIP text encoder's last hidden state, padded to its length.

    notes: to which a sentence that is cut is reported.
    """
    limit = min(tokenizer.model_max_length, encoder.config.max_position_embeddings)
    if notes is not None:
        for text in dict.fromkeys(texts):
            length = len(tokenizer(text).input_ids)
            if length > limit:
                notes.append(f"the prompt has {length} tokens, the first {limit} are read: {text[:60]!r}…")
    ids = tokenizer(
        list(texts), padding="max_length", max_length=limit, truncation=True, return_tensors="pt"
    ).input_ids
    return encoder(ids.to(device)).last_hidden_state


def mask_cells(area: Tensor, size: Sequence[int], mode: MaskMode) -> Tensor:
    """A motion area in a network's mask channel: B×H×W in [0, 1] → B×1×1×h×w; soft values stay soft.

    mode "area": the share of each latent cell that is in the area. "bilinear": as AnimateAnything resizes
    its masks, without antialiasing and not made binary again. Raises: ValueError for another mode.
    """
    if mode not in ("bilinear", "area"):
        raise ValueError(f'mask_mode must be "bilinear" or "area", not {mode!r}')
    return F.interpolate(area[:, None].float(), tuple(size), mode=mode)[:, :, None]


def area_at(area: Tensor, like: Tensor) -> Tensor:
    """One soft area H×W, such as the prior mask, for each row and at the size of `like`, B×H'×W'."""
    area = area[None, None].to(like.device, torch.float32)
    if area.shape[-2:] != like.shape[-2:]:
        area = F.interpolate(area, like.shape[-2:], mode="bilinear")
    return area[0].expand(len(like), *like.shape[-2:])
