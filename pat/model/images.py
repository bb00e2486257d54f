"""Pixels as the network takes them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def to_images(pixels: np.ndarray | Tensor, device: torch.device | str = "cpu") -> Tensor:
    """uint8 [B, H, W, 3] RGB -> float32 [B, 3, H, W] in [0, 1] on `device`; the bytes travel as uint8."""
    # The copy is small, and a batch out of a read-only memory map may not be shared with a tensor.
    tensor = torch.tensor(pixels) if isinstance(pixels, np.ndarray) else pixels
    return tensor.to(device).permute(0, 3, 1, 2).float() / 255
