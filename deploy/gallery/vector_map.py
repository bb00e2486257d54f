"""A linear map from one model's vectors to another's, learned from crops that both have embedded.

Ridge regression about the means: W = (X'X + λI)^-1 X'Y for centred X [n, D] of the old model and Y [n, E] of the
new one. The means matter: vectors of one model may all point nearly the same way. λ is the one that serves a fifth
of the crops best which it was not fitted on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deploy.gallery.entries import Floats
from pat.base.errors import UserError

FEWEST = 50
"""Crops to fit on at least."""
ALIKE = 1e-6
"""Between the same numbers of two vectors: rounding alone."""
RIDGES = 10.0 ** np.arange(-5, 2)
"""λ as a share of the mean of the diagonal of X'X."""


@dataclass(frozen=True)
class VectorMap:
    """old [n, D] -> new [n, E], unit length."""

    weights: Floats
    """[D, E]."""
    old_mean: Floats
    new_mean: Floats
    ridge: float

    def __call__(self, old: Floats) -> Floats:
        new = (old - self.old_mean) @ self.weights + self.new_mean
        return np.asarray(new / np.linalg.norm(new, axis=1, keepdims=True), dtype=np.float32)


def fit(old: Floats, new: Floats) -> VectorMap:
    """The map that brings `old` [n, D] nearest to `new` [n, E].

    Raises UserError for too few crops, and for crops that the old model does not tell apart.
    """
    if len(old) < FEWEST:
        raise UserError(f"{len(old)} crops are too few to learn a map from; {FEWEST} are the least, 1,000 better")
    inner = np.arange(len(old)) % 5 != 0
    if np.ptp(old[inner], axis=0).max() < ALIKE:
        raise UserError("the crops are all alike to the old model: nothing can be learned from them")

    def likeness(ridge: float) -> float:
        found = _fit(old[inner], new[inner], ridge)(old[~inner])
        return float((found * new[~inner]).sum(axis=1).mean())

    return _fit(old, new, max(RIDGES, key=likeness))


def _fit(old: Floats, new: Floats, ridge: float) -> VectorMap:
    old_mean, new_mean = old.mean(axis=0), new.mean(axis=0)
    x, y = (old - old_mean).astype(np.float64), (new - new_mean).astype(np.float64)
    products = x.T @ x  # [D, D]
    products += ridge * (np.trace(products) / len(products)) * np.eye(len(products))
    return VectorMap(np.linalg.solve(products, x.T @ y).astype(np.float32), old_mean, new_mean, ridge)
