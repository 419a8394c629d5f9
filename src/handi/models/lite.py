"""LiteTransformer: the bundled model's noise predictor, called like HandiUNet and far cheaper.

Parts, all over the latents' cells:

1. the *finder*, where there is one, says which cells show the thing and the hands that the words mean;
2. the *reader* looks once a clip at the context latent, the motion area, the text and what was found;
3. the *mover* runs over the frames: every frame looks at itself, at the reader's scene (from where it fetches
   hands and things, wherever they were) and at the same place at other times.

experiments/mini/LOG.md says what else was tried. Inside, features are channels-last, B×F×h×w×C.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.loaders import PeftAdapterMixin
from torch import Tensor, nn
from torch.nn import functional as F

from handi.models.autoencoder import channels_last, zero_
from handi.poses import MAPS, pose_maps

# The only schedule that LiteTransformer is trained and sampled with.
SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    # The last step of the schedule is pure noise, so that training and sampling start from the same thing.
    "rescale_betas_zero_snr": True,
}

FUSED_FROM = 64  # tokens
POSE_DETAIL = 4  # pixels of a pose map along a cell's side


class LiteTransformer(ModelMixin, PeftAdapterMixin, ConfigMixin):
    """Predicts the clean latents (prediction type "sample") of a clip, B×C×F×h×w.

    Clips may have any number of frames and any size in whole latent cells.
    """

    _supports_gradient_checkpointing = True
    _repeated_blocks = (
        "_FinderBlock",
        "_ReaderBlock",
        "_MoverBlock",
    )  # what `compile_repeated_blocks` compiles

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 32,
        width: int = 320,
        heads: int = 5,
        reader_depth: int = 4,
        mover_depth: int = 6,
        cross_attention_dim: int = 128,
        from_context: bool = True,
        clip_frames: int = 16,
        motion_mask: bool = True,
        mask_mode: str = "area",
        grounding: bool = False,
        poses: bool = False,
        area_only: bool = False,
    ) -> None:
        """width: features of a cell. from_context: predict the difference to the context latent (clips) in
        the place of the latents themselves (mask videos). clip_frames: that a whole clip has, the unit of its
        time. grounding: with a finder; `losses.grounding` trains it. poses: can be told where the hands are.
        area_only: what lies outside the motion area is the context and is not computed."""
        super().__init__()
        if area_only and not from_context:
            raise ValueError("area_only: outside the motion area there is nothing but the context")
        self.gradient_checkpointing = False
        self.pose_stem = _PoseStem(width) if poses else None
        self.finder = Finder(latent_channels, cross_attention_dim) if grounding else None
        self.reader = _Reader(latent_channels, width, heads, reader_depth, cross_attention_dim, grounding)
        self.mover = _Mover(latent_channels, width, heads, mover_depth, cross_attention_dim)
        self.residual = zero_(_Conv(width, latent_channels))

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        encoder_hidden_states: Tensor,
        *,
        condition_latent: Tensor,
        mask: Tensor | None = None,
        motion: Tensor | float | None = None,
        frame_index: Tensor | None = None,
        poses: Tensor | None = None,
        places: Tensor | None = None,
        return_grounding: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Clean latents for `sample`, B×C×F×h×w.

        timestep a number or B; encoder_hidden_states B×N×D text; condition_latent B×C×1×h×w latent of the
        context image; mask B×1×1×h×w in [0, 1], the share of each cell that is in the motion area (None:
        all of it); motion is accepted and not read; frame_index B×F, which frames of the whole clip these
        are (default: the first F). poses B×F×42×2, the hands' joints, those of the context image first (None:
        not known). places B×P, the cells that are computed with area_only (default: each clip's area; in
        training any number, the same for all, so that a batch is one tensor). return_grounding: also give the
        finder's scores B×2×h×w, see `losses.grounding`. Raises: ValueError for those of a network without
        one.
        """
        batch, _, frames, height, width = sample.shape
        dtype, device = self.dtype, sample.device
        time = torch.as_tensor(timestep, device=device).reshape(-1).expand(batch)
        if frame_index is None:
            frame_index = torch.arange(frames, device=device).expand(batch, frames)
        text = encoder_hidden_states.to(dtype)
        context = condition_latent.to(dtype).permute(0, 2, 3, 4, 1)  #                       B×1×h×w×C
        if mask is None or not self.config.motion_mask:
            mask = context.new_ones(batch, 1, 1, height, width)
        area = mask.to(dtype).expand(batch, 1, 1, height, width).permute(0, 2, 3, 4, 1)  #   B×1×h×w×1
        noisy = sample.to(dtype).permute(0, 2, 3, 4, 1)  #                                   B×F×h×w×C

        scores = None if self.finder is None else self.finder(context[:, 0], text)  #       B×h×w×2
        shown = None
        if self.pose_stem is not None and poses is not None:
            shown = self.pose_stem(poses, (height, width), dtype)  #                             B×F×h×w×192
        scene = self.reader(context, area, text, scores, self._run, self._seen(shown, "scene"))
        moment = self.mover.moment(time, frame_index / self.config.clip_frames, text)  #     B×F×C
        given = noisy, context, scene, moment, frame_index, self._seen(shown, "frames")
        if not self.config.area_only:
            result = self.residual(self.mover(*given, None, self._run))
        elif places is not None:
            result = self._in_places(given, places)
        else:
            result = self._in_area(given, area)
        if self.config.from_context:
            result = context + result
        result = result.permute(0, 4, 1, 2, 3)
        if not return_grounding:
            return result
        if scores is None:
            raise ValueError("this network has no finder")
        return result, scores.permute(0, 3, 1, 2)

    def _seen(self, shown: Tensor | None, where: str) -> Tensor | None:
        """What the poses add to the scene (those of the context image) or to the frames, B×F×h×w×C."""
        if self.pose_stem is None or shown is None:
            return None
        return self.pose_stem.scene(shown[:, :1]) if where == "scene" else self.pose_stem.frames(shown)

    def _in_places(self, given: tuple[Any, ...], places: Tensor) -> Tensor:
        """The difference to the context at B×P cells, nothing elsewhere: B×F×h×w×C."""
        noisy = given[0]
        features = self.mover(*given, places, self._run)  #                                  B×F×P×C
        batch, frames, height, width, _ = noisy.shape
        index = places[:, None, :, None].expand_as(features)
        whole = features.new_zeros(batch, frames, height * width, features.shape[-1])
        result = self.residual(whole.scatter(2, index, features).unflatten(2, (height, width)))
        there = torch.zeros(batch, 1, height * width, 1, dtype=result.dtype, device=result.device)
        there = there.scatter(2, places[:, None, :, None], 1.0)
        return result * there.unflatten(2, (height, width))

    def _in_area(self, given: tuple[Any, ...], area: Tensor) -> Tensor:
        """As `_in_places`, for the cells of each clip's own area; clips with as many cells run together."""
        inside = area.flatten(1) > 0  #                                                      B×hw
        counts = inside.sum(1)
        result = torch.zeros_like(given[0])
        for count in counts.unique().tolist():
            rows = (counts == count).nonzero()[:, 0]
            if count:
                places = inside[rows].nonzero()[:, 1].view(len(rows), count)
                some = tuple(None if part is None else part[rows] for part in given)
                result[rows] = self._in_places(some, places).to(result)
        return result

    def _run(self, block: nn.Module, *inputs: Any) -> Tensor:
        if torch.is_grad_enabled() and self.gradient_checkpointing:
            return self._gradient_checkpointing_func(block, *inputs)
        return block(*inputs)


