"""LiteUNet: the bundled model's noise predictor, called like HandiUNet and far cheaper.

Three parts (docs/mini.md has what each is worth):

1. the *reader* looks once a clip at the context latent, the motion area and the text: what is where, and
   which of it is meant;
2. the *mover* runs over the frames at half the latents' size: where everything is at each time, given x_t;
3. *transport* (stage 2): instead of inventing a hand's pixels, the hands are cut out of the context image,
   moved by their bones and laid over a clean plate, and a residual adds what no transport can give. A mean of
   several motions is a sharp hand at the mean place, where a mean of several pictures is a blur.

Inside, features are channels-last, B×F×h×w×C.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from diffusers import ConfigMixin, DDPMScheduler, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn import functional as F

from handi.models.autoencoder import channels_last, zero_
from handi.models.transport import Transport, Transporter

# The only schedule that LiteUNet is trained and sampled with.
SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    # The last step of the schedule is pure noise, so that training and sampling start from the same thing.
    "rescale_betas_zero_snr": True,
}


class LiteUNet(ModelMixin, ConfigMixin):
    """Predicts the clean latents (prediction type "sample") of a clip, B×C×F×h×w.

    `moves_hands` switches transport on. Clips may have any number of frames and any size in whole latent
    cells with an even number of them a side.
    """

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 24,
        patch: int = 8,
        width: int = 64,
        inner_width: int = 192,
        heads: int = 6,
        reader_depth: int = 4,
        mover_depth: int = 5,
        cross_attention_dim: int = 128,
        moves_hands: bool = False,
        from_context: bool = True,
        clip_frames: int = 16,
        skip: float = 0.0,
        motion_mask: bool = True,
        mask_mode: str = "area",
    ) -> None:
        """width: features at the latents' size; inner_width: at half of it, where most of the work is done.
        from_context: without transport, predict the difference to the context latent (clips) instead of
        the latents themselves (mask videos). clip_frames: that a whole clip has, the unit of its time.
        skip: mean squared error of the network's own latents, by which x_t is let through (see `_blend`);
        0: x_t is only looked at."""
        super().__init__()
        self.gradient_checkpointing = False
        condition = inner_width
        self.time = nn.Sequential(nn.Linear(128, condition), nn.SiLU(), nn.Linear(condition, condition))
        self.frame = nn.Sequential(nn.Linear(64, condition), nn.SiLU(), nn.Linear(condition, condition))
        self.text = nn.Linear(cross_attention_dim, condition)
        self.reader = _Reader(
            latent_channels, width, inner_width, heads, reader_depth, cross_attention_dim, condition
        )
        self.mover = _Mover(latent_channels, width, inner_width, heads, mover_depth, condition)
        self.residual = zero_(nn.Linear(width, latent_channels))
        self.transport = Transporter(latent_channels, patch, width, inner_width) if moves_hands else None
        self.register_buffer("signal", signal_levels(), persistent=False)  # ᾱ by timestep

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
        details: bool = False,
    ) -> Tensor | tuple[Tensor, Transport | None]:
        """Clean latents for `sample`, B×C×F×h×w; with `details`, the transport beside them.

        timestep a number or B; encoder_hidden_states B×N×D text; condition_latent B×C×1×h×w latent of the
        context image; mask B×1×1×h×w in [0, 1], the share of each cell that is in the motion area (None:
        all of it); motion is accepted and not read; frame_index B×F, which frames of the whole clip these
        are (default: the first F).
        """
        batch, _, frames, height, width = sample.shape
        if height % 2 or width % 2:
            raise ValueError(f"latents of {height}×{width}: both must be even")
        dtype, device = self.dtype, sample.device
        time = torch.as_tensor(timestep, device=device).reshape(-1).expand(batch)
        if frame_index is None:
            frame_index = torch.arange(frames, device=device).expand(batch, frames)
        position = _sinusoid(frame_index / self.config.clip_frames, 64, 1.0, 64.0).to(dtype)
        text = encoder_hidden_states.to(dtype)
        clip = self.time(_sinusoid(time, 128, 1e-4, 1.0).to(dtype)) + self.text(text.mean(1))  # B×E
        moment = F.silu(clip[:, None] + self.frame(position))  #                             B×F×E
        clip = F.silu(clip)[:, None]  #                                                      B×1×E

        context = condition_latent.to(dtype).permute(0, 2, 3, 4, 1)  #                       B×1×h×w×C
        if mask is None or not self.config.motion_mask:
            mask = context.new_ones(batch, 1, 1, height, width)
        area = mask.to(dtype).expand(batch, 1, 1, height, width).permute(0, 2, 3, 4, 1)  #   B×1×h×w×1
        noisy = sample.to(dtype).permute(0, 2, 3, 4, 1)  #                                   B×F×h×w×C

        fine, coarse = self._run(self.reader, context, area, text, clip)
        features, places = self._run(self.mover, noisy, context, fine, coarse, moment)
        residual = self.residual(features).permute(0, 4, 1, 2, 3)  #                         B×C×F×h×w
        context = condition_latent.to(dtype)
        if self.transport is None:
            result, moved = (context + residual if self.config.from_context else residual), None
        else:
            moved, covered = self.transport(places, fine, context)
            # Where hands lie, the residual is held back while noise hides the truth: there it could only
            # blur them. The less noise is left, the more x_t knows better than the transport.
            noise = (time / 1000).to(dtype).view(-1, 1, 1, 1, 1)
            result = moved.latents + residual * (1 - noise * covered)
        if self.config.skip:
            result = self._blend(result, sample.to(dtype), time)
        return (result, moved) if details else result

    def _blend(self, predicted: Tensor, sample: Tensor, time: Tensor) -> Tensor:
        """x0 = c·x_t/√ᾱ + (1 − c)·predicted: of two guesses at the latents, each by its certainty.

        x_t/√ᾱ is off by σ²/ᾱ, the network by `skip`, so c = skip·ᾱ / (skip·ᾱ + σ²) (c_skip of EDM, whose
        data are what the network still has to add). At pure noise the network is alone, at the end it only
        corrects: it need not learn to copy x_t.
        """
        signal = self.signal.to(predicted)[time.long()].view(-1, 1, 1, 1, 1)
        share = self.config.skip * signal
        own = (1 - signal) / (share + 1 - signal)
        return self.config.skip * signal.sqrt() / (share + 1 - signal) * sample + own * predicted

    def _run(self, part: nn.Module, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        if torch.is_grad_enabled() and self.gradient_checkpointing:
            return self._gradient_checkpointing_func(part, *inputs)
        return part(*inputs)


# ------------------------------------------------------------------------------------ reader and mover


class _Reader(nn.Module):
    """The scene: context, area and text → features at both sizes, one frame."""

    def __init__(
        self, channels: int, width: int, inner: int, heads: int, depth: int, text: int, condition: int
    ) -> None:
        super().__init__()
        self.stem = _Conv(channels + 1, width)
        self.look = _ConvBlock(width, condition)
        self.down = nn.Linear(4 * width, inner)
        self.blocks = nn.ModuleList(_TextBlock(inner, heads, text, condition) for _ in range(depth))
        self.up = nn.Linear(inner, 4 * width)
        self.merge = _ConvBlock(width, condition)

    def forward(self, context: Tensor, area: Tensor, text: Tensor, clip: Tensor) -> tuple[Tensor, Tensor]:
        fine = self.look(self.stem(torch.cat([context, area], -1)), clip)
        coarse = self.down(_fold(fine))
        coarse = coarse + _grid(coarse)
        for block in self.blocks:
            coarse = block(coarse, text, clip)
        return self.merge(fine + _unfold(self.up(coarse)), clip), coarse


class _Mover(nn.Module):
    """The frames: x_t and the scene → features of every frame, at the latents' size and at half of it."""

    def __init__(self, channels: int, width: int, inner: int, heads: int, depth: int, condition: int) -> None:
        super().__init__()
        self.stem = nn.Linear(2 * channels, width)
        self.down = nn.Linear(4 * width, inner)
        self.blocks = nn.ModuleList(_SpaceTimeBlock(inner, heads, condition) for _ in range(depth))
        self.up = nn.Linear(inner, 4 * width)
        self.merge = _ConvBlock(width, condition)
        self.norm = nn.LayerNorm(width)

    def forward(
        self, noisy: Tensor, context: Tensor, fine: Tensor, coarse: Tensor, moment: Tensor
    ) -> tuple[Tensor, Tensor]:
        x = self.stem(torch.cat([noisy, context.expand_as(noisy)], -1)) + fine
        y = self.down(_fold(x)) + coarse
        for block in self.blocks:
            y = block(y, moment)
        return self.norm(self.merge(x + _unfold(self.up(y)), moment)), y


