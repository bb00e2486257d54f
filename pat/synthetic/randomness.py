"""Random numbers that depend on what they are for, and on nothing that was drawn elsewhere."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping

import numpy as np


def stream(purpose: str, *numbers: int) -> np.random.Generator:
    """The generator of one purpose and the numbers (at least 0) that tell its uses apart."""
    return np.random.default_rng((zlib.crc32(purpose.encode()), *numbers))


def chosen(generator: np.random.Generator, weights: Mapping[str, float] | Iterable[tuple[str, float]]) -> str:
    """One of the names, drawn with their weights."""
    names, values = zip(*dict(weights).items(), strict=True)
    shares = np.array(values, np.float64)
    return names[int(generator.choice(len(names), p=shares / shares.sum()))]
