"""LiteTransformer: the bundled model's noise predictor, called like HandiUNet and far cheaper.

Parts, all over the latents' cells:

1. the *finder*, where there is one, says which cells show the thing and the hands that the words mean;
2. the *reader* looks once per clip at the context latent, the motion area, the text and what was found;
3. the *mover* runs over the frames: every frame looks at itself, at the reader's scene (from where it fetches
   hands and things, wherever they were) and at the same place at other times.

experiments/mini/LOG.md says what else was tried. Inside, features are channels-last, B×F×h×w×C.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.loaders import PeftAdapterMixin
from torch import Tensor, nn
from torch.nn import functional as F

from handi.method.poses import SEEN, pose_cells
from handi.models.attention import Attention, Conv, Mlp, grid, rotary_at, rotary_of_cells, sinusoid
from handi.models.autoencoder import zero_
from handi.models.backbone import Traits
from handi.models.finder import Finder, likelihood

# The only schedule that LiteTransformer is trained and sampled with.
SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    # The last step of the schedule is pure noise, so that training and sampling start from the same thing.
    "rescale_betas_zero_snr": True,
}


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
        time. grounding: it has a finder, which `losses.grounding` trains. poses: it reads the hands' poses.
        area_only: what lies outside the motion area is the context and is not computed."""
        super().__init__()
        if area_only and not from_context:
            raise ValueError("area_only: outside the motion area there is nothing but the context")
        self.gradient_checkpointing = False
        self.pose_stem = _PoseStem(width) if poses else None
        self.finder = Finder(latent_channels, cross_attention_dim) if grounding else None
        self.reader = _Reader(latent_channels, width, heads, reader_depth, cross_attention_dim, grounding)
        self.mover = _Mover(latent_channels, width, heads, mover_depth, cross_attention_dim)
        self.residual = zero_(Conv(width, latent_channels))

    @property
    def traits(self) -> Traits:
        """What a step or a pipeline must know of the network."""
        config = self.config
        return Traits(
            mask=config.motion_mask,
            poses=config.poses,
            one_mask=not config.from_context,
            cells=config.area_only,
        )

    @property
    def mask_mode(self) -> str:
        """How a motion area becomes the mask's cells, see `latents.mask_cells`."""
        return self.config.mask_mode

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


# ------------------------------------------------------------------------------------ reader and mover


class _Reader(nn.Module):
    """The scene: context, area, text and what a finder scored → features of one frame, B×1×h×w×C."""

    def __init__(
        self, channels: int, width: int, heads: int, depth: int, text: int, found: bool = False
    ) -> None:
        super().__init__()
        self.heads = heads
        self.stem = Conv(channels + 1, width)
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
        x = x + grid(x)
        if poses is not None:
            x = x + poses
        if self.found is not None and scores is not None:
            x = x + self.found(likelihood(scores))[:, None]
        rotary = rotary_of_cells(x.shape[2:4], x, self.heads)
        for block in self.blocks:
            x = run(block, x, text, rotary)
        return self.norm(x)


class _PoseStem(nn.Module):
    """Where the hands are, as features of the cells; begins at zero, so that a network learns it anew."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.frames = zero_(nn.Linear(SEEN, width))
        self.scene = zero_(nn.Linear(SEEN, width))

    def forward(self, joints: Tensor, cells: tuple[int, int], dtype: torch.dtype) -> Tensor:
        """Pose maps of joints B×F×42×2 by cells: B×F×h×w×192."""
        return pose_cells(joints, cells).movedim(2, -1).to(dtype)


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
        # constants, as one projection per block would be a third of all weights.
        self.modulate = zero_(nn.Linear(width, _MoverBlock.PARTS * 3 * width))
        self.blocks = nn.ModuleList(_MoverBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def moment(self, time: Tensor, frame: Tensor, text: Tensor) -> Tensor:
        """What the blocks are modulated by, from the timestep B, the frames' times B×F and the text B×N×D."""
        dtype = text.dtype
        clip = self.time(sinusoid(time, 128, 1e-4, 1.0).to(dtype)) + self.text(text.mean(1))  # B×C
        return F.silu(clip[:, None] + self.frame(sinusoid(frame, 64, 1.0, 64.0).to(dtype)))  # B×F×C

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
        place = every = rotary_of_cells(noisy.shape[2:4], scene, self.heads)
        whole = scene.flatten(2, 3)  #                                                       B×1×hw×C
        if places is not None:
            place = every[places][:, None]  #                                                B×1×P×2×…

        def cells(part: Tensor) -> Tensor:
            return part.flatten(2, 3) if places is None else _picked(part.flatten(2, 3), places)

        given = cells(noisy)
        x = self.stem(torch.cat([given, cells(context).expand_as(given)], -1)) + cells(scene)
        if poses is not None:
            x = x + cells(poses)
        when = rotary_at([frame_index.float()], x, self.heads)[:, None]  #            B×1×F×…
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
        self.space = Attention(width, heads)
        self.read = Attention(width, heads, source=text)
        self.mlp = Mlp(width)

    def forward(self, x: Tensor, text: Tensor, rotary: Tensor) -> Tensor:
        x = x + self.space(self.norms[0](x).flatten(2, 3), rotary=rotary).view_as(x)
        x = x + self.read(self.norms[1](x).flatten(2, 3), text[:, None]).view_as(x)
        return x + self.mlp(self.norms[2](x))


class _MoverBlock(nn.Module):
    """Attention over a frame and its scene, attention over time at each place, and an MLP, modulated."""

    PARTS = 3

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.table = nn.Parameter(torch.zeros(self.PARTS * 3 * width))  # this block's share of the modulation
        self.space = Attention(width, heads, source=width)
        self.time = Attention(width, heads)
        self.mlp = Mlp(width)

    def forward(
        self,
        x: Tensor,
        scene: Tensor,
        modulation: Tensor,
        place: tuple[Tensor, Tensor],
        when: Tensor,
    ) -> Tensor:
        """x B×F×P×C, scene B×1×hw×C, modulation B×F×…; place: rotary of x's cells and of the scene's."""
        values = (modulation + self.table.to(modulation))[:, :, None].chunk(3 * self.PARTS, -1)  # B×F×1×C
        shift, scale, gate = values[:3]
        x = x + (1 + gate) * self.space(
            self._enter(x, shift, scale), scene, rotary=place[0], source_rotary=place[1]
        )
        shift, scale, gate = values[3:6]
        y = self._enter(x, shift, scale).transpose(1, 2)  #                                    B×P×F×C
        x = x + (1 + gate) * self.time(y, rotary=when).transpose(1, 2)
        shift, scale, gate = values[6:]
        return x + (1 + gate) * self.mlp(self._enter(x, shift, scale))

    def _enter(self, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        return self.norm(x) * (1 + scale) + shift


def _picked(x: Tensor, places: Tensor) -> Tensor:
    """The cells B×P of x B×F×hw×C: B×F×P×C."""
    return x.gather(2, places[:, None, :, None].expand(-1, x.shape[1], -1, x.shape[3]))
