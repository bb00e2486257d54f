"""Camera-aware re-ranking: neighbours are sought in an image's own camera and in the others apart.

Chen et al., "CA-Jaccard: Camera-aware Jaccard Distance for Person Re-identification", CVPR 2024, arXiv 2311.10605.
Without that, images of one's own camera, which share its light, crowd the lists. Memory is that of
`pat.evaluation.rerank`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pat.evaluation.ranking import Floats, Indices
from pat.evaluation.rerank import (
    WEIGHT,
    Numbers,
    Slabs,
    averaged,
    check_number,
    jaccard_slabs,
    least,
    neighbours,
    reciprocal,
    weighted,
)

K1_OWN, K1_OTHER, K2_OWN, K2_OTHER = 5, 20, 3, 3
"""What the authors re-rank with: neighbours that may be reciprocal, in an image's own camera and in the others,
and neighbours averaged over."""


def camera_reranked(
    query_cameras: Indices, gallery_cameras: Indices, progress: Callable[[int], object] | None = None
) -> Slabs:
    """What `evaluate_ranking` takes as `slabs`, for queries and a gallery of these cameras, i64 [Q] and [G].

    The gallery is the one that is ranked: without junk. `progress` as in `reranked`.
    """
    cameras = np.concatenate([query_cameras, gallery_cameras])

    def select(begin: int, scores: Floats) -> Numbers:
        """The nearest in an image's camera, itself first, then those in the others; -1 where there are fewer."""
        same = cameras[begin : begin + len(scores), None] == cameras
        return np.hstack([_among(scores, same, K1_OWN + 1), _among(scores, ~same, K1_OTHER + 1)])

    def encode(vectors: Floats) -> tuple[Any, Floats]:
        check_number(len(vectors), K1_OTHER)
        found, farthest = neighbours(vectors, select, progress)
        own, other = found[:, : K1_OWN + 1], found[:, K1_OWN + 1 :]
        encoded = weighted(vectors, reciprocal(own) + reciprocal(other), 0, farthest)
        return averaged(encoded, np.hstack([own[:, :K2_OWN], other[:, :K2_OTHER]])), farthest

    return lambda query, gallery, size: jaccard_slabs(query, gallery, size, encode, WEIGHT)


def _among(scores: Floats, allowed: np.ndarray, count: int) -> Numbers:
    """The `count` least of each row that are allowed, -1 where there are fewer."""
    found = np.where(allowed, scores, np.float32(np.inf))
    places = least(found, count)
    return np.where(np.take_along_axis(allowed, places, axis=1), places, np.int32(-1))
