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

# part_attention


@dataclass(frozen=True)
class PartAttentionCase:
    """Attention over a grid of patches; `queries` tokens ask, all of them where it is None."""

    name: str
    batch: int
    heads: int
    dim: int
    grid: tuple[int, int]
    parts: int = 3
    registers: int = 0
    queries: int | None = None

    @property
    def tokens(self) -> int:
        return 1 + self.parts + self.registers + self.grid[0] * self.grid[1]


PART_ATTENTION_SMALL = (
    PartAttentionCase("head size 32", batch=2, heads=2, dim=32, grid=(3, 5)),
    PartAttentionCase("head size 48, registers", batch=1, heads=2, dim=48, grid=(7, 5), parts=2, registers=4),
    PartAttentionCase("head size 64, as ViT-B at 256x128", batch=1, heads=1, dim=64, grid=(16, 8)),
    PartAttentionCase("head size 80, no parts", batch=1, heads=1, dim=80, grid=(6, 6), parts=0),
    PartAttentionCase("head size 96, eight parts", batch=1, heads=2, dim=96, grid=(7, 4), parts=8, registers=1),
    PartAttentionCase("head size 128, one patch", batch=2, heads=1, dim=128, grid=(1, 1), parts=1),
    PartAttentionCase("only cls asks", batch=2, heads=1, dim=32, grid=(7, 6), queries=1),
    PartAttentionCase("cls and parts ask", batch=1, heads=2, dim=64, grid=(9, 8), queries=4),
    PartAttentionCase("some patches ask", batch=1, heads=1, dim=32, grid=(14, 5), registers=1, queries=40),
    PartAttentionCase("tiles of 64", batch=1, heads=1, dim=32, grid=(14, 14)),
    PartAttentionCase("tiles of 16", batch=1, heads=1, dim=32, grid=(6, 5)),
)
"""Odd sizes and every head size, small enough for Triton's interpreter."""

PART_ATTENTION_LARGE = (
    PartAttentionCase("ViT-B/16, 256x128", batch=64, heads=12, dim=64, grid=(16, 8)),
    PartAttentionCase("ViT-B/16, 256x128, last block", batch=64, heads=12, dim=64, grid=(16, 8), queries=4),
    PartAttentionCase("ViT-B/16, 224x224", batch=64, heads=12, dim=64, grid=(14, 14)),
    PartAttentionCase("ViT-B/16, 256x256", batch=64, heads=12, dim=64, grid=(16, 16)),
    PartAttentionCase("ViT-B/16, 384x128", batch=64, heads=12, dim=64, grid=(24, 8)),
    PartAttentionCase("ViT-L/16, 256x128", batch=64, heads=16, dim=64, grid=(16, 8)),
)
"""The attention of one block in a training step."""

# crop_resize


@dataclass(frozen=True)
class CropResizeCase:
    """`people` boxes of 80 to 600 pixels' height in a frame of (height, width)."""

    name: str
    people: int
    frame: tuple[int, int] = (1080, 1920)
    size: tuple[int, int] = (256, 128)


CROP_RESIZE_LARGE = (
    CropResizeCase("a few people", people=8),
    CropResizeCase("a busy street", people=32),
    CropResizeCase("four cameras at once", people=128),
)
"""What a camera process asks for at a time."""
