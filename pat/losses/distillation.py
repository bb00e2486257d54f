"""Distillation: a student's embeddings against a teacher's, image by image and by their place among all images."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from pat.losses.checks import check_batch, check_temperature


def distillation(features: Tensor, slots: Tensor, taught: Tensor, temperature: float = 0.1) -> Tensor:
    """How far a batch is from where the teacher puts it, float32 []; 0 where it is there.

    The mean of 1 - cosine to the teacher's embedding of the same image, plus the divergence between teacher and
    student of the softmax over the similarities to the teacher's embeddings of *all* training images: the whole
    bank tells whom an image resembles, not a few others in its batch (SEED, Fang et al., arXiv 2101.04731, whose
    queue holds a part of the images).

    features [B, D] of any length; slots int64 [B] rows of `taught` [M, D], unit length; cosines are
    divided by `temperature`. Raises ValueError for other shapes and temperatures.
    """
    check_batch(features, slots, "slots")
    check_temperature(temperature)
    if taught.ndim != 2 or taught.shape[1] != features.shape[1]:
        raise ValueError(f"taught: shape {tuple(taught.shape)}, expected [M, {features.shape[1]}]")
    with torch.autocast(features.device.type, enabled=False):
        student, target = F.normalize(features.float(), dim=1), taught[slots]
        own = 1 - (student * target).sum(1).mean()
        wanted = (target @ taught.T / temperature).log_softmax(1)  # [B, M]
        found = (student @ taught.T / temperature).log_softmax(1)
        return own + F.kl_div(found, wanted, reduction="batchmean", log_target=True)
