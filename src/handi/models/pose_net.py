"""PoseNet: where the hands will be in every frame, from the features of stage 1's finder and the sentence.

The finder (`finder.Finder`) scores which thing and which hands the words mean. PoseNet attends to the
finder's cells again, for the joints of the hands and with queries made of the words (where does it go? what
is in the way?). An MLP turns these features into the paths of 42 joints.

It is a small diffusion over P, which predicts the clean poses. Noisy poses enter scaled by what is left of
the signal in them: at the schedule's last step, pure noise, nothing enters, and one step is the regression.
With more steps the seed chooses where several paths are possible.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from handi.method import diffusion
from handi.models.autoencoder import zero_
from handi.models.backbone import Process

JOINTS = 42
STREAM = 3  # of a clip's noise; the stages' are 1 and 2
SPREAD = 0.3  # sd of joints in [0, 1] about the middle of the picture: the unit of noisy poses
STEP = 0.2  # of the picture's side: the unit in which joints are put out
OCTAVES = 5  # of the sinusoids that tell a place


@dataclass(frozen=True)
class PoseGuess:
    """What PoseNet predicts for B sentences."""

    joints: Tensor  # B×F×42×2 in [0, 1] of the frame
    presence_logits: Tensor  # B×F×2: whether a hand is there
    start: Tensor  # B×42×2: where the joints are in the context image, which is also frame 0 of a true clip

    def poses(self) -> Tensor:
        """P, B×F×42×2: zeros for hands that are not there."""
        there = (self.presence_logits > 0).repeat_interleave(JOINTS // 2, -1)
        return torch.where(there[..., None], self.joints, 0)


class PoseNet(ModelMixin, ConfigMixin):
    """Predicts P over a whole clip of `frames` frames; see `forward`."""

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 32,
        finder_width: int = 128,
        cross_attention_dim: int = 128,
        frames: int = 16,
        width: int = 128,
        heads: int = 4,
        depth: int = 2,
        looks: int = 8,
        hidden: int = 448,
    ) -> None:
        """width, heads, depth: of the layers over the cells. looks: attention heads over the words, and
        queries made of them. hidden: features of the MLP."""
        super().__init__()
        small = width // 2
        self.stem = nn.Linear(latent_channels + finder_width, width)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, heads, 3 * width, 0.0, "gelu", batch_first=True, norm_first=True
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.hands = nn.Linear(width, 2)  # in which cells each hand is
        self.start = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, JOINTS))
        self.words = nn.LayerNorm(cross_attention_dim)
        self.look = nn.Linear(cross_attention_dim, looks)
        self.value = nn.Linear(cross_attention_dim, small)
        self.ask = nn.Sequential(
            nn.Linear(looks * small + width, 2 * width), nn.GELU(), nn.Linear(2 * width, looks * width)
        )
        self.feel = nn.Linear(width, small)
        self.hint = nn.Linear(frames * 2 * JOINTS + 1, width)
        places = (looks + 4) * (2 + 4 * OCTAVES + 1)
        known = looks * small + 4 * width + looks * small + places + 2 * JOINTS + width
        self.enter = nn.Linear(known, hidden)
        self.mlp = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(hidden), nn.GELU(), nn.Linear(hidden, hidden)) for _ in range(2)
        )
        last = zero_(nn.Linear(hidden, frames * (2 * JOINTS + 2)))
        self.leave = nn.Sequential(nn.LayerNorm(hidden), nn.GELU(), last)

    def forward(
        self,
        context: Tensor,
        cells: Tensor,
        scores: Tensor,
        text: Tensor,
        *,
        picture: Sequence[int] | None = None,
        noisy: Tensor | None = None,
        signal: Tensor | None = None,
    ) -> PoseGuess:
        """The paths of the hands for B sentences about V pictures.

        context V×h×w×C latents; cells V×hw×C' and scores B×hw×2 of the finder; text B×N×D; picture: which one
        each sentence is about (default: one each). noisy B×F×42×2 noised `centred` poses and signal B, the
        share of the signal in them, √ᾱ; None: pure noise.
        """
        seen = self.see(context, cells)
        seen = seen if picture is None else seen[picture]  #                              B×hw×W
        words = self.words(text)
        sentence = torch.einsum("bnl,bnc->blc", self.look(words).softmax(1), self.value(words)).flatten(1)
        chance = torch.cat([scores.to(seen), self.hands(seen)], -1).softmax(1).mT  #      B×4×hw
        found = chance @ seen  # of the thing, the hands that are meant, left and right:  B×4×W
        questions = self.ask(torch.cat([sentence, found[:, 0]], -1)).unflatten(-1, (-1, seen.shape[-1]))
        weight = (questions @ seen.mT * seen.shape[-1] ** -0.5).softmax(-1)  #            B×L×hw
        answers = (weight @ self.feel(seen)).flatten(1)
        everywhere = torch.cat([chance, weight], 1)
        place = middles(context.shape[1:3], seen)
        where = everywhere @ place  #                                                     B×(4+L)×2
        spread = (everywhere @ place.square() - where.square()).clamp(min=0).sum(-1)
        start = where[:, 2:4, None] + STEP * self.start(found[:, 2:4]).unflatten(-1, (-1, 2))
        start = start.flatten(1, 2)  #                                                    B×42×2
        known = [
            sentence,
            found.flatten(1),
            answers,
            _place_features(where).flatten(1),
            spread,
            2 * start.flatten(1) - 1,
        ]
        x = self.enter(torch.cat([*known, self._hint(noisy, signal, seen)], -1))
        for layer in self.mlp:
            x = x + layer(x)
        out = self.leave(x).unflatten(-1, (self.config.frames, -1)).float()
        joints = start[:, None].float() + STEP * out[..., :-2].unflatten(-1, (JOINTS, 2))
        return PoseGuess(joints, out[..., -2:], start.float())

    def see(self, context: Tensor, cells: Tensor) -> Tensor:
        """Features of the pictures' cells, V×hw×W, for any sentence."""
        x = self.stem(torch.cat([context.flatten(1, 2), cells], -1).to(self.dtype))
        x = x + _sinusoids(middles(context.shape[1:3], x), x.shape[-1])
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def _hint(self, noisy: Tensor | None, signal: Tensor | None, like: Tensor) -> Tensor:
        """Features of the noisy poses, B×W."""
        if noisy is None or signal is None:
            return self.hint(like.new_zeros(len(like), self.hint.in_features))
        left = signal.to(like)[:, None]
        return self.hint(torch.cat([left * noisy.to(like).flatten(1), left], -1))