class _SpaceTimeBlock(nn.Module):
    """Attention over a frame, attention over time at each place, and an MLP, modulated by time and frame."""

    def __init__(self, width: int, heads: int, condition: int) -> None:
        super().__init__()
        self.modulate = _Modulation(width, condition, parts=3)
        self.space = _Attention(width, heads)
        self.time = _Attention(width, heads)
        self.mlp = _Mlp(width)

    def forward(self, x: Tensor, moment: Tensor) -> Tensor:
        batch, frames, height, width, channels = x.shape
        first, second, third = self.modulate(moment)
        y = first.enter(x).flatten(2, 3)  #                                     B×F×hw×C
        x = x + first.leave(self.space(y).view_as(x))
        y = second.enter(x).flatten(2, 3).transpose(1, 2)  #                    B×hw×F×C
        y = self.time(y).transpose(1, 2).reshape(batch, frames, height, width, channels)
        x = x + second.leave(y)
        return x + third.leave(self.mlp(third.enter(x)))


class _TextBlock(nn.Module):
    """Attention over the picture and to the text, and an MLP, for one frame."""

    def __init__(self, width: int, heads: int, text: int, condition: int) -> None:
        super().__init__()
        self.modulate = _Modulation(width, condition, parts=3)
        self.space = _Attention(width, heads)
        self.read = _Attention(width, heads, source=text)
        self.mlp = _Mlp(width)

    def forward(self, x: Tensor, text: Tensor, clip: Tensor) -> Tensor:
        first, second, third = self.modulate(clip)
        x = x + first.leave(self.space(first.enter(x).flatten(2, 3)).view_as(x))
        x = x + second.leave(self.read(second.enter(x).flatten(2, 3), text[:, None]).view_as(x))
        return x + third.leave(self.mlp(third.enter(x)))


