"""How calls are timed: on a GPU by events, with a cold L2 cache and no launch gaps; on a CPU by the wall clock."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

ON_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if ON_GPU else "cpu")
FLUSH_BYTES = 256 << 20  # larger than any GPU's L2 cache (H200: 50 MB, B200: 126 MB)
INTERPRETED = not ON_GPU and os.environ.get("TRITON_INTERPRET") == "1"
"""Kernels run in Triton's interpreter: a try of everything around them, whose times mean nothing."""
ROUNDS, WARMUP = (50, 10) if ON_GPU else (1, 0) if INTERPRETED else (5, 1)

CYCLES_A_SECOND = 2e9
"""Of a GPU's clock, roughly: where it is faster, a wait is shorter, is noticed, and is made longer."""

LONGEST_WAIT = 0.02
"""Seconds. A call whose launches are not all queued in that time waits for the device itself."""


@dataclass(frozen=True)
class Timing:
    """One call: seconds on the device, seconds of the host, and whether the first hold launch gaps."""

    device: float
    host: float
    gaps: bool


class Clock:
    """A clock for pytest-benchmark: on a GPU it advances only while a measured call runs there.

    A call timed from the host would count the launch, which costs as much as a small kernel. So every call is
    put between two events, behind a write of a large buffer, which empties the L2 cache, and behind a wait on
    the device that lasts until the whole call is queued. That it did is checked: the first event must not have
    been reached when the last launch returns. Where it has, the wait is made longer and the call is made again.
    """

    def __init__(self) -> None:
        self._seconds = 0.0
        self._buffer: torch.Tensor | None = None
        self._wait = 1e-4

    def now(self) -> float:
        """Seconds, as `time.perf_counter`."""
        return self._seconds if ON_GPU else time.perf_counter()

    def call(self, function: Callable[[], object]) -> Timing:
        """Runs a function to its end and lets the clock advance by its time."""
        if not ON_GPU:
            begun = time.perf_counter()
            function()
            taken = time.perf_counter() - begun
            return Timing(taken, taken, gaps=False)
        timing = self._between_events(function)
        while timing.gaps and self._wait < LONGEST_WAIT:
            self._wait = min(LONGEST_WAIT, 2 * max(self._wait, timing.host))
            timing = self._between_events(function)
        if timing.gaps:
            self._wait = 1e-4  # no wait is long enough for this one
        self._seconds += timing.device
        return timing

    def _between_events(self, function: Callable[[], object]) -> Timing:
        if self._buffer is None:
            self._buffer = torch.empty(FLUSH_BYTES, dtype=torch.uint8, device=DEVICE)
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self._buffer.zero_()
        torch.cuda._sleep(int(self._wait * CYCLES_A_SECOND))
        start.record()
        begun = time.perf_counter()
        function()
        host = time.perf_counter() - begun
        stop.record()
        gaps = start.query()
        stop.synchronize()
        return Timing(start.elapsed_time(stop) / 1e3, host, gaps)


CLOCK = Clock()


def timings(function: Callable[[], object], rounds: int = ROUNDS, warmup: int = WARMUP) -> list[Timing]:
    """Each of `rounds` calls after `warmup` more."""
    return [CLOCK.call(function) for _ in range(warmup + rounds)][warmup:]


def seconds(function: Callable[[], object], rounds: int = ROUNDS, warmup: int = WARMUP) -> list[float]:
    """Time of each of `rounds` calls on the device after `warmup` more."""
    return [timing.device for timing in timings(function, rounds, warmup)]


def captured(function: Callable[[], object]) -> Callable[[], None]:
    """The same call as one CUDA graph, whose launches cost the host next to nothing.

    Raises RuntimeError where it cannot be captured, for example because it waits for the device.
    """
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # what a first call allocates and compiles must not be captured
        for _ in range(3):
            function()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        function()
    return graph.replay
