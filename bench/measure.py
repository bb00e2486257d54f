"""What a measurement is set against: least work, the memory's bandwidth, peak memory."""

from __future__ import annotations

import functools
import gc
import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch

from kernels.timing import DEVICE, ON_GPU, seconds


@functools.cache
def bandwidth() -> float:
    """Bytes per second that this device's memory moves, measured by copying a large tensor: the floor's unit."""
    source = torch.ones((1 << 30 if ON_GPU else 1 << 26), dtype=torch.uint8, device=DEVICE)
    target = torch.empty_like(source)
    return 2 * source.numel() / statistics.median(seconds(lambda: target.copy_(source)))


def peak_memory(function: Callable[[], object]) -> int | None:
    """Bytes that one call takes on the GPU beyond what was there before it; None on a CPU."""
    if not ON_GPU:
        return None
    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    function()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


@dataclass(frozen=True)
class Work:
    """What an operation has to do at least, whoever does it: its inputs read once, its outputs written once."""

    bytes: int
    flops: int = 0  # 0: not counted

    def rates(self, seconds: float) -> dict[str, float | None]:
        """GB/s and TFLOP/s of a call, and the share of the memory floor that it reaches (1 is ideal)."""
        return {
            "gigabytes_per_second": self.bytes / seconds / 1e9,
            "teraflops": self.flops / seconds / 1e12 if self.flops else None,
            "share_of_floor": self.bytes / bandwidth() / seconds,
        }
