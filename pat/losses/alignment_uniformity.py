"""Balancing alignment and uniformity (BAU): changed images stay near, and everybody else spreads over the sphere.

Cho et al., "Generalizable Person Re-identification via Balancing Alignment and Uniformity", NeurIPS 2024, arXiv
2411.11471. Here the features are those that are searched with, before the BNNeck.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pat.losses.checks import check_batch

NEIGHBOURS = 10
"""k of the reliability: neighbours that may be reciprocal, the image among them."""

SHARPNESS = 2.0
"""t of the uniformity: squared distances are multiplied by it."""

KEPT = 0.1
"""Share of a prototype that stays when its identity is seen."""


def alignment(plain: Tensor, changed: Tensor, labels: Tensor) -> Tensor:
    """Mean squared distance of changed to plain images of an identity, by how reliable the pair is; float32 [].

    plain, changed [B, D], of any length; labels int64 [B]. A pair's reliability is the Jaccard index of both
    images' reciprocal neighbours among all 2 B; it carries no gradient. Raises ValueError for other shapes.
    """
    check_batch(plain, labels)
    if changed.shape != plain.shape:
        raise ValueError(f"changed: shape {tuple(changed.shape)}, expected that of plain, {tuple(plain.shape)}")
    plain, changed = F.normalize(plain, dim=1), F.normalize(changed, dim=1)
    near_plain, near_changed = _reciprocal(torch.cat([plain, changed]).detach()).chunk(2)  # [B, 2 B]
    shared = near_changed @ near_plain.T
    union = near_changed.sum(1, keepdim=True) + near_plain.sum(1) - shared
    same = labels[:, None] == labels
    weights = shared / union * same  # [B, B], changed to plain; no union is empty: an image is its own neighbour
    return (_squared_distances(changed, plain) * weights).sum() / weights.sum().clamp(min=1e-6)


def uniformity(features: Tensor) -> Tensor:
    """log mean exp(-2 squared distance) over the pairs of a batch, float32 []: least where all are far apart."""
    pairs = torch.pdist(F.normalize(features, dim=1))
    return (-SHARPNESS * pairs.square()).exp().mean().log()


class Prototypes(nn.Module):
    """A moving average of each identity's features, unit length; zero until the identity is first seen.

    The authors fill them by a pass over the images before the first step, and let the images of a batch move them
    one after the other; here they move once a batch, towards the mean.
    """

    features: Tensor
    domains: Tensor

    def __init__(self, dim: int, domains: Tensor) -> None:
        """domains int64 [identities]: the source of each."""
        super().__init__()
        self.register_buffer("features", torch.zeros(len(domains), dim))
        self.register_buffer("domains", domains, persistent=False)

    def uniformity(self, features: Tensor, labels: Tensor) -> Tensor:
        """log mean exp(-2 squared distance) to the B nearest prototypes of others of the same source, float32 [].

        features [B, D]; labels int64 [B]. 0 where none of those has been seen. Raises ValueError for other shapes.
        """
        check_batch(features, labels)
        prototypes = self.features.clone()  # they move before the backward pass
        distances = _squared_distances(F.normalize(features, dim=1), prototypes)  # [B, identities]
        others = (self.domains[labels][:, None] == self.domains) & self.features.any(1)
        others[torch.arange(len(labels), device=labels.device), labels] = False
        count = min(len(labels), len(prototypes))
        nearest = distances.masked_fill(~others, torch.inf).topk(count, largest=False).values
        counted = nearest.isfinite()
        similar = (-SHARPNESS * nearest).exp().sum() / counted.sum().clamp(min=1)
        return torch.where(counted.any(), similar, torch.ones_like(similar)).log()

    @torch.no_grad()
    def update(self, features: Tensor, labels: Tensor) -> None:
        """Move the prototypes of the identities of a batch: features [B, D], labels int64 [B]."""
        sums = torch.zeros_like(self.features).index_add_(0, labels, F.normalize(features, dim=1))
        counts = torch.bincount(labels, minlength=len(sums))[:, None]
        moved = F.normalize(KEPT * self.features + (1 - KEPT) * sums / counts.clamp(min=1), dim=1)
        self.features.copy_(torch.where(counts > 0, moved, self.features))


def _reciprocal(features: Tensor) -> Tensor:
    """Which features are among the NEIGHBOURS most similar of each other, float32 [N, N] of 0 and 1."""
    similar = features @ features.T
    similar.fill_diagonal_(torch.inf)  # an image is its own neighbour, also where many are as similar to it
    nearest = similar.topk(min(NEIGHBOURS, len(features)), dim=1).indices
    near = torch.zeros_like(similar).scatter_(1, nearest, 1.0)
    return near * near.T


def _squared_distances(rows: Tensor, columns: Tensor) -> Tensor:
    """[R, C], of vectors [R, D] and [C, D]."""
    norms = rows.square().sum(1, keepdim=True) + columns.square().sum(1)
    return norms - 2 * rows @ columns.T
