"""How large the tiles of the forward kernel are."""

from dataclasses import dataclass
from functools import cache
from itertools import product

import torch

from kernels.tuning import tiles_for

MOST_NEIGHBOURS = 32
"""Nearest slots that the kernels keep of each query."""
WARPS = 8
FEW = 32
"""Queries that one tile holds on every architecture."""
MOST_SUMS = 96
"""Registers of a thread that the running sums may take: more leaves too few for the products, which spill."""


@dataclass(frozen=True)
class Tiles:
    """Sizes of the forward kernel: queries and slots of a tile, dimensions of one load, warps, pipeline stages."""

    queries: int
    slots: int
    chunk: int
    warps: int
    stages: int


def forward_tiles(dtype: torch.dtype, dim: int, batch: int, arch: str) -> Tiles:
    """For a bank's dtype and dimension and the queries: as measured for this architecture, else the default."""
    return tiles_for("nearest_parts_forward", arch, key(dtype, dim, batch), candidates(dtype, dim, batch, arch))


def key(dtype: torch.dtype, dim: int, batch: int) -> str:
    """What the choice of tiles depends on, besides the architecture."""
    return f"{8 * dtype.itemsize}-bit d{dim}" + (" many" if batch > FEW else "")


def default_tiles(dtype: torch.dtype, dim: int, arch: str) -> Tiles:
    """Chosen from the resource report.

    As many queries as the registers hold, because every block of queries reads the bank again (from L2): their
    sums take queries x dim / threads registers each. As many slots as then fit without spills, with room for the
    tiles that load meanwhile. Float32 is limited by multiply-adds, not by the bank, and gains nothing from more.
    """
    chunk = 256 if dim % 256 == 0 else 128 if dim % 128 == 0 else 64
    if dtype == torch.float32:
        side = 16 if dim <= 768 else 8
        return Tiles(queries=side, slots=side, chunk=64, warps=WARPS, stages=1)
    if dim <= 512:
        return Tiles(queries=32, slots=32, chunk=chunk, warps=WARPS, stages=2)
    if dim <= 768:
        if arch in ("sm_80", "sm_87", "sm_90"):
            return Tiles(queries=32, slots=32, chunk=chunk, warps=WARPS, stages=3)
        return Tiles(queries=32, slots=16, chunk=chunk, warps=WARPS, stages=2)
    return Tiles(queries=16, slots=16, chunk=chunk, warps=WARPS, stages=2)


@cache
def candidates(dtype: torch.dtype, dim: int, batch: int, arch: str) -> tuple[Tiles, ...]:
    """What may be launched, the default first, then everything near it that the registers may have room for.

    Float32 is left at one stage: with two every size spills. 64 queries are what Hopper's matrix units multiply at
    a time (wgmma), where there are as many: up to 384 dimensions, and to be measured first (README.md).
    """
    default = default_tiles(dtype, dim, arch)
    stages = (1,) if dtype == torch.float32 else (2, 3)
    near = (
        Tiles(queries, slots, default.chunk, WARPS, depth)
        for queries, slots, depth in product((16, 32, 64), (16, 32, 64), stages)
        if queries * dim <= MOST_SUMS * 32 * WARPS
        and slots <= max(queries, FEW)
        and (queries <= FEW or batch > FEW)
    )
    return default, *(tiles for tiles in near if tiles != default)
