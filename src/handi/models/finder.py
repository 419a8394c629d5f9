"""Finder: which cells of a picture show the thing and the hands that a sentence means."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from handi.models.attention import Attention, Conv, Mlp, grid, rotary_of_cells


class Finder(nn.Module):
    """Scores the cells of a picture: which show the thing, and which the hands, that a sentence means.

    Picture and sentence are encoded separately and meet in a product of a cell's features with the
    sentence's query. So a picture is encoded once for any number of sentences, and that words match cells is
    built in, not learned; experiments/mini/LOG.md compares this with attention to the words. The query for
    the hands also depends on what the thing is and where: which hand acts depends on it.
    """

    WIDTH, HEADS, DEPTH, LOOKS = 128, 4, 3, 8

    def __init__(self, channels: int, text: int) -> None:
        super().__init__()
        width = self.WIDTH
        self.stem = Conv(channels, width)
        self.blocks = nn.ModuleList(_FinderBlock(width, self.HEADS) for _ in range(self.DEPTH))
        self.norm = nn.LayerNorm(width)
        self.words = nn.LayerNorm(text)
        self.look = nn.Linear(text, self.LOOKS)  # how much each word counts, in several ways
        self.value = nn.Linear(text, 2 * width)
        self.thing = _question(2 * width, width)
        self.hand = _question(3 * width, width)

    def forward(self, context: Tensor, text: Tensor) -> Tensor:
        """Scores B×h×w×2, thing and hands, for context latents B×h×w×C and text B×N×D."""
        return self.answer(self.see(context), text).unflatten(1, context.shape[1:3])

    def see(self, context: Tensor) -> Tensor:
        """Features of the cells, B×hw×C."""
        x = self.stem(context[:, None])
        x = (x + grid(x))[:, 0].flatten(1, 2)
        rotary = rotary_of_cells(context.shape[1:3], x, self.HEADS)
        for block in self.blocks:
            x = block(x, rotary)
        return self.norm(x)

    def answer(self, cells: Tensor, text: Tensor) -> Tensor:
        """Scores B×hw×2 for what `see` made of the pictures, one row per sentence."""
        words = self.words(text)
        value = self.value(words).unflatten(-1, (self.LOOKS, -1))
        asked = torch.einsum("bnl,bnlc->blc", self.look(words).softmax(1), value).flatten(1)
        things = _match(cells, self.thing(asked))
        there = (things.softmax(1)[..., None] * cells).sum(1)
        hands = _match(cells, self.hand(torch.cat([asked, there], -1)))
        return torch.stack([things, hands], -1)


class _FinderBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.space = Attention(width, heads)
        self.mlp = Mlp(width)

    def forward(self, x: Tensor, rotary: Tensor) -> Tensor:
        x = x + self.space(self.norms[0](x), rotary=rotary)
        return x + self.mlp(self.norms[1](x))


def _question(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(inputs), nn.Linear(inputs, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
    )


def _match(cells: Tensor, question: Tensor) -> Tensor:
    """Products B×hw of cells B×hw×C and a question B×C; scaled so that a fresh one learns at once."""
    return 8 * cells.shape[-1] ** -0.5 * (cells @ question[..., None])[..., 0]


def likelihood(scores: Tensor) -> Tensor:
    """Of a finder's scores B×h×w×2: how likely each cell is, in [0, 1] of the likeliest one."""
    chance = scores.flatten(1, 2).softmax(1)
    return (chance / chance.amax(1, keepdim=True)).view_as(scores)
