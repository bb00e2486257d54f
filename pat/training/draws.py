"""The random numbers of a batch: how its images change, and what the network leaves to chance.

Every number belongs to an image of the global batch and is drawn on the CPU: a resumed run draws what the
uninterrupted one would have, and several ranks can each take their rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from pat.data.augment import Augmentation, AugmentDraw
from pat.model import PartAwareTransformer
from pat.model.mix_style import Style, draw_style
from pat.model.regions import random_regions


@dataclass(frozen=True)
class Draws:
    """The random numbers of one batch."""

    augment: AugmentDraw
    regions: Tensor
    """int32 [B or 1, P, 4]"""
    drop_path: Tensor | None
    """float32 [depth, 2, B]"""
    style: Style | None = None
    """Of the whole batch: MixStyle runs on one process alone."""

    def two_views(self) -> Draws:
        """For a batch whose second half shows the first again: the first is moved alone."""
        half = len(self.augment) // 2
        return replace(self, augment=self.augment[:half].moved_alone() + self.augment[half:])

    def of(self, rows: slice) -> Draws:
        """The numbers of some images of the global batch."""
        shared = len(self.regions) != len(self.augment)  # one draw for all images
        return Draws(
            self.augment[rows],
            self.regions if shared else self.regions[rows],
            None if self.drop_path is None else self.drop_path[..., rows],
            self.style,
        )

    def to(self, device: torch.device) -> Draws:
        drop_path = None if self.drop_path is None else self.drop_path.to(device, non_blocking=True)
        style = None if self.style is None else Style(*(each.to(device, non_blocking=True) for each in self.style))
        return Draws(self.augment.to(device), self.regions.to(device, non_blocking=True), drop_path, style)


def draw(
    model: PartAwareTransformer,
    augmentation: Augmentation,
    images: int,
    generator: torch.Generator,
    *,
    one_region: bool = False,
) -> Draws:
    """Draw for a global batch of so many images; `one_region` shares its regions, as the authors do."""
    mixing = augmentation.config.mix_style
    return Draws(
        augmentation.draw(images, generator),
        random_regions(model.host_bands, 1 if one_region else images, generator),
        model.draw_drop_path(images, generator),
        draw_style(images, mixing, generator) if mixing else None,
    )


def generator_of(seed: int, epoch: int, step: int) -> torch.Generator:
    """What a step draws from."""
    state = np.random.SeedSequence([seed, epoch, step]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]) >> 1)
