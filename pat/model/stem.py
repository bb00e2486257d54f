"""Patches from a small convolutional network instead of one projection."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CHANNELS = 64
STRIDE = 2
"""Of the first convolution; the projection covers the rest of a patch."""

FIRST_CHANNELS = 32
"""Of the first convolution of a deep stem."""


class Stem(nn.Module):
    """What makes patches of pixels: `conv`, then `proj`. Constructors of subclasses set both."""

    conv: nn.Sequential
    proj: nn.Conv2d

    def __init__(self, image_size: tuple[int, int], patch_size: tuple[int, int]) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.grid_size = (image_size[0] // patch_size[0], image_size[1] // patch_size[1])
        self.frozen = False

    def forward(self, images: Tensor) -> Tensor:
        """images [B, 3, H, W], normalised -> patches row by row [B, R*C, D]."""
        patches: Tensor = self.proj(self.conv(images))  # [B, D, R, C]
        return patches.flatten(2).transpose(1, 2)

    def freeze(self) -> None:
        """Fix the whole stem for good: no gradients, and batch normalisation by the statistics it came with.

        An image's patches then depend on that image alone, on any number of processes.
        """
        self.requires_grad_(False)
        self.frozen = True
        self.eval()

    def train(self, mode: bool = True) -> Stem:
        return cast(Stem, super().train(mode and not self.frozen))


class ConvolutionalStem(Stem):
    """Three convolutions at half the resolution, then the projection of each patch (arXiv 2111.12084, IBN stem).

    Instance normalisation takes away the look of a camera, which is why the stem generalises; batch normalisation
    uses the statistics of the batch in training. Submodules have the names of the published files.
    """

    def __init__(self, image_size: tuple[int, int], patch_size: tuple[int, int], dim: int) -> None:
        super().__init__(image_size, patch_size)
        self.conv = nn.Sequential(
            nn.Conv2d(3, CHANNELS, 7, stride=STRIDE, padding=3, bias=False),
            HalfInstanceNorm(CHANNELS),
            nn.ReLU(),
            nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False),
            HalfInstanceNorm(CHANNELS),
            nn.ReLU(),
            nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False),
            nn.BatchNorm2d(CHANNELS),
            nn.ReLU(),
        )
        rest = (patch_size[0] // STRIDE, patch_size[1] // STRIDE)
        self.proj = nn.Conv2d(CHANNELS, dim, rest, stride=rest)


class DeepStem(Stem):
    """A 3 x 3 convolution of stride 2 for each halving of the resolution down to a patch, residual blocks between.

    The channels double from FIRST_CHANNELS on, the last convolution has those of the transformer ("Early
    convolutions help transformers see better", arXiv 2106.14881). A residual block stands at every resolution but
    the finest and the patches' own. Layers before the last normalise half of their channels by instance, which
    takes away the look of a camera (IBN-Net, arXiv 1807.09441). Most of the work is on few pixels, which suits a
    CPU.
    """

    def __init__(self, image_size: tuple[int, int], patch_size: tuple[int, int], dim: int) -> None:
        super().__init__(image_size, patch_size)
        halvings = patch_size[0].bit_length() - 1
        channels = [FIRST_CHANNELS * 2**i for i in range(halvings - 1)]
        self.conv = nn.Sequential()
        for before, after in pairwise([3, *channels]):
            convolution = nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False)
            self.conv.extend([convolution, HalfInstanceNorm(after), nn.ReLU()])
            if after != FIRST_CHANNELS:
                self.conv.append(ResidualBlock(after))
        last = nn.Conv2d(channels[-1], dim, 3, stride=2, padding=1, bias=False)
        self.conv.extend([last, nn.BatchNorm2d(dim), nn.ReLU()])
        self.proj = nn.Conv2d(dim, dim, 1)


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions whose result is added to their input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.change = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            HalfInstanceNorm(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, features: Tensor) -> Tensor:
        """features [B, C, H, W] -> the same shape."""
        return F.relu(features + self.change(features))


class HalfInstanceNorm(nn.Module):
    """Instance normalisation of the first half of the channels, batch normalisation of the second (IBN-Net)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = channels // 2
        self.IN = nn.InstanceNorm2d(self.first, affine=True)
        self.BN = nn.BatchNorm2d(channels - self.first)

    def forward(self, features: Tensor) -> Tensor:
        """features [B, C, H, W] -> the same shape."""
        return torch.cat([self.IN(features[:, : self.first]), self.BN(features[:, self.first :])], dim=1)
