"""Arrays that ranking and re-ranking share, whatever computes the distances."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]


def squared_norms(vectors: Floats) -> Floats:
    """Squared lengths [N] of vectors [N, D]."""
    norms: Floats = np.einsum("nd,nd->n", vectors, vectors)
    return norms
