"""Does a graph pass the gate of its precision? On the check set, and on crops of the user's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from export.check_set import Agreement, Vectors, compare, moved_threshold
from export.precisions import ENOUGH_IMAGES, Gate

Pixels = NDArray[np.uint8]
Embed = Callable[[Pixels], Vectors]


@dataclass(frozen=True)
class Images:
    """A set of images and the fp32 model's embeddings of them."""

    name: str
    """"check set" or "crops"."""
    pixels: Pixels
    expected: Vectors
    threshold: float | None = None
    """From which cosine on these embeddings show one person."""


@dataclass(frozen=True)
class Verdict:
    """What came of the comparison on each set."""

    agreements: Mapping[str, Agreement]
    threshold: float | None
    """This graph's own, where fp32 has one."""
    misses: str
    """What misses the gate, on the first set that does; nothing when all pass."""

    @property
    def telling(self) -> Agreement:
        """The agreement on the set with the most images."""
        return max(self.agreements.values(), key=lambda each: len(each.cosines))

    def summary(self) -> dict[str, dict[str, float]]:
        return {name: each.summary() for name, each in self.agreements.items()}

    def sentences(self) -> list[str]:
        """A line for each set, and what so few images cannot tell."""
        lines = [f"{name}, {each.sentence()}" for name, each in self.agreements.items()]
        count = len(self.telling.cosines)
        if count < ENOUGH_IMAGES:
            lines.append(
                f"warning: judged on {count} images: that finds a broken graph, not one that is a little worse; "
                f"give {ENOUGH_IMAGES} crops of your cameras or more with --gate-images DIR"
            )
        return lines


@dataclass(frozen=True)
class Judge:
    """Compares with the fp32 embeddings of some sets of images."""

    sets: Sequence[Images]
    gate: Gate

    def __call__(self, embed: Embed) -> Verdict:
        """The verdict on another embedder.

        Its own threshold is the one nearest to that of the largest set at which as many pairs of it match.
        """
        found = {each.name: embed(each.pixels) for each in self.sets}
        largest = max(self.sets, key=lambda each: len(each.pixels))
        own = None
        if largest.threshold is not None:
            own = moved_threshold(largest.expected, found[largest.name], largest.threshold)
        agreements = {}
        for each in self.sets:
            thresholds = None if each.threshold is None or own is None else (each.threshold, own)
            agreements[each.name] = compare(each.expected, found[each.name], thresholds)
        missed = ((name, each.misses(self.gate)) for name, each in agreements.items())
        first = next((f"{name}: {text}" for name, text in missed if text), "")
        return Verdict(agreements, own, first)

    def sample(self, count: int) -> Judge:
        """The same on up to `count` images of the largest set, for a quick look."""
        largest = max(self.sets, key=lambda each: len(each.pixels))
        rows = np.linspace(0, len(largest.pixels) - 1, min(count, len(largest.pixels))).round().astype(int)
        return Judge([Images(largest.name, largest.pixels[rows], largest.expected[rows])], self.gate)
