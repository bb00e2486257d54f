"""Vectors of unit length at random."""

from __future__ import annotations

import numpy as np


def units(count: int, seed: int = 0, dimension: int = 16) -> np.ndarray:
    """[count, dimension]."""
    vectors = np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def unit(seed: int, near=None, cosine: float = 0.0, size: int = 16) -> np.ndarray:
    """[size]; at this cosine to the vector `near` where there is one."""
    vector = np.random.default_rng(seed).normal(size=size)
    if near is not None:
        vector -= (vector @ near) * near
        vector = cosine * near + np.sqrt(1 - cosine**2) * vector / np.linalg.norm(vector)
    return (vector / np.linalg.norm(vector)).astype(np.float32)
