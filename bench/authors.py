"""What the paper's authors compute, the way their release computes it: the other side of the comparison.

Written from the description of the method and of that release's known defects, not from its code. The results
are the same as ours (the benchmarks check it); what differs is the way:

- the memory is a Python list of vectors for each part, moved image by image;
- every step stacks each list into a new tensor: the whole bank is copied;
- distances to the whole bank are sorted completely to find the K nearest, and autograd runs through them;
- attention is a chain of eager operations, with scores, mask and probabilities as [B, H, N, N] in memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class ListMemory:
    """A momentum average of the part features of every image, kept as lists of vectors.

    Args:
        features: [P, M, D], what the memory holds at first.
        momentum: share of a new feature.
    """

    def __init__(self, features: Tensor, momentum: float = 0.1) -> None:
        self.parts = [list(part.clone().unbind(0)) for part in features]
        self.momentum = momentum

    @torch.no_grad()
    def update(self, indices: Sequence[int], features: Tensor) -> None:
        """Moves the slots of a batch towards its features [P, B, D]."""
        for memory, part in zip(self.parts, features.detach(), strict=True):
            for index, feature in zip(indices, part, strict=True):
                memory[index] = (1 - self.momentum) * memory[index] + self.momentum * feature


def cross_id_similarity(
    features: Tensor, memory: ListMemory, indices: Tensor, *, k: int = 10, scale: float = 0.02
) -> tuple[Tensor, list[list[list[int]]]]:
    """The loss, and the K nearest slots of every part and image as lists. features: [P, B, D]; indices: [B]."""
    losses, neighbours = [], []
    for feature, slots in zip(features, memory.parts, strict=True):
        bank = torch.stack(slots)  # [M, D]
        distances = feature.square().sum(1, keepdim=True) + bank.square().sum(1) - 2 * feature @ bank.T  # [B, M]
        own = torch.zeros_like(distances, dtype=torch.bool).scatter_(1, indices[:, None], True)
        ordered, order = distances.masked_fill(own, torch.inf).sort(dim=1)
        near = (-scale * ordered[:, :k]).exp().sum(1).log()
        everything = (-scale * ordered).exp().sum(1).log()
        losses.append((everything - near).mean())
        neighbours.append(order[:, :k].tolist())
    return torch.stack(losses).mean(), neighbours


def masked_attention(q: Tensor, k: Tensor, v: Tensor, visible: Tensor, scale: float) -> Tensor:
    """Attention with a mask in memory.

    q [B, n, H, D]; k, v [B, N, H, D]; visible bool [B, n, N]. Returns [B, n, H*D].
    """
    q, k, v = (tensor.transpose(1, 2) for tensor in (q, k, v))  # [B, H, ., D]
    scores = (q @ k.transpose(-2, -1)) * scale  # [B, H, n, N]
    scores = scores.masked_fill(~visible[:, None], float("-inf"))
    return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
