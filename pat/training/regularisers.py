"""The losses of other methods, and what they learn beside the model: each stands in a file of `pat.losses`."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from pat.config import LossConfig
from pat.data.sources import TrainingSet
from pat.losses.alignment_uniformity import Prototypes, alignment, uniformity
from pat.losses.camera_adversary import CameraAdversary

TERMS = ("camera", "alignment", "uniformity", "domain_uniformity")
"""Of `LossConfig` their weights, of `Losses` their values."""


class Regularisers(nn.Module):
    """The terms whose weight in `config` is above 0, by the names of their weights."""

    cameras: Tensor

    def __init__(self, config: LossConfig, training: TrainingSet, dim: int) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("cameras", torch.from_numpy(training.cameras), persistent=False)
        self.adversary = CameraAdversary(dim, int(training.cameras.max()) + 1) if config.camera else None
        self.prototypes = Prototypes(dim, _domains(training)) if config.domain_uniformity else None

    def forward(
        self, features: Tensor, changed: Tensor | None, labels: Tensor, slots: Tensor
    ) -> dict[str, Tensor]:
        """The terms, float32 [] each, of features [B, D] and, where there are two views, of the same images
        `changed` [B, D]; labels, slots int64 [B]. Prototypes move after their term."""
        views = [features] if changed is None else [features, changed]
        terms = {}
        if self.adversary is not None:
            terms["camera"] = self.adversary(features, self.cameras[slots])
        if changed is not None:
            terms["alignment"] = alignment(features, changed, labels)
        if self.config.uniformity:
            terms["uniformity"] = torch.stack([uniformity(view) for view in views]).mean()
        if self.prototypes is not None:
            spread = [self.prototypes.uniformity(view, labels) for view in views]
            terms["domain_uniformity"] = torch.stack(spread).mean()
            self.prototypes.update(features, labels)
        return terms


def _domains(training: TrainingSet) -> Tensor:
    """The source of each identity, int64 [identities]."""
    first = np.unique(training.labels, return_index=True)[1]
    number = {name: place for place, name in enumerate(dict.fromkeys(s.domain for s in training.samples))}
    return torch.tensor([number[training.samples[row].domain] for row in first])
