"""What the losses refuse by name, rather than to train on nonsense: shapes and settings, never values."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def check_share(name: str, value: float) -> None:
    """Raise ValueError for a number that is no share."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name}: {value}, expected a share from 0 to 1")


def check_temperature(value: float) -> None:
    """Raise ValueError for a number that nothing can be divided by."""
    if not 0 < value < math.inf:
        raise ValueError(f"temperature: {value}, expected a positive finite number")


def check_batch(features: Tensor, labels: Tensor, name: str = "labels") -> None:
    """Raise ValueError unless features are [B, D] floating point and labels int64 [B] on their device."""
    if features.ndim != 2 or not features.is_floating_point():
        raise ValueError(f"features: {features.dtype} {tuple(features.shape)}, expected floating point [B, D]")
    check_numbers(name, labels, len(features), features.device)


def check_numbers(name: str, numbers: Tensor, count: int, device: torch.device) -> None:
    """Raise ValueError unless numbers are int64 [count] on the device."""
    if numbers.shape != (count,) or numbers.dtype != torch.int64 or numbers.device != device:
        found = f"{numbers.dtype} {tuple(numbers.shape)} on {numbers.device}"
        raise ValueError(f"{name}: {found}, expected torch.int64 ({count},) on {device}")
