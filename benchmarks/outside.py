"""What a video transformer saves by not computing the tokens outside the motion area, which are known.

    python -m benchmarks.outside            # FLOPs of the published sizes, counted without weights
    python -m benchmarks.outside --answers  # how much a small random network's clips change

Three ways, for the networks of Wan 2.2 TI2V-5B and LTX-Video as diffusers has them:

    keep    all tokens are computed in every step: what handi does
    reuse   in one step of a group all tokens are computed, and the keys and values of the outside are kept;
            in the others the tokens of the area alone are computed, and attend to those that were kept
    rim     tokens farther from the area than a rim are dropped; of the first frame all stay

Only `keep` is exact: what is known is the input of the outside, and its states in the network change with
the area's. Random weights tell nothing of how a clip looks.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from unittest import mock

import torch
from diffusers import LTXVideoTransformer3DModel, WanTransformer3DModel
from torch import Tensor
from torch.nn import functional as F

from handi.models.published import shapes_for
from handi.training.counting import flop_counter

SHARES = (0.1, 0.25, 0.5)
GROUPS = (2, 4, 8)
RIMS = (1, 3)
STEPS = 8
Kept = dict[int, tuple[Tensor, Tensor]]  # keys and values B×heads×tokens×D of each block


@dataclass(frozen=True)
class Grid:
    """The tokens of a clip, and a motion area in the middle of it."""

    frames: int
    height: int
    width: int
    share: float  # of a frame

    def area(self, rim: int = 0) -> Tensor:
        """height×width bool: the area, and so many tokens around it."""
        inside = torch.zeros(self.height, self.width, dtype=torch.bool)
        rows, columns = (max(1, round(side * self.share**0.5)) for side in (self.height, self.width))
        top, left = (self.height - rows) // 2, (self.width - columns) // 2
        inside[max(0, top - rim) : top + rows + rim, max(0, left - rim) : left + columns + rim] = True
        return inside

    def free(self) -> Tensor:
        """frames×height×width bool: what is generated; the first frame is known."""
        inside = self.area().expand(self.frames, -1, -1).clone()
        inside[0] = False
        return inside

    def near(self, rim: int) -> Tensor:
        """frames×height×width bool: the area with its rim, and the whole first frame."""
        inside = self.area(rim).expand(self.frames, -1, -1).clone()
        inside[0] = True
        return inside


# -------------------------------------------------------------------------------------------- the ways


def blocks_of(network: Any) -> Any:
    """The layers that a network repeats."""
    return network.blocks if hasattr(network, "blocks") else network.transformer_blocks


@contextmanager
def attending(network: Any, change: Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]]) -> Iterator[None]:
    """Within it `change(block, key, value)` says what the self-attention of each block looks at."""
    now: list[int] = []
    real = F.scaled_dot_product_attention

    def attention(query: Tensor, key: Tensor, value: Tensor, *more: Any, **named: Any) -> Tensor:
        if now:
            key, value = change(now[-1], key, value)
        return real(query, key, value, *more, **named)

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(F, "scaled_dot_product_attention", attention))
        for number, block in enumerate(blocks_of(network)):
            before = block.attn1.register_forward_pre_hook(lambda *_, number=number: now.append(number))
            after = block.attn1.register_forward_hook(lambda *_: now.clear())
            stack.callback(before.remove)
            stack.callback(after.remove)
        yield


@contextmanager
def recording(network: Any, outside: Tensor) -> Iterator[Kept]:
    """All tokens are computed; gives the keys and values of the tokens `outside`."""
    kept: Kept = {}

    def record(block: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        kept[block] = key[:, :, outside], value[:, :, outside]
        return key, value

    with attending(network, record):
        yield kept


@contextmanager
def only(network: Any, places: Tensor, total: int, kept: Kept | None = None) -> Iterator[None]:
    """The tokens `places` of `total` are computed alone; what a network answers elsewhere means nothing.

    kept: of `recording`, the others' keys and values; None: the others are not there.
    """

    def gathered(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(gathered, value))
        alike = isinstance(value, Tensor) and value.ndim > 2 and value.shape[1] == total
        return value[:, places] if alike else value

    def gather(block: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        return tuple(map(gathered, arguments)), {name: gathered(value) for name, value in named.items()}

    def scatter(block: Any, arguments: tuple[Any, ...], answer: Tensor) -> Tensor:
        return answer.new_zeros(len(answer), total, answer.shape[-1]).index_copy(1, places, answer)

    def join(block: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        if kept is None:
            return key, value
        return torch.cat([key, kept[block][0]], 2), torch.cat([value, kept[block][1]], 2)

    with ExitStack() as stack:
        stack.enter_context(attending(network, join))
        for block in blocks_of(network):
            stack.callback(block.register_forward_pre_hook(gather, with_kwargs=True).remove)
        stack.callback(blocks_of(network)[-1].register_forward_hook(scatter).remove)
        yield


# ------------------------------------------------------------------------------------------ networks


class Network:
    """A transformer and how it is called, for latents 1×C×f×h×w of which some tokens are known."""

    def __init__(self, transformer: Any) -> None:
        self.transformer = transformer.eval()
        self.wan = isinstance(transformer, WanTransformer3DModel)
        self.patch = 2 if self.wan else 1
        config = transformer.config
        self.channels = config.in_channels
        self.text = (512, config.text_dim) if self.wan else (128, config.caption_channels)

    def shape(self, grid: Grid) -> tuple[int, ...]:
        """Of latents."""
        return 1, self.channels, grid.frames, grid.height * self.patch, grid.width * self.patch

    @torch.no_grad()
    def __call__(self, x: Tensor, level: float, free: Tensor, text: Tensor) -> Tensor:
        """noise − x0; free f×h×w bool of tokens, the others are at timestep 0."""
        times = (1000 * level * free.to(x)).flatten()[None]
        if self.wan:
            return self.transformer(x, times, text, return_dict=False)[0]
        f, h, w = free.shape
        there = torch.ones(1, text.shape[1], dtype=x.dtype, device=x.device)
        tokens = x.flatten(2).mT
        scale = (8 / 25, 32, 32)
        answer = self.transformer(tokens, text, times, there, f, h, w, scale, return_dict=False)[0]
        return answer.mT.unflatten(2, (f, h, w))


def count(network: Network, grid: Grid, places: Tensor | None, kept: bool) -> int:
    """FLOPs of one call; places: the tokens that are computed, None: all."""
    device = "meta"
    x, text = torch.empty(network.shape(grid), device=device), torch.empty(1, *network.text, device=device)
    free = torch.empty(grid.frames, grid.height, grid.width, dtype=torch.bool, device=device)
    total = free.numel()
    with flop_counter() as flops, ExitStack() as stack:
        if places is not None:
            transformer = network.transformer
            others = torch.empty(total - len(places), dtype=torch.int64, device=device)
            known = None
            if kept:
                heads = transformer.config.num_attention_heads
                state = torch.empty(
                    1, heads, len(others), transformer.config.attention_head_dim, device=device
                )
                known = dict.fromkeys(range(len(blocks_of(transformer))), (state, state))
            stack.enter_context(only(transformer, places.to(device), total, known))
        network(x, 1.0, free, text)
    return flops.get_total_flops()


def sampled(network: Network, grid: Grid, group: int = 1, rim: int | None = None) -> tuple[Tensor, Tensor]:
    """(noise, clip) of a few steps of Euler from seeded noise; outside the area seeded latents are known."""
    rng = torch.Generator().manual_seed(1)
    known, x = (torch.randn(network.shape(grid), generator=rng) for _ in range(2))
    text = torch.randn(1, *network.text, generator=rng)
    free, start, kept = grid.free(), x, None
    inside, outside = free.flatten().nonzero()[:, 0], (~free).flatten().nonzero()[:, 0]
    cells = free.repeat_interleave(network.patch, 1).repeat_interleave(network.patch, 2)
    levels = torch.linspace(1, 0, STEPS + 1).tolist()
    for step, (level, after) in enumerate(pairwise(levels)):
        x = torch.where(cells, x, known)
        with ExitStack() as stack:
            if rim is not None:
                near = grid.near(rim).flatten().nonzero()[:, 0]
                stack.enter_context(only(network.transformer, near, free.numel()))
            elif step % group == 0:
                kept = stack.enter_context(recording(network.transformer, outside))
            else:
                stack.enter_context(only(network.transformer, inside, free.numel(), kept))
            x = x + (after - level) * network(x, level, free, text)
    return start[:, :, cells], x[:, :, cells]


# --------------------------------------------------------------------------------------------- tables


def costs() -> None:
    """FLOPs of each way as a share of `keep`."""
    for word, frames, height, width in (("wan", 13, 15, 26), ("ltx", 7, 16, 22)):
        name, parts = shapes_for(word)
        network = Network(parts.unet)
        print(f"\n{name}, {frames}×{height}×{width} tokens")
        for share in SHARES:
            grid = Grid(frames, height, width, share)
            inside = grid.free().flatten().nonzero()[:, 0]
            whole, part = count(network, grid, None, False), count(network, grid, inside, True)
            rows = {f"reuse, groups of {group}": (whole + (group - 1) * part) / group for group in GROUPS}
            for rim in RIMS:
                near = grid.near(rim).flatten().nonzero()[:, 0]
                rows[f"rim of {rim}"] = count(network, grid, near, False)
            print(f"area {grid.area().float().mean():.0%} of a frame, keep: {whole / 1e12:.1f} TFLOP a call")
            for row, flops in rows.items():
                print(f"  {row:20} {flops / whole:.0%}")


def small_networks() -> dict[str, Network]:
    """Networks of both kinds with seeded random weights."""
    torch.manual_seed(0)
    sizes = {"num_attention_heads": 4, "attention_head_dim": 24, "num_layers": 6}
    wan = WanTransformer3DModel(in_channels=8, out_channels=8, text_dim=32, freq_dim=64, ffn_dim=384, **sizes)
    ltx = LTXVideoTransformer3DModel(
        in_channels=8, out_channels=8, caption_channels=32, cross_attention_dim=96, **sizes
    )
    return {"Wan": Network(wan), "LTX": Network(ltx)}


def answers() -> None:
    """How far each way's clip is from that of `keep`, as a share of how far sampling went."""
    for name, network in small_networks().items():
        for share in SHARES:
            grid = Grid(5, 8, 10, share)
            start, exact = sampled(network, grid)
            print(f"\n{name}, small and random, area {grid.area().float().mean():.0%} of a frame")
            ways: dict[str, dict[str, int]] = {
                f"reuse, groups of {group}": {"group": group} for group in GROUPS
            }
            ways |= {f"rim of {rim}": {"rim": rim} for rim in RIMS}
            for way, options in ways.items():
                other = sampled(network, grid, **options)[1]
                print(f"  {way:20} {(other - exact).norm() / (exact - start).norm():.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--answers", action="store_true", help="compare clips, and not FLOPs")
    answers() if parser.parse_args().answers else costs()
