"""The identity loss: label smoothing, and soft targets from a part's look-alikes (PSD, equation 7)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from pat.losses.checks import check_batch, check_numbers, check_share


def soft_targets(neighbours: Tensor, bank_labels: Tensor, labels: Tensor, classes: int, mix: float) -> Tensor:
    """q = (1 - mix) * onehot + mix * h, float32 [B, classes].

    h is the histogram of the labels of an image's P * k neighbours, summing to 1; `neighbours` int64 [P, B, k]
    are slots of the bank, -1 where there is none; `bank_labels` int64 [M]; `labels` int64 [B]. An image without
    any neighbour keeps its one-hot target. Raises ValueError for other shapes and a mix that is no share.
    """
    if neighbours.ndim != 3:
        raise ValueError(f"neighbours: shape {tuple(neighbours.shape)}, expected [P, B, k]")
    check_numbers("labels", labels, neighbours.shape[1], neighbours.device)
    check_share("mix", mix)
    slots = neighbours.permute(1, 0, 2).flatten(1)  # [B, P * k]
    found = slots >= 0
    onehot = F.one_hot(labels, classes).float()
    histogram = onehot.new_zeros(onehot.shape)
    histogram.scatter_add_(1, bank_labels[slots.clamp(min=0)], found.float())
    total = found.sum(1, keepdim=True)
    histogram = torch.where(total > 0, histogram / total.clamp(min=1), onehot)
    return (1 - mix) * onehot + mix * histogram


def identity_loss(
    logits: Tensor,
    labels: Tensor,
    targets: Tensor | None = None,
    *,
    smoothing: float = 0.1,
    share: float = 0.5,
) -> Tensor:
    """(1 - share) * CE(label-smoothed) + share * CE(targets), float32 [].

    logits [B, classes]; labels int64 [B]; targets [B, classes] from `soft_targets`, or None for the
    label-smoothed term alone. Raises ValueError for other shapes and what is no share.
    """
    check_batch(logits, labels)
    check_share("smoothing", smoothing)
    check_share("share", share)
    if targets is not None and targets.shape != logits.shape:
        raise ValueError(f"targets: shape {tuple(targets.shape)}, expected that of logits, {tuple(logits.shape)}")
    logits = logits.float()
    hard = F.cross_entropy(logits, labels, label_smoothing=smoothing)
    if targets is None or share == 0.0:
        return hard
    return (1 - share) * hard + share * F.cross_entropy(logits, targets)
