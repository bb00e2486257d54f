"""Where a token looks: how much of its attention lies on what is worn, against the area that this has.

A thing is where `people.parquet` says: in its box, which takes in a little of what is beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pat.ablation.labels import FEWEST, WORN, shown
from pat.ablation.people import interval_of
from pat.ablation.rendered import Facts

COLUMNS = ("token", "on", "images", "people", "area, %", "attention, %", "attention - area, 95 % interval")


@dataclass(frozen=True)
class Look:
    """A token's attention to one thing; shares of 1, means over images."""

    token: int
    """0 is cls, then the parts."""
    thing: str
    images: int
    people: int
    area: float
    """Of the token's region."""
    attention: float
    low: float
    high: float
    """95 % interval of attention - area, by a bootstrap over people."""


def cover(box: Sequence[float], size: tuple[int, int], grid: tuple[int, int]) -> NDArray[np.float64]:
    """Share of each patch that a box (left, top, right, bottom; pixels of an image of `size`) covers, [R, C]."""
    left, top, right, bottom = box
    sides = []
    for first, last, length, count in ((top, bottom, size[0], grid[0]), (left, right, size[1], grid[1])):
        edges = np.arange(count + 1) * length / count
        inside = np.minimum(edges[1:], last) - np.maximum(edges[:-1], first)
        sides.append(np.clip(inside, 0, None) * count / length)
    return np.outer(*sides)


def looks(
    maps: NDArray[np.float32],
    facts: Sequence[Facts],
    size: tuple[int, int],
    bands: Sequence[tuple[float, float]],
    identities: NDArray[np.int64],
) -> list[Look]:
    """A row for each token and each thing that enough images show in its region.

    maps [N, 1 + P, R, C]: attention to the patches, of cls and of each part; bands: top and bottom of each part's
    region as shares of the height; size: height and width of the images that the facts speak of.
    """
    grid = maps.shape[2], maps.shape[3]
    table = []
    for token, band in enumerate([(0.0, 1.0), *bands]):
        rows = slice(round(band[0] * grid[0]), round(band[1] * grid[0]))
        for thing in WORN:
            seen = np.flatnonzero(shown(facts, thing, band, size[0]))
            if len(seen) < FEWEST:
                continue
            parts = (facts[int(row)]["parts"] for row in seen)
            boxes = [next(part["box"] for part in each if part["part"] == thing) for each in parts]
            covers = np.stack([cover(box, size, grid) for box in boxes])[:, rows]  # [n, r, C]
            attention = maps[seen, token][:, rows].astype(np.float64)
            attention /= attention.sum((1, 2), keepdims=True)
            on, area = (attention * covers).sum((1, 2)), covers.mean((1, 2))
            low, high = interval_of(on - area, identities[seen])
            number = len(np.unique(identities[seen]))
            table.append(Look(token, thing, len(seen), number, float(area.mean()), float(on.mean()), low, high))
    return table


def cells(look: Look) -> list[str]:
    """A row as text."""
    token = f"part {look.token}" if look.token else "cls"
    change = f"{100 * (look.attention - look.area):+.1f} [{100 * look.low:+.1f}, {100 * look.high:+.1f}]"
    shares = [f"{100 * share:.1f}" for share in (look.area, look.attention)]
    return [token, look.thing, str(look.images), str(look.people), *shares, change]
