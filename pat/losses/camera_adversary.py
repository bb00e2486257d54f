"""A classifier of cameras that the network learns to mislead."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pat.losses.checks import check_batch


class CameraAdversary(nn.Module):
    """Tells the camera from a feature; the gradient reaches the feature reversed.

    Ganin and Lempitsky, "Unsupervised Domain Adaptation by Backpropagation", arXiv 1409.7495, with cameras for
    domains, as adversarial heads in re-identification have them. The reversed gradient has the weight of the loss
    throughout; the ramp of the paper is left out.
    """

    def __init__(self, dim: int, cameras: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(dim, cameras)

    def forward(self, features: Tensor, cameras: Tensor) -> Tensor:
        """Cross-entropy, float32 []. features [B, D]; cameras int64 [B]; ValueError for other shapes."""
        check_batch(features, cameras, "cameras")
        with torch.autocast(features.device.type, enabled=False):
            return F.cross_entropy(self.classifier(reversed_gradient(features)), cameras)


def reversed_gradient(features: Tensor) -> Tensor:
    """The same values, bit by bit, through which gradients pass with the opposite sign."""
    return 2 * features.detach() - features
