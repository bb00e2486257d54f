"""The memory of part features as lists, and the cross-ID loss by a full sort."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor


class ListMemory:
    """A momentum average of the part features of every image, kept as lists of vectors.

    Args:
        features: [P, M, D], what the memory holds at first.
        keys: by which an image is found, one for each of the M: its path.
        momentum: share of a new feature.
    """

    def __init__(self, features: Tensor, keys: Sequence[Hashable], momentum: float = 0.1) -> None:
        self.parts = [list(part.clone().unbind(0)) for part in features]
        self.places = {key: place for place, key in enumerate(keys)}
        self.momentum = momentum

    def find(self, keys: Sequence[Hashable]) -> list[int]:
        """Places of images in the lists."""
        return [self.places[key] for key in keys]

    @torch.no_grad()
    def update(self, keys: Sequence[Hashable], features: Tensor) -> None:
        """Moves the averages of a batch towards its features [P, B, D]."""
        places = self.find(keys)
        for memory, part in zip(self.parts, features.detach(), strict=True):
            for place, feature in zip(places, part, strict=True):
                memory[place] = (1 - self.momentum) * memory[place] + self.momentum * feature


def cross_id_similarity(
    features: Tensor, memory: ListMemory, keys: Sequence[Hashable], *, k: int = 10, scale: float = 0.02
) -> tuple[Tensor, list[list[list[int]]]]:
    """The loss, and the places of the K nearest of every part and image as lists. features: [P, B, D]."""
    own_places = torch.tensor(memory.find(keys), device=features.device)[:, None]
    losses, neighbours = [], []
    for feature, vectors in zip(features, memory.parts, strict=True):
        bank = torch.stack(vectors)  # [M, D]
        distances = feature.square().sum(1, keepdim=True) + bank.square().sum(1) - 2 * feature @ bank.T  # [B, M]
        own = torch.zeros_like(distances, dtype=torch.bool).scatter_(1, own_places, True)
        ordered, order = distances.masked_fill(own, torch.inf).sort(dim=1)
        near = (-scale * ordered[:, :k]).exp().sum(1).log()
        everything = (-scale * ordered).exp().sum(1).log()
        losses.append((everything - near).mean())
        neighbours.append(order[:, :k].tolist())
    return torch.stack(losses).mean(), neighbours


def soft_targets(
    neighbours: list[list[list[int]]], labels: Sequence[int], own: Sequence[int], classes: int, mix: float
) -> Tensor:
    """q = (1 - mix) * onehot + mix * histogram of the neighbours' labels, [B, classes], counted one by one.

    neighbours: places [P][B][K]; labels: of all places; own: of the B images.
    """
    targets = torch.zeros(len(own), classes)
    for image, label in enumerate(own):
        targets[image, label] += 1 - mix
        near = [labels[place] for part in neighbours for place in part[image]]
        for other in near:
            targets[image, other] += mix / len(near)
    return targets
