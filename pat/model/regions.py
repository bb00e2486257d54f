"""Where each part token looks: a horizontal band of the patch grid, or in training a random rectangle of it.

A region is (top, bottom, left, right) in patches, half open.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pat.base.errors import UserError


def band_rows(rows: int, parts: int, bands: str | Sequence[tuple[float, float]]) -> list[tuple[int, int]]:
    """Rows [top, bottom) of each part's band in a grid of `rows` rows.

    "overlapping" places half-height bands evenly from top to bottom: for 3 parts [0, R/2), [R/4, 3R/4),
    [R/2, R) as in the paper. "stripes" cuts R/parts rows each. Otherwise fractions of the height, one pair a
    part. Raises UserError when a band has no row or the number of bands is not `parts`.
    """
    if parts == 0:
        return []
    if bands == "overlapping":
        height = 0.5 if parts > 1 else 1.0
        step = (1.0 - height) / max(parts - 1, 1)
        fractions = [(part * step, part * step + height) for part in range(parts)]
    elif bands == "stripes":
        fractions = [(part / parts, (part + 1) / parts) for part in range(parts)]
    else:
        fractions = [(float(top), float(bottom)) for top, bottom in bands]  # type: ignore[misc, str-unpack]
    if len(fractions) != parts:
        raise UserError(f"model.bands names {len(fractions)} bands for {parts} parts; give one for each part")
    result = []
    for part, (top, bottom) in enumerate(fractions, 1):
        first, last = int(top * rows + 1e-6), int(bottom * rows + 1e-6)  # whole rows, as R // 4 gives
        if not 0 <= first < last <= rows:
            raise UserError(
                f"the band of part {part} covers {top:.2f} to {bottom:.2f} of the height, which is rows {first} "
                f"to {last} of a grid of {rows}; a band needs at least one row within the grid (model.bands)"
            )
        result.append((first, last))
    return result


def full_bands(grid: tuple[int, int], bands: Sequence[tuple[int, int]]) -> Tensor:
    """The whole band of each part, int32 [1, P, 4]: one set for every image of a batch."""
    columns = grid[1]
    return torch.tensor([[(top, bottom, 0, columns) for top, bottom in bands]], dtype=torch.int32).reshape(
        1, len(bands), 4
    )


def random_regions(bands: Tensor, images: int, generator: torch.Generator | None = None) -> Tensor:
    """A random rectangle of each band for each image, int32 [images, P, 4] on the CPU.

    `bands` is int32 [1, P, 4]. In each direction two distinct edges are drawn uniformly out of the h + 1
    (w + 1) grid lines, so a rectangle is never empty.
    """
    top, bottom, left, right = bands[0].long().unbind(-1)  # [P] each
    parts = len(top)
    vertical = _two_edges(bottom - top, images, parts, generator) + top[:, None]
    horizontal = _two_edges(right - left, images, parts, generator) + left[:, None]
    return torch.cat([vertical, horizontal], dim=-1).to(torch.int32)  # [images, P, 4]


def _two_edges(length: Tensor, images: int, parts: int, generator: torch.Generator | None) -> Tensor:
    """Two distinct grid lines in ascending order out of length + 1, int64 [images, P, 2]."""
    uniform = torch.rand(2, images, parts, generator=generator, dtype=torch.float64)
    first = (uniform[0] * (length + 1)).long()
    second = (uniform[1] * length).long()
    second = second + (second >= first)
    return torch.stack([torch.minimum(first, second), torch.maximum(first, second)], dim=-1)
