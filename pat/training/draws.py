"""The random numbers of a batch: how its images change, and what the network leaves to chance.

Every number belongs to an image of the global batch and is drawn on the CPU: a resumed run draws what the
uninterrupted one would have, and several ranks can each take their rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pat.data.augment import Augmentation, AugmentDraw
from pat.model import PartAwareTransformer
from pat.model.regions import random_regions


@dataclass(frozen=True)
class Draws:
    """The random numbers of one batch."""

    augment: AugmentDraw
    regions: Tensor
    """int32 [B or 1, P, 4]"""
    drop_path: Tensor | None
    """float32 [depth, 2, B]"""

    def of(self, rows: slice) -> Draws:
        """The numbers of some images of the global batch."""
        shared = len(self.regions) != len(self.augment)  # one draw for all images
        return Draws(
            self.augment[rows],
            self.regions if shared else self.regions[rows],
            None if self.drop_path is None else self.drop_path[..., rows],
        )

    def to(self, device: torch.device) -> Draws:
        drop_path = None if self.drop_path is None else self.drop_path.to(device, non_blocking=True)
        return Draws(self.augment.to(device), self.regions.to(device, non_blocking=True), drop_path)


def draw(
    model: PartAwareTransformer,
    augmentation: Augmentation,
    images: int,
    generator: torch.Generator,
    *,
    one_region: bool = False,
) -> Draws:
    """Draw for a global batch of so many images; `one_region` shares its regions, as the authors do."""
    return Draws(
        augmentation.draw(images, generator),
        random_regions(model.host_bands, 1 if one_region else images, generator),
        model.draw_drop_path(images, generator),
    )


def generator_of(seed: int, epoch: int, step: int) -> torch.Generator:
    """What a step draws from."""
    state = np.random.SeedSequence([seed, epoch, step]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]) >> 1)
