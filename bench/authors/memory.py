"""The memory of part features as lists on the host, and the cross-ID loss by a full sort."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor


class ListMemory:
    """A momentum average of the part features of every image, kept as lists of vectors on the host.

    Args:
        features: [P, M, D], what the memory holds at first.
        keys: by which an image is found, one for each of the M: its path.
        momentum: share of a new feature.
    """

    def __init__(self, features: Tensor, keys: Sequence[Hashable], momentum: float = 0.1) -> None:
        self.parts = [list(part.clone().unbind(0)) for part in features.cpu()]
        self.places = {key: place for place, key in enumerate(keys)}
        self.momentum = momentum

    def find(self, keys: Sequence[Hashable]) -> list[int]:
        """Places of images in the lists."""
        return [self.places[key] for key in keys]

    @torch.no_grad()
    def update(self, keys: Sequence[Hashable], features: Tensor) -> None:
        """Moves the averages of a batch towards its features [P, B, D], which come to the host one by one."""
        places = self.find(keys)
        for memory, part in zip(self.parts, features.detach(), strict=True):
            for place, feature in zip(places, part, strict=True):
                memory[place] = (1 - self.momentum) * memory[place] + self.momentum * feature.cpu()


def cross_id_similarity(
    features: Tensor, memory: ListMemory, keys: Sequence[Hashable], *, k: int = 10, scale: float = 0.02
) -> tuple[Tensor, Tensor]:
    """The loss, and the places of the K nearest, int64 [P, B, K] on the host. features: [P, B, D]."""
    own_places = torch.tensor(memory.find(keys), device=features.device)[:, None]
    losses, neighbours = [], []
    for feature, vectors in zip(features, memory.parts, strict=True):
        bank = torch.stack(vectors).to(features.device)  # [M, D]: the whole memory moves in each step
        distances = feature.square().sum(1, keepdim=True) + bank.square().sum(1) - 2 * feature @ bank.T  # [B, M]
        own = torch.zeros_like(distances, dtype=torch.bool).scatter_(1, own_places, True)
        ordered, order = distances.masked_fill(own, torch.inf).sort(dim=1)
        near = (-scale * ordered[:, :k]).exp().sum(1).log()
        everything = (-scale * ordered).exp().sum(1).log()
        losses.append((everything - near).mean())
        neighbours.append(order[:, :k])
    return torch.stack(losses).mean(), torch.stack(neighbours).cpu()


def soft_targets(neighbours: Tensor, labels: Tensor, own: Tensor, classes: int, mix: float) -> Tensor:
    """q = (1 - mix) * onehot + mix * histogram of the neighbours' labels, [B, classes], image by image.

    All on the host. neighbours: places, int64 [P, B, K]; labels int64 [M], of all places; own int64 [B].
    """
    targets = torch.zeros(len(own), classes)
    for image, label in enumerate(own.tolist()):
        near = labels[neighbours[:, image].flatten()]
        targets[image] = mix / len(near) * torch.bincount(near, minlength=classes)
        targets[image, label] += 1 - mix
    return targets
