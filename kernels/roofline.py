"""What a GPU can do at most, and how long an operation must take there at least: estimates, no measurements."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Device:
    """Peak figures of one well-known GPU of an architecture. Source: NVIDIA's data sheets, dense products."""

    name: str
    multiprocessors: int
    bandwidth: float  # of its memory, bytes a second
    matrix: float  # fp16 or bf16 products summed in fp32, operations a second
    vector: float  # fp32 operations a second


DEVICES = {
    "sm_80": Device("A100 80GB SXM", 108, 2.04e12, 312e12, 19.5e12),
    "sm_86": Device("RTX 3090", 82, 0.936e12, 71e12, 35.6e12),
    "sm_87": Device("AGX Orin 64GB", 16, 0.205e12, 42.5e12, 5.3e12),
    "sm_89": Device("RTX 4090", 128, 1.008e12, 165e12, 82.6e12),
    "sm_90": Device("H100 SXM", 132, 3.35e12, 989e12, 67e12),
    "sm_100": Device("B200", 148, 8.0e12, 2250e12, 75e12),
    "sm_110": Device("Jetson T5000", 20, 0.273e12, 259e12, 8.1e12),
    "sm_120": Device("RTX 5090", 170, 1.792e12, 210e12, 105e12),
}
"""For Orin and Thor the fp16 figure is derived: a quarter of INT8, an eighth of FP4, both with sparsity."""


@dataclass(frozen=True)
class Work:
    """What one launch does, counted from its shapes and tiles."""

    bytes: int  # that must move to or from memory: inputs read once, outputs written once
    flops: int  # of the products that are computed, padding included
    loaded: int  # bytes that all programs together load; what exceeds `bytes` should come from the L2 cache
    programs: int


@dataclass(frozen=True)
class Estimate:
    """The roofline for some launches, and what tells their tiles apart."""

    memory: float  # seconds at the peak bandwidth
    products: float  # seconds at the peak rate
    loaded: int  # bytes, as in `Work`
    rounds: int  # in which the multiprocessors work the programs off; a last round of a few is time lost

    @property
    def floor(self) -> float:
        """Seconds that it takes at least."""
        return max(self.memory, self.products)


def estimate(works: Sequence[Work], device: Device, *, matrix: bool, blocks: int) -> Estimate:
    """Estimate for launches one after another.

    Args:
        matrix: whether matrix instructions do the products (fp16, bf16) or fp32 units.
        blocks: programs that one multiprocessor holds at a time, from the resource report.
    """
    at_once = max(1, blocks * device.multiprocessors)
    return Estimate(
        memory=sum(work.bytes for work in works) / device.bandwidth,
        products=sum(work.flops for work in works) / (device.matrix if matrix else device.vector),
        loaded=sum(work.loaded for work in works),
        rounds=sum(math.ceil(work.programs / at_once) for work in works),
    )
