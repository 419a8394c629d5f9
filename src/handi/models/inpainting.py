"""Inpainting: what video transformers have in common that generate the free cells of a clip.

Wan and LTX are two of them. Their autoencoder compresses time: 1 + n·k frames are 1 + k latent frames. Known
cells stand clean in the input, at noise level 0, so that both stages need no new weights:

    stage 2   the still clip outside the motion area and in frame 0 is known, the rest is free
    stage 1   three pictures as latent frames: the context and the prior are known, the mask is free
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from handi.method.diffusion import Flow
from handi.method.latents import as_video, grey
from handi.models.backbone import Given, Layout, Traits, check_frames


class Inpainting:
    """The shared half of a backbone; a subclass knows its autoencoder and how its network is called."""

    clamps = True
    patch = 1  # cells of a token's side
    max_tokens = 512  # of a sentence
    embedding = ""  # the network's layer that makes tokens of latents

    def __init__(
        self, vae: Any, text_encoder: Any, tokenizer: Any, scheduler: Any, *, chunk: int, cell: int
    ) -> None:
        """chunk: frames per latent frame after the first; cell: pixels of a latent cell's side."""
        self.vae, self.text_encoder, self.tokenizer = vae, text_encoder, tokenizer
        self.process = Flow(scheduler)
        self.chunk, self.multiple = chunk, cell * self.patch

    def traits(self, network: Any) -> Traits:
        """Stage 1 makes one mask per clip; poses are read where a pose stem was trained."""
        return Traits(one_mask=True, poses=getattr(network, "pose_stem", None) is not None)

    # ------------------------------------------------------------------------------------- pixels

    @torch.no_grad()
    def encode(self, video: Tensor) -> Tensor:
        """B×3×F×H×W in [-1, 1] → B×C×f×h×w float32, normalised. Raises: InputError for another F than
        1 + chunk·k: the autoencoder would leave out the last frames without a word."""
        check_frames(video.shape[2], self.chunk)
        z = self.vae.encode(video.to(self.vae.dtype)).latent_dist.mode().float()
        return self._normalised(z)

    def decode(self, z: Tensor) -> Tensor:
        """B×C×f×h×w → B×3×F×H×W float32 in [-1, 1], one clip at a time."""
        return torch.cat([self._decoded(one) for one in z.split(1)])

    def frames(self, z: Tensor, clips: Tensor, frames: Tensor) -> Tensor:
        """N frames, N×3×H×W about [-1, 1]: the pixels of a whole decoding, not clamped; the gradient reaches
        the latent frame that a frame is part of, and no other."""
        rows = list(zip(clips.tolist(), frames.tolist(), strict=True))
        wanted: dict[int, set[int]] = {}
        for clip, frame in rows:
            wanted.setdefault(clip, set()).add(self._chunk_of(frame))
        pixels = {
            clip: self._decoded_chunks(z[clip : clip + 1], sorted(chunks)) for clip, chunks in wanted.items()
        }
        return torch.cat(
            [
                pixels[clip][self._chunk_of(frame)][:, :, (frame - 1) % self.chunk if frame else 0]
                for clip, frame in rows
            ]
        )

    def _chunk_of(self, frame: int) -> int:
        return (frame + self.chunk - 1) // self.chunk

    def masks(self, z: Tensor, frames: Tensor | None = None) -> Tensor:
        """The mask of stage 1's three pictures, B×3×1×H×W about [-1, 1], with a gradient."""
        return torch.cat([self._decoded_chunks(one, [0])[0] for one in z[:, :, 2:].split(1)])

    def _normalised(self, z: Tensor) -> Tensor:
        """The autoencoder's latents as the network expects them."""
        raise NotImplementedError

    def _decoded(self, z: Tensor) -> Tensor:
        """All pixels of normalised latents 1×C×f×h×w: 1×3×F×H×W float32."""
        raise NotImplementedError

    def _decoded_chunks(self, z: Tensor, wanted: Sequence[int]) -> dict[int, Tensor]:
        """Pixels of chosen latent frames of 1×C×f×h×w: 1×3×(1 or chunk)×H×W each, with a gradient."""
        raise NotImplementedError

    # --------------------------------------------------------------------------------------- text

    def text(self, texts: Sequence[str], device: torch.device, notes: list[str] | None = None) -> Tensor:
        """Last hidden states, B×N×D, with zero rows beyond a sentence's end."""
        limit = min(self.tokenizer.model_max_length, self.max_tokens)
        sentences = [" ".join(text.split()) for text in texts]
        if notes is not None:
            for text in dict.fromkeys(sentences):
                if (length := len(self.tokenizer(text).input_ids)) > limit:
                    notes.append(
                        f"the prompt has {length} tokens, the first {limit} are read: {text[:60]!r}…"
                    )
        tokens = self.tokenizer(
            sentences,
            padding="max_length",
            max_length=limit,
            truncation=True,
            return_attention_mask=True,
            return_tensors="pt",
        )
        there = tokens.attention_mask.to(device)
        states = self.text_encoder(tokens.input_ids.to(device), attention_mask=there).last_hidden_state
        return states * there[..., None]

    def padded(self, states: Tensor) -> Tensor:
        """States whose zero rows beyond the end were left out, B×n×D → B×N×D: networks attend to them."""
        limit = min(self.tokenizer.model_max_length, self.max_tokens)
        return F.pad(states, (0, 0, 0, limit - states.shape[1]))

    # -------------------------------------------------------------------------------------- tasks

    def clip(self, network: Any, given: Given, area: Tensor) -> Layout:
        """Tokens that the area B×H×W touches are free, from the second latent frame on.

        What is known is the latents of a still clip. A causal autoencoder makes others of it than of its
        first frame alone, so a still clip is encoded, and not one latent frame repeated.
        """
        still = given.still
        if still is None:
            still = self.encode(self._context(given).expand(-1, -1, given.frame_index.shape[1], -1, -1))
        cells = self._cells(area.to(still), still.shape[-2:])
        free = cells.repeat(1, 1, still.shape[2], 1, 1)
        free[:, :, 0] = 0  # the context image
        trained = given.latents.shape[2] == still.shape[2] > 1
        z = still * (1 - free) + given.latents * free if trained else still
        poses = None if given.poses is None else given.poses.to(z.device)
        return Layout(z, free, cells, still[:, :, :1], given.frame_index, poses=poses, adapter="clip")

    def area(self, network: Any, given: Given, prior: Tensor, masks: Tensor | None = None) -> Layout:
        """Three pictures in a row, each encoded by itself: the context, the prior B×H×W and the mask."""
        context = given.latents[:, :, :1]
        mask = torch.zeros_like(prior)[:, None] if masks is None else masks.amax(1, keepdim=True)
        pictures = [self.encode(grey(one.to(context))) for one in (prior[:, None], mask)]
        z = torch.cat([context, *pictures], 2)
        free = torch.zeros_like(z[:, :1])
        free[:, :, 2] = 1
        return Layout(z, free, free[:, :, 2:], context, given.frame_index[:, :1], adapter="area")

    @contextmanager
    def _posed(self, network: Any, layout: Layout) -> Iterator[None]:
        """Within this block a network's tokens have what its pose stem makes of the task's poses added.

        The stem runs within the network's own call: before it, offloading has not moved its weights.
        """
        stem = getattr(network, "pose_stem", None)
        if stem is None or layout.poses is None:
            yield
            return
        height, width = (side // self.patch for side in layout.z.shape[-2:])

        def add(_embedding: Any, _arguments: Any, tokens: Tensor) -> Tensor:
            seen = stem(layout.poses, (height, width)).to(tokens)  #                 B×f×h×w×width
            return tokens + (seen.movedim(-1, 1) if tokens.ndim == 5 else seen.flatten(1, 3))

        handle = network.get_submodule(self.embedding).register_forward_hook(add)
        try:
            yield
        finally:
            handle.remove()

    def _context(self, given: Given) -> Tensor:
        """The context images, B×3×1×H×W in [-1, 1]; if they were not kept, what their latents decode to."""
        if given.frames is not None and given.frames.numel():
            return as_video(given.frames[:, :1].to(given.latents.device))
        with torch.no_grad():
            return self.decode(given.latents[:, :, :1])

    def _cells(self, area: Tensor, size: Sequence[int]) -> Tensor:
        """B×H×W → B×1×1×h×w in {0, 1}: the cells of all tokens that the area touches."""
        tokens = F.adaptive_max_pool2d(area[:, None], [side // self.patch for side in size])
        return F.interpolate((tokens > 0).float(), tuple(size), mode="nearest")[:, :, None]
