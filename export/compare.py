"""How close two sets of embeddings of the same images are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Agreement:
    """Cosines of the same image's two embeddings, and whether both rank the other images alike."""

    cosines: NDArray[np.float64]
    """[N], one an image"""
    centred: NDArray[np.float64]
    """[N], after the mean of the expected embeddings was taken from both. Where the embeddings of different
    images point nearly the same way, the plain cosine is near 1 whatever happens, and this one tells."""
    same_first: float
    """Share of images whose nearest other image is the same in both; 1 for fewer than two images."""

    @property
    def worst(self) -> float:
        return float(self.cosines.min())

    def summary(self) -> dict[str, float]:
        """Worst, percentiles and mean, rounded for a manifest."""
        quantiles = {"worst": 0.0, "p1": 0.01, "p10": 0.1, "median": 0.5}
        values = {name: float(np.quantile(self.cosines, share)) for name, share in quantiles.items()}
        values["mean"] = float(self.cosines.mean())
        values["centred_worst"], values["centred_median"] = (
            float(self.centred.min()),
            float(np.median(self.centred)),
        )
        values["same_first"] = self.same_first
        return {name: round(value, 7) for name, value in values.items()}


def compare(expected: Vectors, found: Vectors) -> Agreement:
    """Compare embeddings [N, D] of the same N images. Vectors that are not finite have cosine -1.

    Raises ValueError when the shapes differ or there is nothing to compare.
    """
    if expected.shape != found.shape or expected.ndim != 2 or not len(expected):
        raise ValueError(f"embeddings {list(found.shape)} do not compare with {list(expected.shape)}")
    left, right = _unit(expected), _unit(found)
    cosines = _cosines(left, right)
    if len(left) == 1:
        return Agreement(cosines, cosines, 1.0)
    centre = left.mean(0)
    centred = _cosines(_unit(left - centre), _unit(right - centre))
    return Agreement(cosines, centred, float((_nearest(left) == _nearest(right)).mean()))


def _cosines(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.isfinite(right).all(1), (left * right).sum(1), -1.0)


def _unit(vectors: NDArray[np.floating]) -> NDArray[np.float64]:
    wide = vectors.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    return wide / np.where(lengths > 0, lengths, 1)


def _nearest(vectors: NDArray[np.float64], block: int = 1024) -> NDArray[np.int64]:
    """The row nearest to each row but itself, [N]; a block of the similarities is held at a time."""
    nearest = np.empty(len(vectors), dtype=np.int64)
    for begin in range(0, len(vectors), block):
        similarity = vectors[begin : begin + block] @ vectors.T
        rows = np.arange(len(similarity))
        similarity[rows, begin + rows] = -np.inf
        nearest[begin : begin + block] = similarity.argmax(1)
    return nearest