class _ConvBlock(nn.Module):
    """Two 3×3 convolutions a frame, modulated."""

    def __init__(self, width: int, condition: int) -> None:
        super().__init__()
        self.modulate = _Modulation(width, condition, parts=1)
        self.conv1, self.conv2 = _Conv(width, width), _Conv(width, width)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        (part,) = self.modulate(condition)
        return x + part.leave(self.conv2(F.silu(self.conv1(part.enter(x)))))


class _Attention(nn.Module):
    """Multi-head attention over the second last dimension of … × tokens × width.

    Written out: with sixteen tokens or sixty-four, torch's fused kernel is slower than this on a CPU.
    """

    def __init__(self, width: int, heads: int, source: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(source or width, 2 * width, bias=False)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, source: Tensor | None = None) -> Tensor:
        key, value = self.key_value(x if source is None else source).chunk(2, -1)
        query, key, value = (self._heads(part) for part in (self.query(x), key, value))
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
        return self.out((scores.softmax(-1) @ value).transpose(-2, -3).flatten(-2))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(-2, -3)


class _Mlp(nn.Sequential):
    def __init__(self, width: int) -> None:
        super().__init__(
            nn.Linear(width, 3 * width), nn.GELU(approximate="tanh"), nn.Linear(3 * width, width)
        )


@dataclass(frozen=True)
class _Part:
    """Shift, scale and gate of one branch of a block (adaLN-zero), each B×F×1×1×C."""

    norm: nn.Module
    shift: Tensor
    scale: Tensor
    gate: Tensor

    def enter(self, x: Tensor) -> Tensor:
        return self.norm(x) * (1 + self.scale) + self.shift

    def leave(self, x: Tensor) -> Tensor:
        return x * self.gate


class _Modulation(nn.Module):
    """Condition B×F×E → the `_Part`s of a block. Gates start at zero: a new block changes nothing."""

    def __init__(self, width: int, condition: int, parts: int) -> None:
        super().__init__()
        self.parts = parts
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.project = zero_(nn.Linear(condition, 3 * parts * width))

    def forward(self, condition: Tensor) -> list[_Part]:
        values = self.project(condition)[:, :, None, None].chunk(3 * self.parts, -1)
        return [_Part(self.norm, *values[3 * n : 3 * n + 3]) for n in range(self.parts)]


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


def signal_levels() -> Tensor:
    """ᾱ of every timestep of `SCHEDULE`, float32."""
    return DDPMScheduler(**SCHEDULE).alphas_cumprod


def _fold(x: Tensor) -> Tensor:
    """B×F×h×w×C → B×F×h/2×w/2×4C."""
    x = x.unflatten(3, (-1, 2)).unflatten(2, (-1, 2))  # B×F×h/2×2×w/2×2×C
    return x.permute(0, 1, 2, 4, 3, 5, 6).flatten(4)


def _unfold(x: Tensor) -> Tensor:
    """B×F×h×w×4C → B×F×2h×2w×C, the inverse of `_fold`."""
    x = x.unflatten(-1, (2, 2, -1)).permute(0, 1, 2, 4, 3, 5, 6)
    return x.flatten(4, 5).flatten(2, 3)


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
