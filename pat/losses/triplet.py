"""Soft-margin triplet loss on the hardest pairs of a batch (Hermans et al., arXiv 1703.07737)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from pat.losses.checks import check_batch


def batch_hard_triplet(features: Tensor, labels: Tensor) -> Tensor:
    """softplus(hardest positive - hardest negative) in Euclidean distance, averaged, float32 [].

    features [B, D], not normalised; labels int64 [B]. An image is its own positive at distance 0 where it is
    the only one of its identity; without a second identity in the batch the loss is 0. Raises ValueError for
    other shapes.
    """
    check_batch(features, labels)
    with torch.autocast(features.device.type, enabled=False):
        features = features if features.dtype == torch.float64 else features.float()
        norms = features.square().sum(1)
        squared = norms[:, None] + norms[None, :] - 2 * features @ features.T
        distances = squared.clamp(min=1e-12).sqrt()  # the floor keeps the root's gradient finite
        same = labels[:, None] == labels[None, :]
        # An image's distance to itself is rounding that differs from CPU to CPU, and up to 1e-3.
        others = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        positive = distances.masked_fill(~others, 0).amax(1)
        negative = distances.masked_fill(same, torch.inf).amin(1)
        apart = negative.isfinite()
        losses = F.softplus(positive - torch.where(apart, negative, 0.0))
        return torch.where(apart, losses, 0.0).mean()