def centred(poses: Tensor) -> Tensor:
    """Joints in [0, 1] as they are noised: about 0, of unit spread."""
    return (poses - 0.5) / SPREAD


@torch.no_grad()
def predict_poses(
    network: PoseNet,
    finder: Any,
    process: Process,
    context: Tensor,
    text: Tensor,
    seeds: Sequence[int],
    *,
    frames: int,
    steps: int = 1,
) -> Tensor:
    """P for context latents B×C×1×h×w and text B×N×D: B×F×42×2 float32, zeros for a hand that is not there.

    In one step every seed gives the same, the middle of what may happen. A clip of fewer frames than the
    network knows is its beginning; in a longer one the hands stay where they are at its end.
    """
    latents = context[:, :, 0].permute(0, 2, 3, 1)
    looking = next(finder.parameters())  # offloaded, a network is moved when it is called as a whole only
    cells = finder.see(latents.to(looking))
    scores = finder.answer(cells, text.to(looking)).to(context)
    cells = cells.to(context)
    found: list[Tensor] = []

    def predict(x: Tensor, t: Tensor) -> Tensor:
        signal = process.levels(t.reshape(1).long().to(x.device))[0].expand(len(x))
        guess = network(latents, cells, scores, text, noisy=x, signal=signal)
        found[:] = [guess.poses()]
        return centred(found[0])

    size = (network.config.frames, JOINTS, 2)
    noise = diffusion.clip_noise(size, seeds, stream=STREAM).to(context.device)
    timesteps = process.schedule(steps, noise[0].numel(), context.device)
    diffusion.sample(predict, noise, process.scheduler, timesteps, seeds=seeds)
    index = torch.arange(frames, device=context.device).clamp(max=network.config.frames - 1)
    return found[0][:, index]


def middles(cells: Sequence[int], like: Tensor) -> Tensor:
    """Middles of the cells of an h×w picture, hw×2, (x, y) in [0, 1]."""
    down, across = ((torch.arange(n, device=like.device) + 0.5) / n for n in cells)
    grid = torch.meshgrid(down, across, indexing="ij")
    return torch.stack(grid[::-1], -1).flatten(0, 1).to(like.dtype)


def _place_features(places: Tensor) -> Tensor:
    """Sinusoidal features of places …×2 for an MLP: …×(2 + 4·OCTAVES)."""
    octaves = math.pi * 2.0 ** torch.arange(OCTAVES, device=places.device)
    angles = (places[..., None] * octaves.to(places)).flatten(-2)
    return torch.cat([2 * places - 1, angles.sin(), angles.cos()], -1)


def _sinusoids(places: Tensor, width: int) -> Tensor:
    """Places …×2 as `width` features, to be added to what is there."""
    octaves = torch.linspace(0, math.log(32), width // 4, device=places.device).exp() * (math.pi / 2)
    angles = (places[..., None] * octaves.to(places)).flatten(-2)
    return torch.cat([angles.sin(), angles.cos()], -1)
