"""Supervised contrastive loss: images of an identity close, all others far, on the unit sphere."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from pat.losses.checks import check_batch, check_temperature


def supervised_contrastive(features: Tensor, labels: Tensor, temperature: float = 0.1) -> Tensor:
    """Minus the mean log-probability of an image's positives among all other images of the batch, float32 [].

    The form with the mean outside the logarithm (Khosla et al., arXiv 2004.11362, equation 2). features [B, D] of
    any length; labels int64 [B]. An image without another one of its identity contributes nothing; the mean is
    over those that have one, and 0 where none has. Raises ValueError for other shapes and temperatures.
    """
    check_batch(features, labels)
    check_temperature(temperature)
    with torch.autocast(features.device.type, enabled=False):
        features = features if features.dtype == torch.float64 else features.float()
        unit = F.normalize(features, dim=1)
        itself = torch.eye(len(labels), dtype=torch.bool, device=features.device)
        cosines = (unit @ unit.T / temperature).masked_fill(itself, -torch.inf)  # [B, B]
        positive = (labels[:, None] == labels[None, :]) & ~itself
        log_probability = (cosines - cosines.logsumexp(1, keepdim=True)).masked_fill(~positive, 0.0)
        count = positive.sum(1)
        losses = -log_probability.sum(1) / count.clamp(min=1)
        return losses.sum() / (count > 0).sum().clamp(min=1)