# ------------------------------------------------------------------------------------------- finder


class Finder(nn.Module):
    """Which cells show the thing, and the hands, that the words mean.

    Picture and words are read apart and meet in a product: a cell's features with what the words ask for. So
    one look at a picture answers any number of sentences, and that a word has to match a cell is given, not
    learned; experiments/mini/LOG.md says how much better that is than a reader that attends to the words. The
    hands are asked for second, by words and by what the thing is and where: which hand acts depends on it.
    """

    WIDTH, HEADS, DEPTH, LOOKS = 128, 4, 3, 8

    def __init__(self, channels: int, text: int) -> None:
        super().__init__()
        width = self.WIDTH
        self.stem = _Conv(channels, width)
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
        x = (x + _grid(x))[:, 0].flatten(1, 2)
        turns = _turns_of_place(context.shape[1:3], x, self.HEADS)
        for block in self.blocks:
            x = block(x, turns)
        return self.norm(x)

    def answer(self, cells: Tensor, text: Tensor) -> Tensor:
        """Scores B×hw×2 for what `see` made of the pictures, a row a sentence."""
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
        self.space = _Attention(width, heads)
        self.mlp = _Mlp(width)

    def forward(self, x: Tensor, turns: Tensor) -> Tensor:
        x = x + self.space(self.norms[0](x), turns=turns)
        return x + self.mlp(self.norms[1](x))


