"""How everything here is timed: by events on the GPU with a cold L2 cache, by the wall clock on a CPU."""

from __future__ import annotations

import functools
import gc
import platform
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

ON_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if ON_GPU else "cpu")
FLUSH_BYTES = 256 << 20  # larger than any GPU's L2 cache (H200: 50 MB, B200: 126 MB)
ROUNDS, WARMUP = (50, 10) if ON_GPU else (5, 1)


class Clock:
    """A clock for pytest-benchmark: on a GPU it advances only while a measured call runs there.

    A call timed from the host would count the launch, which costs as much as a small kernel. So every call is
    put between two events, behind a write of a large buffer: that empties the L2 cache, and the GPU is still
    busy with it when the events and the call arrive, so that no gap is counted.
    """

    def __init__(self) -> None:
        self._seconds = 0.0
        self._buffer: torch.Tensor | None = None

    def now(self) -> float:
        """Seconds, as `time.perf_counter`."""
        return self._seconds if ON_GPU else time.perf_counter()

    def call(self, function: Callable[[], object]) -> None:
        """Runs a function to its end and lets the clock advance by its time."""
        if not ON_GPU:
            function()
            return
        if self._buffer is None:
            self._buffer = torch.empty(FLUSH_BYTES, dtype=torch.uint8, device=DEVICE)
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self._buffer.zero_()
        start.record()
        function()
        stop.record()
        stop.synchronize()
        self._seconds += start.elapsed_time(stop) / 1e3


CLOCK = Clock()


def seconds(function: Callable[[], object], rounds: int = ROUNDS, warmup: int = WARMUP) -> list[float]:
    """Time of each of `rounds` calls after `warmup` more."""
    times = []
    for _ in range(warmup + rounds):
        start = CLOCK.now()
        CLOCK.call(function)
        times.append(CLOCK.now() - start)
    return times[warmup:]


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


def device_name() -> str:
    """For people and file names, e.g. "NVIDIA H100 80GB HBM3" or "cpu AMD EPYC 7763 64-Core Processor"."""
    if ON_GPU:
        return torch.cuda.get_device_name()
    try:
        model = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        model = None
    return f"cpu {model.group(1) if model else platform.machine()}"


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
