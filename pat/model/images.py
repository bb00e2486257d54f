"""Pixels as the network takes them, and a network that takes pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from pat.model.transformer import PartAwareTransformer


def to_images(pixels: np.ndarray | Tensor, device: torch.device | str = "cpu") -> Tensor:
    """uint8 [B, H, W, 3] RGB -> float32 [B, 3, H, W] in [0, 1] on `device`; the bytes travel as uint8."""
    # The copy is small, and a batch out of a read-only memory map may not be shared with a tensor.
    tensor = torch.tensor(pixels) if isinstance(pixels, np.ndarray) else pixels
    return tensor.to(device).permute(0, 3, 1, 2).float() / 255


def embedder(
    model: PartAwareTransformer, device: torch.device, *, parts: bool = False
) -> Callable[[np.ndarray], np.ndarray]:
    """`model.embed` from pixels on the host to vectors on the host: uint8 [B, H, W, 3] -> float32 [B, D]."""

    def embed(pixels: np.ndarray) -> np.ndarray:
        vectors: np.ndarray = model.embed(to_images(pixels, device), parts).cpu().numpy()
        return vectors

    return embed
