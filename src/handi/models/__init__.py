"""The networks, and the folders that they live in."""

from handi.models.unet import HandiUNet

__all__ = ["HandiUNet"]