def _question(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(inputs), nn.Linear(inputs, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
    )


def _match(cells: Tensor, question: Tensor) -> Tensor:
    """Products B×hw of cells B×hw×C and a question B×C; scaled so that a fresh one learns at once."""
    return 8 * cells.shape[-1] ** -0.5 * (cells @ question[..., None])[..., 0]


def likeliness(scores: Tensor) -> Tensor:
    """Of a finder's scores B×h×w×2: how likely each cell is, in [0, 1] of the likeliest one."""
    chance = scores.flatten(1, 2).softmax(1)
    return (chance / chance.amax(1, keepdim=True)).view_as(scores)


# ------------------------------------------------------------------------------------ reader and mover


class _Reader(nn.Module):
    """The scene: context, area, text and what a finder scored → features of one frame, B×1×h×w×C."""

    def __init__(
        self, channels: int, width: int, heads: int, depth: int, text: int, found: bool = False
    ) -> None:
        super().__init__()
        self.heads = heads
        self.stem = _Conv(channels + 1, width)
        self.found = nn.Linear(2, width, bias=False) if found else None
        self.blocks = nn.ModuleList(_ReaderBlock(width, heads, text) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(
        self,
        context: Tensor,
        area: Tensor,
        text: Tensor,
        scores: Tensor | None,
        run: Any,
        poses: Tensor | None = None,
    ) -> Tensor:
        x = self.stem(torch.cat([context, area], -1))
        x = x + _grid(x)
        if poses is not None:
            x = x + poses
        if self.found is not None and scores is not None:
            x = x + self.found(likeliness(scores))[:, None]
        turns = _turns_of_place(x.shape[2:4], x, self.heads)
        for block in self.blocks:
            x = run(block, x, text, turns)
        return self.norm(x)


class _PoseStem(nn.Module):
    """Where the hands are, as features of the cells; begins at zero, so that a network learns it anew."""

    def __init__(self, width: int) -> None:
        super().__init__()
        seen = MAPS * POSE_DETAIL**2
        self.frames = zero_(nn.Linear(seen, width))
        self.scene = zero_(nn.Linear(seen, width))

    def forward(self, joints: Tensor, cells: tuple[int, int], dtype: torch.dtype) -> Tensor:
        """Pose maps of joints B×F×42×2 by cells: B×F×h×w×192."""
        height, width = cells
        maps = pose_maps(joints, (POSE_DETAIL * height, POSE_DETAIL * width))
        return F.pixel_unshuffle(maps, POSE_DETAIL).movedim(2, -1).to(dtype)


class _Mover(nn.Module):
    """The frames: x_t and the scene → features of every frame, B×F×h×w×C."""

    def __init__(self, channels: int, width: int, heads: int, depth: int, text: int) -> None:
        super().__init__()
        self.heads = heads
        self.time = nn.Sequential(nn.Linear(128, width), nn.SiLU(), nn.Linear(width, width))
        self.frame = nn.Sequential(nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width))
        self.text = nn.Linear(text, width)
        self.stem = nn.Linear(2 * channels, width)
        # One projection of the moment for all blocks (PixArt's adaLN-single): each block only adds its own
        # constants, as a projection a block would be a third of all weights.
        self.modulate = zero_(nn.Linear(width, _MoverBlock.PARTS * 3 * width))
        self.blocks = nn.ModuleList(_MoverBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def moment(self, time: Tensor, frame: Tensor, text: Tensor) -> Tensor:
        """What the blocks are modulated by, from the timestep B, the frames' times B×F and the text B×N×D."""
        dtype = text.dtype
        clip = self.time(_sinusoid(time, 128, 1e-4, 1.0).to(dtype)) + self.text(text.mean(1))  # B×C
        return F.silu(clip[:, None] + self.frame(_sinusoid(frame, 64, 1.0, 64.0).to(dtype)))  # B×F×C

    def forward(
        self,
        noisy: Tensor,
        context: Tensor,
        scene: Tensor,
        moment: Tensor,
        frame_index: Tensor,
        poses: Tensor | None,
        places: Tensor | None,
        run: Any,
    ) -> Tensor:
        """Features of all cells, B×F×h×w×C, or of the cells B×P of `places`, B×F×P×C."""
        place = every = _turns_of_place(noisy.shape[2:4], scene, self.heads)
        whole = scene.flatten(2, 3)  #                                                       B×1×hw×C
        if places is not None:
            place = every[places][:, None]  #                                                B×1×P×2×…

        def cells(part: Tensor) -> Tensor:
            return part.flatten(2, 3) if places is None else _picked(part.flatten(2, 3), places)

        given = cells(noisy)
        x = self.stem(torch.cat([given, cells(context).expand_as(given)], -1)) + cells(scene)
        if poses is not None:
            x = x + cells(poses)
        when = _turns([frame_index.float()], x, self.heads)[:, None]  #            B×1×F×…
        modulation = self.modulate(moment)
        for block in self.blocks:
            x = run(block, x, whole, modulation, (place, every), when)
        x = self.norm(x)
        return x.unflatten(2, scene.shape[2:4]) if places is None else x


class _ReaderBlock(nn.Module):
    """Attention over the picture and to the text, and an MLP, for one frame."""

    def __init__(self, width: int, heads: int, text: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.space = _Attention(width, heads)
        self.read = _Attention(width, heads, source=text)
        self.mlp = _Mlp(width)

    def forward(self, x: Tensor, text: Tensor, turns: Tensor) -> Tensor:
        x = x + self.space(self.norms[0](x).flatten(2, 3), turns=turns).view_as(x)
        x = x + self.read(self.norms[1](x).flatten(2, 3), text[:, None]).view_as(x)
        return x + self.mlp(self.norms[2](x))


class _MoverBlock(nn.Module):
    """Attention over a frame and its scene, attention over time at each place, and an MLP, modulated."""

    PARTS = 3

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.table = nn.Parameter(torch.zeros(self.PARTS * 3 * width))  # this block's share of the modulation
        self.space = _Attention(width, heads, source=width)
        self.time = _Attention(width, heads)
        self.mlp = _Mlp(width)

    def forward(
        self,
        x: Tensor,
        scene: Tensor,
        modulation: Tensor,
        place: tuple[Tensor, Tensor],
        when: Tensor,
    ) -> Tensor:
        """x B×F×P×C, scene B×1×hw×C, modulation B×F×…; place: turns of x's cells and of the scene's."""
        values = (modulation + self.table.to(modulation))[:, :, None].chunk(3 * self.PARTS, -1)  # B×F×1×C
        shift, scale, gate = values[:3]
        x = x + (1 + gate) * self.space(self._enter(x, shift, scale), scene, turns=place[0], others=place[1])
        shift, scale, gate = values[3:6]
        y = self._enter(x, shift, scale).transpose(1, 2)  #                                    B×P×F×C
        x = x + (1 + gate) * self.time(y, turns=when).transpose(1, 2)
        shift, scale, gate = values[6:]
        return x + (1 + gate) * self.mlp(self._enter(x, shift, scale))

    def _enter(self, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        return self.norm(x) * (1 + scale) + shift


class _Attention(nn.Module):
    """Multi-head attention over the second last dimension of … × tokens × width.

    source: width of other tokens to look at; where it is the tokens' own, they look at each other too. turns:
    of the tokens' places (rotary embedding): what is the same number of cells away looks the same everywhere;
    others: those of the other tokens' places, where they are not the same.
    The output starts at zero: a new block changes nothing.
    """

    def __init__(self, width: int, heads: int, source: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(source or width, 2 * width, bias=False)
        self.own = nn.Linear(width, 2 * width, bias=False) if source == width else None
        self.query_norm, self.key_norm = (nn.RMSNorm(width // heads, eps=1e-6) for _ in range(2))
        self.out = zero_(nn.Linear(width, width))

    def forward(
        self,
        x: Tensor,
        source: Tensor | None = None,
        *,
        turns: Tensor | None = None,
        others: Tensor | None = None,
    ) -> Tensor:
        query = self.query_norm(self._heads(self.query(x)))
        key, value = self._keys(self.key_value, x if source is None else source)
        if turns is not None:
            query, key = _turned(query, turns), _turned(key, turns if others is None else others)
        if self.own is not None:
            own_key, own_value = self._keys(self.own, x)
            own_key = own_key if turns is None else _turned(own_key, turns)
            many = own_key.shape[:-2]
            key = torch.cat([own_key, key.expand(*many, -1, -1)], -2)
            value = torch.cat([own_value, value.expand(*many, -1, -1)], -2)
        # Under autocast the norms answer in float32: it is the values' precision that is computed in.
        return self.out(_attend(query.to(value), key.to(value), value).transpose(-2, -3).flatten(-2))

    def _keys(self, project: nn.Module, source: Tensor) -> tuple[Tensor, Tensor]:
        key, value = (self._heads(part) for part in project(source).chunk(2, -1))
        return self.key_norm(key), value

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(-2, -3)


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(q·k) v over … × tokens × features.

    Torch's fused kernel serves many tokens on a GPU, and on a CPU where no gradient is asked for. Else, and
    with tokens by the dozen anywhere (a clip's frames), it is slower than what is written out here.
    """
    fused = query.device.type == "cuda" or not torch.is_grad_enabled()
    if fused and query.shape[-2] >= FUSED_FROM:
        lead = query.shape[:-2]
        key, value = key.expand(*lead, -1, -1), value.expand(*lead, -1, -1)
        query, key, value = (part.reshape(-1, *part.shape[-3:]) for part in (query, key, value))
        return F.scaled_dot_product_attention(query, key, value).unflatten(0, lead[:-1])
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    return scores.softmax(-1) @ value


class _Mlp(nn.Sequential):
    def __init__(self, width: int) -> None:
        super().__init__(
            nn.Linear(width, 3 * width), nn.GELU(approximate="tanh"), zero_(nn.Linear(3 * width, width))
        )


class _Conv(nn.Module):
    """A 3×3 convolution over each frame of B×F×h×w×C."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        channels_last(self)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x.flatten(0, 1).permute(0, 3, 1, 2))
        return y.permute(0, 2, 3, 1).unflatten(0, x.shape[:2])


# --------------------------------------------------------------------------------------------- helpers


def _picked(x: Tensor, places: Tensor) -> Tensor:
    """The cells B×P of x B×F×hw×C: B×F×P×C."""
    return x.gather(2, places[:, None, :, None].expand(-1, x.shape[1], -1, x.shape[3]))


def _turns_of_place(cells: Sequence[int], like: Tensor, heads: int) -> Tensor:
    """Angles by which the features of the cells of an h×w picture are turned: hw×2×(features/2)."""
    down, across = (torch.arange(count, device=like.device).float() for count in cells)
    return _turns([part.flatten() for part in torch.meshgrid(down, across, indexing="ij")], like, heads)


def _turns(places: Sequence[Tensor], like: Tensor, heads: int) -> Tensor:
    """Cosines and sines of a head's features at places …: …×2×(features/2), an equal share a coordinate."""
    half = like.shape[-1] // heads // 2
    shares = [half // len(places)] * (len(places) - 1)
    shares.append(half - sum(shares))
    angles = torch.cat(
        [
            place[..., None] * torch.logspace(-1.5, 0.2, share, device=like.device)
            for place, share in zip(places, shares, strict=True)
        ],
        -1,
    )
    return torch.stack([angles.cos(), angles.sin()], -2).to(like.dtype)


def _turned(x: Tensor, turns: Tensor) -> Tensor:
    """Rotary embedding: x …×heads×tokens×features, turns …×tokens×2×(features/2)."""
    cosine, sine = (turns.unsqueeze(-4) if turns.dim() > 3 else turns).unbind(-2)
    first, second = x.chunk(2, -1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], -1)


def _grid(x: Tensor) -> Tensor:
    """Sinusoids of the place, h×w×C for x B×F×h×w×C, over the picture whatever its size."""
    height, width, channels = x.shape[2:]
    down = _sinusoid((torch.arange(height, device=x.device) + 0.5) / height, channels // 2, 1.0, 32.0)
    across = _sinusoid((torch.arange(width, device=x.device) + 0.5) / width, channels // 2, 1.0, 32.0)
    both = [down[:, None].expand(-1, width, -1), across[None].expand(height, -1, -1)]
    return torch.cat(both, -1).to(x.dtype)


def _sinusoid(x: Tensor, width: int, low: float, high: float) -> Tensor:
    """… → … × width: cosines and sines of x at frequencies from `low` to `high`, in radians times π/2."""
    octaves = torch.linspace(math.log(low), math.log(high), width // 2, device=x.device)
    angles = x[..., None].float() * octaves.exp() * (math.pi / 2)
    return torch.cat([angles.cos(), angles.sin()], -1)
