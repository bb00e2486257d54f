"""Batch renormalisation: in training, too, features are normalised nearly as they will be in evaluation."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SCALE_LIMIT, SHIFT_LIMIT = 3.0, 5.0
"""The largest corrections of deviation and mean (the paper's r_max and d_max)."""

WARMUP = 1000
"""Batches over which the limits grow from those of plain batch normalisation. The paper takes 40,000 of a longer
training."""


class BatchRenorm1d(nn.BatchNorm1d):
    """Batch normalisation whose output is corrected towards that of the running statistics.

    Ioffe, "Batch Renormalization", arXiv 1702.03275: with the batch's deviation s and mean m, and the running S
    and M, the output is ((x - m) / s) r + d, r = s / S and d = (m - M) / S within limits and without gradient.
    Tensors and evaluation are those of BatchNorm1d.
    """

    def forward(self, features: Tensor) -> Tensor:
        """features [B, D] -> [B, D]"""
        if not self.training:
            return super().forward(features)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        running_deviation, running_mean = (self.running_var + self.eps).sqrt(), self.running_mean.clone()
        variance, mean = torch.var_mean(features.detach(), dim=0, correction=0)
        grown = (self.num_batches_tracked / WARMUP).clamp(max=1.0)
        scale_limit, shift_limit = 1 + (SCALE_LIMIT - 1) * grown, SHIFT_LIMIT * grown
        scale = ((variance + self.eps).sqrt() / running_deviation).clamp(1 / scale_limit, scale_limit)
        shift = ((mean - running_mean) / running_deviation).clamp(-shift_limit, shift_limit)
        self.num_batches_tracked += 1
        normal = F.batch_norm(
            features, self.running_mean, self.running_var, training=True, momentum=self.momentum, eps=self.eps
        )
        return (normal * scale + shift) * self.weight + self.bias
