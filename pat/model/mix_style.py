"""MixStyle: an image keeps its content and takes part of another's style, the statistics of its features."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

ALPHA = 0.1
"""Of the Beta distribution that shares are drawn from: most are near 0 or 1."""

EPSILON = 1e-6


class Style(NamedTuple):
    """Whose style each image of a batch takes, and how much of its own it keeps."""

    partners: Tensor
    """int64 [B]"""
    kept: Tensor
    """float32 [B]"""


def draw_style(images: int, probability: float, generator: torch.Generator) -> Style | None:
    """With `probability` a random partner and a share from Beta(ALPHA, ALPHA) for each image, on the CPU."""
    if torch.rand((), generator=generator) >= probability:
        return None
    numbers = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
    kept = torch.from_numpy(numbers.beta(ALPHA, ALPHA, images).astype(np.float32))
    return Style(torch.randperm(images, generator=generator), kept)


def mix_style(patches: Tensor, style: Style) -> Tensor:
    """Patch embeddings [B, N, D] with mean and deviation over the patches mixed with a partner's.

    Zhou et al., "Domain Generalization with MixStyle", ICLR 2021, arXiv 2104.02008: there after the first stages
    of a ResNet, here before the position embedding. The statistics carry no gradient.
    """
    values = patches.float()
    variance, mean = torch.var_mean(values.detach(), dim=1, keepdim=True)
    deviation = (variance + EPSILON).sqrt()  # [B, 1, D]
    kept = style.kept[:, None, None]
    mixed_mean, mixed_deviation = (kept * own + (1 - kept) * own[style.partners] for own in (mean, deviation))
    return ((values - mean) / deviation * mixed_deviation + mixed_mean).to(patches.dtype)
