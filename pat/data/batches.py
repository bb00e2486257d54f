"""Batches of an epoch, read from the cache one ahead of the device that trains on them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Images of one step on the training device."""

    pixels: Tensor
    """uint8 [b, H, W, 3], those of this rank's rows of the batch"""
    labels: Tensor
    """int64 [B], classes"""
    slots: Tensor
    """int64 [B], indices into the training images and slots of the memory bank"""


def read_batches(
    pixels: np.ndarray,
    labels: np.ndarray,
    steps: np.ndarray,
    device: torch.device,
    rows: slice = slice(None),
) -> Iterator[Batch]:
    """The batches whose image indices are the rows of `steps` int64 [S, B]; pixels of `rows` of each.

    A thread gathers the next batch from the memory-mapped `pixels` while the current one is in use; on a GPU
    it goes through pinned memory, so the copy does not hold up the kernels before it.
    """

    def gather(indices: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        images = torch.from_numpy(np.ascontiguousarray(pixels[indices[rows]]))
        parts = images, torch.from_numpy(labels[indices]), torch.from_numpy(np.ascontiguousarray(indices))
        return tuple(part.pin_memory() for part in parts) if device.type == "cuda" else parts  # type: ignore[return-value]

    with ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
        ahead: Future[tuple[Tensor, Tensor, Tensor]] | None = None
        for step in range(len(steps)):
            ready = ahead.result() if ahead is not None else gather(steps[step])
            ahead = pool.submit(gather, steps[step + 1]) if step + 1 < len(steps) else None
            yield Batch(*(part.to(device, non_blocking=True) for part in ready))
