"""PatchAutoencoder: the bundled model's autoencoder, called like diffusers' AutoencoderKL.

The encoder is linear and not trained: principal components of 8×8 patches, fitted once. The decoder is their
linear synthesis plus what a small convolutional network adds to it. On a CPU this reaches in minutes what a
convolutional KL autoencoder does not reach in hours, and as the encoder never changes, latents stay
valid while the decoder is still being trained.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TypeVar

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.utils import BaseOutput
from torch import Tensor, nn
from torch.nn import functional as F

_Layer = TypeVar("_Layer", bound=nn.Module)


class LatentPoint:
    """A posterior without spread, for callers that expect the one of AutoencoderKL."""

    def __init__(self, latents: Tensor) -> None:
        self.latents = latents

    def mode(self) -> Tensor:
        """B×C×h×w."""
        return self.latents

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """The same point, whatever the generator."""
        return self.latents


class EncoderOutput(BaseOutput):
    """What `encode` returns."""

    latent_dist: LatentPoint


class PatchBasis(nn.Module):
    """Linear map between pictures and latents: C principal components of patch×patch pixels.

    A latent channel is a coefficient divided by a scale near the square root of its standard deviation: half
    way between pixels, where the mean colour drowns all else, and whitening, where noise does.
    """

    mean: Tensor  # 3·patch²
    components: Tensor  # 3·patch² × C, orthonormal columns
    scale: Tensor  # C

    def __init__(self, channels: int, patch: int) -> None:
        super().__init__()
        size = 3 * patch * patch
        if channels > size:
            raise ValueError(f"a patch of {patch}×{patch} has {size} numbers, not {channels} components")
        self.patch = patch
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("components", torch.eye(size)[:, :channels].contiguous())
        self.register_buffer("scale", torch.ones(channels))

    def to_latents(self, pictures: Tensor) -> Tensor:
        """B×3×H×W in [-1, 1] → B×C×h×w."""
        # in float32 whatever the model runs in: rounding here would be seen in every pixel
        with torch.autocast(pictures.device.type, enabled=False):
            patches = self.split(pictures.float())
            latents = ((patches - self.mean.float()) @ self.components.float()) / self.scale.float()
        return latents.permute(0, 3, 1, 2)

    def to_pictures(self, latents: Tensor) -> Tensor:
        """B×C×h×w → B×3×H×W, the nearest pictures in the basis; not clipped to [-1, 1]."""
        with torch.autocast(latents.device.type, enabled=False):
            coefficients = latents.float().permute(0, 2, 3, 1) * self.scale.float()
            patches = coefficients @ self.components.float().T + self.mean.float()
        channels_first = patches.permute(0, 3, 1, 2)  #            B×(3·p²)×h×w
        return F.pixel_shuffle(channels_first, self.patch)

    def split(self, pictures: Tensor) -> Tensor:
        """Pictures cut into their patches: B×3×H×W → B×h×w×(3·patch²)."""
        return F.pixel_unshuffle(pictures, self.patch).permute(0, 2, 3, 1)

    @torch.no_grad()
    def fit(self, pictures: Tensor) -> None:
        """Set the basis to the principal components of the pictures' patches, B×3×H×W in [-1, 1].

        Latents of these pictures then have unit variance on average over the channels.
        Raises: ValueError for fewer patches than a basis needs.
        """
        patches = self.split(pictures.double()).flatten(0, 2)
        if len(patches) <= patches.shape[1]:
            raise ValueError(f"{len(patches)} patches cannot give {patches.shape[1]} components")
        covariance = torch.cov(patches.T)
        variances, vectors = torch.linalg.eigh(covariance)  # ascending
        channels = len(self.scale)
        components = vectors.flip(1)[:, :channels]
        # eigh leaves the sign open: the largest entry is made positive, so a refit gives the same latents
        largest = components.gather(0, components.abs().argmax(0, keepdim=True))
        components = components * largest.sign()
        deviations = variances.flip(0)[:channels].clamp_min(1e-12).sqrt()
        self.mean.copy_(patches.mean(0))
        self.components.copy_(components)
        # z_i = c_i / (k √d_i) has variance d_i / k²: k makes their mean 1
        self.scale.copy_(deviations.sqrt() * deviations.mean().sqrt())


class PatchAutoencoder(ModelMixin, ConfigMixin):
    """Pictures B×3×H×W in [-1, 1] ↔ latents B×C×h×w, with AutoencoderKL's calls and config entries."""

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 24,
        block_out_channels: tuple[int, ...] = (16, 32, 64, 96),
        layers_per_block: int = 2,
        scaling_factor: float = 1.0,
        sample_size: int = 128,
    ) -> None:
        """block_out_channels: of the decoder, from pixels to latents; each level halves the size."""
        super().__init__()
        self.basis = PatchBasis(latent_channels, 2 ** (len(block_out_channels) - 1))
        self.decoder = _ResidualDecoder(latent_channels, block_out_channels, layers_per_block)
        self.gradient_checkpointing = False

    def encode(self, x: Tensor) -> EncoderOutput:
        """B×3×H×W in [-1, 1] → `.latent_dist.mode()` B×C×h×w."""
        return EncoderOutput(latent_dist=LatentPoint(self.basis.to_latents(x)))

    def decode(self, z: Tensor) -> DecoderOutput:
        """B×C×h×w → `.sample` B×3×H×W."""
        if torch.is_grad_enabled() and self.gradient_checkpointing:
            detail = self._gradient_checkpointing_func(self.decoder, z)
        else:
            detail = self.decoder(z)
        return DecoderOutput(sample=self.basis.to_pictures(z) + detail)


class _ResidualDecoder(nn.Module):
    """What the linear synthesis lacks: latents → B×3×H×W, zero before training."""

    def __init__(self, latent_channels: int, widths: tuple[int, ...], layers: int) -> None:
        super().__init__()
        widths = widths[::-1]  # from latents to pixels
        self.conv_in = nn.Conv2d(latent_channels, widths[0], 3, padding=1)
        # No blocks at full size: they would cost as much as all others together.
        self.levels = nn.ModuleList(
            nn.Sequential(*(_ResidualBlock(width) for _ in range(layers))) for width in widths[:-1]
        )
        self.widen = nn.ModuleList(
            nn.Conv2d(width, 4 * narrower, 3, padding=1) for width, narrower in pairwise(widths)
        )
        self.norm_out = nn.GroupNorm(_groups(widths[-1]), widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], 3, 3, padding=1)
        zero_(self.conv_out)
        channels_last(self)

    def forward(self, z: Tensor) -> Tensor:
        x = self.conv_in(z.contiguous(memory_format=torch.channels_last))
        for blocks, widen in zip(self.levels, self.widen, strict=True):
            x = F.pixel_shuffle(widen(blocks(x)), 2)
        return self.conv_out(F.silu(self.norm_out(x)))


class _ResidualBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(_groups(width), width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.silu(self.conv1(F.silu(self.norm(x)))))


def _groups(width: int) -> int:
    return next(groups for groups in (8, 4, 2, 1) if width % groups == 0)


def channels_last(module: nn.Module) -> None:
    """Lay the weights out as convolutions on a CPU read them fastest."""
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def zero_(layer: _Layer) -> _Layer:
    """The layer with its weights set to zero: what it adds is learned from nothing."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
