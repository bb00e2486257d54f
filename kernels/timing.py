"""How kernels are timed: by events on the GPU with a cold L2 cache, by the wall clock on a CPU."""

from __future__ import annotations

import time
from collections.abc import Callable

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
