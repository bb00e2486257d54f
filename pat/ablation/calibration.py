"""Are soft labels calibrated: is the person whom most neighbours show as often the right one as their share says?

PSD takes the histogram h of the identities of an image's P K neighbours for its soft target (`soft_targets`). On
people whom no training saw, h is a guess at who it is: its largest share is its confidence.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pat.ablation.labels import Neighbours
from pat.ablation.people import interval_of

EDGES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Of the bins of confidence."""

COLUMNS = ("share of the commonest person", "images", "mean share, %", "right, % (95 % interval)")


@dataclass(frozen=True)
class Bin:
    """Images whose confidence lies between two edges; shares of 1."""

    low: float
    high: float
    images: int
    confidence: float
    right: float
    right_low: float
    right_high: float
    """95 % interval of `right`, by a bootstrap over people."""


def guesses(
    of_parts: Sequence[Neighbours], identities: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """For each image the share of its neighbours that show the commonest person, and whether that is its own, [N].

    `of_parts` may hold images of one's own person; a tie goes to the smallest identity, as in h.
    """
    near = np.concatenate(of_parts, axis=1)  # [N, P K]
    confidence, right = np.zeros(len(near)), np.zeros(len(near), dtype=bool)
    for row, slots in enumerate(near):
        people, counts = np.unique(identities[slots[slots >= 0]], return_counts=True)
        if len(people):
            confidence[row] = counts.max() / counts.sum()
            right[row] = people[counts.argmax()] == identities[row]
    return confidence, right


def reliability(
    confidence: NDArray[np.float64], right: NDArray[np.bool_], identities: NDArray[np.int64]
) -> list[Bin]:
    """The bins that hold images, from the least confident on."""
    bins = []
    for low, high in itertools.pairwise(EDGES):
        inside = (confidence > low) & (confidence <= high)
        if not inside.any():
            continue
        least, most = interval_of(right[inside], identities[inside])
        mean = float(confidence[inside].mean())
        bins.append(Bin(low, high, int(inside.sum()), mean, float(right[inside].mean()), least, most))
    return bins


def expected_error(bins: Sequence[Bin]) -> float:
    """Mean distance of share and truth over images: expected calibration error (Guo et al., arXiv 1706.04599)."""
    images = sum(each.images for each in bins)
    return sum(each.images * abs(each.confidence - each.right) for each in bins) / images


def cells(each: Bin) -> list[str]:
    """A bin as text."""
    share = f"{100 * each.low:.0f} to {100 * each.high:.0f} %"
    right = f"{100 * each.right:.1f} [{100 * each.right_low:.1f}, {100 * each.right_high:.1f}]"
    return [share, str(each.images), f"{100 * each.confidence:.1f}", right]
