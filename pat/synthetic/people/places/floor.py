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


@dataclass(frozen=True)
class Floor:
    """Strips along an axis turned by `yaw`, as arrays; `wobble` metres bend them. K strips, from the right."""

    yaw: float
    wobble: float
    seed: int
    begins: NDArray[np.float64]
    kinds: NDArray[np.int64]
    colours: NDArray[np.float64]
    sizes: NDArray[np.float64]
    dashes: NDArray[np.float64]


def floor_of(strips: Sequence[Strip], yaw: float, seed: int, wobble: float = 0.0) -> Floor:
    """A floor of strips in any order; the first one reaches to infinity."""
    ordered = sorted(strips, key=lambda strip: strip.begins)
    return Floor(
        yaw,
        wobble,
        seed,
        np.array([-1e9, *(strip.begins for strip in ordered[1:])]),
        np.array([int(strip.kind) for strip in ordered], np.int64),
        np.array([(strip.colour, strip.other) for strip in ordered], np.float64),
        np.array([strip.size for strip in ordered], np.float64),
        np.array([strip.dash for strip in ordered], np.float64),
    )
