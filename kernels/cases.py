"""Shapes that tests and benchmarks share, one section an operator."""

from __future__ import annotations

from dataclasses import dataclass

# nearest_parts


@dataclass(frozen=True)
class NearestPartsCase:
    """A search: `parts` banks of `slots` vectors of `dim`, `batch` queries to each, the k nearest wanted."""

    name: str
    parts: int
    batch: int
    slots: int
    dim: int
    k: int


NEAREST_PARTS_SMALL = (
    NearestPartsCase("one of everything", parts=1, batch=1, slots=1, dim=1, k=1),
    NearestPartsCase("fewer slots than neighbours", parts=2, batch=3, slots=3, dim=5, k=5),
    NearestPartsCase("whole tiles", parts=1, batch=32, slots=64, dim=64, k=4),
    NearestPartsCase("odd", parts=3, batch=7, slots=101, dim=19, k=3),
    NearestPartsCase("many neighbours", parts=1, batch=2, slots=131, dim=33, k=32),
    NearestPartsCase("more than one block of queries and dimensions", parts=1, batch=35, slots=70, dim=130, k=2),
)
"""Odd sizes, small enough for Triton's interpreter."""

NEAREST_PARTS_LARGE = (
    NearestPartsCase("Market-1501, ViT-B", parts=3, batch=64, slots=12_936, dim=768, k=10),
    NearestPartsCase("MSMT17, ViT-B", parts=3, batch=64, slots=32_621, dim=768, k=10),
    NearestPartsCase("MSMT17, ViT-S", parts=3, batch=64, slots=32_621, dim=384, k=10),
)
"""One training step of the recipe."""
