"""The ground of a place: strips of asphalt, paving or grass beside each other, with painted lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pat.synthetic.people.places.surfaces import Ground


@dataclass(frozen=True)
class Strip:
    """Ground from `begins` metres to the left of the axis up to where the next strip begins."""

    begins: float
    kind: Ground
    colour: Sequence[float]
    other: Sequence[float]
    size: float = 0.5
    dash: float = 0.0
    """Above 0: painted dashes of half this length, with the strip before it in between."""


STRIP = np.dtype(
    [("begins", np.float64), ("kind", np.int64), ("colours", np.float64, (2, 3)), ("size", np.float64),
     ("dash", np.float64)]
)  # fmt: skip
"""A strip, as compiled code reads it."""


@dataclass(frozen=True)
class Floor:
    """`strips` STRIP [K], from the right, along an axis turned by `yaw`; `wobble` metres bend them."""

    yaw: float
    wobble: float
    seed: int
    strips: NDArray[np.void]


def floor_of(strips: Sequence[Strip], yaw: float, seed: int, wobble: float = 0.0) -> Floor:
    """A floor of strips in any order; the first one reaches to infinity."""
    ordered = sorted(strips, key=lambda strip: strip.begins)
    rows = [(each.begins, each.kind, (each.colour, each.other), each.size, each.dash) for each in ordered]
    table = np.array(rows, STRIP)
    table["begins"][0] = -1e9
    return Floor(yaw, wobble, seed, table)
