"""What a measurement is set against: least work, the memory's bandwidth, the rate of products, peak memory."""

from __future__ import annotations

import ctypes
import functools
import gc
import re
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from kernels.timing import DEVICE, ON_GPU, seconds


@functools.cache
def bandwidth() -> float:
    """Bytes per second that this device's memory moves, measured by copying a large tensor: the floor's unit."""
    source = torch.ones((1 << 30 if ON_GPU else 1 << 26), dtype=torch.uint8, device=DEVICE)
    target = torch.empty_like(source)
    return 2 * source.numel() / statistics.median(seconds(lambda: target.copy_(source)))


@functools.cache
def product_rate(dtype: torch.dtype) -> float:
    """Operations per second of a large matrix product in `dtype` on this device, the best of some: the peak."""
    side = 8192 if ON_GPU else 2048
    left, right = torch.randn(2, side, side, device=DEVICE).to(dtype).unbind(0)
    out = torch.empty_like(left)
    return 2 * side**3 / min(seconds(lambda: torch.mm(left, right, out=out)))


def peak_memory(function: Callable[[], object]) -> int | None:
    """Bytes that one call takes on the GPU beyond what was there before it; None on a CPU."""
    if not ON_GPU:
        return None
    watched = watch_memory()
    function()
    return watched()


def watch_memory() -> Callable[[], int | None]:
    """From now on: the function returned tells the bytes taken at most since, beyond what was there before.

    On a GPU of its memory; on a CPU resident memory of this process alone, and None where the system does not
    tell (it is Linux that does).
    """
    gc.collect()
    if ON_GPU:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()

        def beyond() -> int | None:
            torch.cuda.synchronize()
            return torch.cuda.max_memory_allocated() - before

        return beyond
    try:
        ctypes.CDLL(None).malloc_trim(0)  # what was freed and is still resident would hide as much that is taken
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again at what is resident
        resident = _status("VmRSS")
    except (OSError, AttributeError):  # AttributeError: not glibc
        return lambda: None
    return lambda: _status("VmHWM") - resident


def _status(name: str) -> int:
    """Bytes of an entry of Linux's notes on this process."""
    found = re.search(rf"^{name}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return 1024 * int(found.group(1))


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
